//! `bench-calls --address HOST:PORT --path /package.Service/Method --messages FILE,… [--endings FILE,…]
//! [--connections 4] [--streams 8] [--milliseconds 5000]`: prints what was measured, in the form of `dukou-load`.

use std::{process::ExitCode, time::Duration};

use bench_reference::{
    calls::{self, Plan},
    flags::Flags,
};
use serde_json::json;

const KNOWN: [&str; 7] =
    ["address", "path", "messages", "endings", "connections", "streams", "milliseconds"];

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("bench-calls: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<String, String> {
    let flags = Flags::parse(std::env::args().skip(1), &KNOWN)?;
    let files = |name: &str| flags.text(name, "").split(',').filter(|f| !f.is_empty());
    let messages = files("messages").map(calls::message).collect::<Result<Vec<_>, _>>();
    let endings = files("endings").map(floats).collect::<Result<Vec<_>, _>>();
    let plan = Plan {
        address: flags.required("address")?.parse().map_err(|_| "`--address` is not HOST:PORT")?,
        path: flags.required("path")?.to_owned(),
        messages: messages.map_err(|error| error.to_string())?,
        endings: endings.map_err(|error| error.to_string())?,
        connections: flags.number("connections", 4)?,
        streams: flags.number("streams", 8)?,
        duration: Duration::from_millis(flags.number("milliseconds", 5000)? as u64),
    };
    if plan.messages.is_empty() {
        return Err("`--messages` is missing".into());
    }
    let url = format!("http://{}{}", plan.address, plan.path);
    let measured = calls::run(plan).map_err(|error| error.to_string())?;
    let sent = measured.well + measured.failed;
    let at = |part: f64| {
        let last = measured.latencies_us.len().saturating_sub(1);
        measured.latencies_us.get((last as f64 * part).round() as usize).copied().unwrap_or(0)
    };
    let cpu = cpu_us();
    Ok(json!({
        "url": url,
        "measured": {
            "sent": sent,
            "failed": measured.failed,
            "unsent": 0,
            "rate": measured.well as f64 / measured.elapsed.as_secs_f64(),
            "latency_us": {
                "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0),
            },
        },
        "client": { "cpu_us_per_request": cpu / (sent as f64).max(1.0) },
    })
    .to_string())
}

/// Little-endian floats of a file.
fn floats(path: &str) -> std::io::Result<Vec<f32>> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}

/// What this process has taken of the processors, in microseconds.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: user and system time are the 12th and 13th, in hundredths.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 =
        rest.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    ticks as f64 * 10_000.0
}
