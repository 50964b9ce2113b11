//! What a run says of itself: one JSON document.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{outcome::Loss, record::Part, request::Request, settings::Settings};

/// The whole report.
#[derive(Serialize)]
pub struct Report {
    /// `dukou-load`.
    pub tool: &'static str,
    /// Of the tool.
    pub version: &'static str,
    /// As given.
    pub url: String,
    /// `closed` or `open`.
    pub mode: &'static str,
    /// Stated arrivals a second, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// That carried requests at once.
    pub connections: usize,
    /// Made over the whole run.
    pub connections_made: u64,
    /// Client threads.
    pub threads: usize,
    /// Distinct requests.
    pub requests: usize,
    /// Of one of them, on average, head and body.
    pub request_bytes: f64,
    /// The client's own CPU over warm-up and measurement.
    pub client: Client,
    /// Before measuring began.
    pub warmup: Summary,
    /// All that was measured.
    pub measured: Summary,
    /// The same by phase, where phases were named.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Named>,
}

/// The client's own CPU.
#[derive(Serialize)]
pub struct Client {
    /// Of all threads.
    pub cpu_seconds: f64,
    /// Per request sent.
    pub cpu_us_per_request: f64,
}

/// A phase.
#[derive(Serialize)]
pub struct Named {
    /// As it came on stdin.
    pub name: String,
    #[serde(flatten)]
    pub summary: Summary,
}

/// One part of a run.
#[derive(Serialize)]
pub struct Summary {
    /// `ok` and `failed` together.
    pub sent: u64,
    /// Answered as they should be.
    pub ok: u64,
    /// Without a good answer.
    pub failed: u64,
    /// Due but never sent.
    pub unsent: u64,
    /// `failed` by kind.
    pub errors: BTreeMap<&'static str, u64>,
    /// Answers by status.
    pub statuses: BTreeMap<String, u64>,
    /// Good answers by `dukou-version`.
    pub versions: BTreeMap<String, u64>,
    /// From the beginning of the part to the end of its last request.
    pub seconds: f64,
    /// Good answers a second.
    pub rate: f64,
    /// Bytes of requests.
    pub sent_bytes: u64,
    /// Bytes of answers.
    pub received_bytes: u64,
    /// From due to answered, of good answers.
    pub latency_us: Spread,
    /// From due to sent: how far the client itself was behind, or had no connection free.
    pub lateness_us: Spread,
}

/// A distribution, in microseconds.
#[derive(Serialize)]
pub struct Spread {
    mean: f64,
    min: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p99_9: f64,
    max: f64,
}

fn micros(nanos: u64) -> f64 {
    rounded(nanos as f64 / 1e3)
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

impl Spread {
    /// Of nanoseconds.
    fn of(nanos: &Histogram<u64>) -> Self {
        let at = |quantile| micros(nanos.value_at_quantile(quantile));
        let (min, max) =
            if nanos.is_empty() { (0.0, 0.0) } else { (micros(nanos.min()), micros(nanos.max())) };
        Self {
            mean: rounded(nanos.mean() / 1e3),
            min,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max,
        }
    }
}

impl Summary {
    /// Of a part that took this long.
    pub fn of(part: &Part, span: Duration) -> Self {
        let seconds = span.as_secs_f64();
        let counted = Loss::ALL.iter().zip(part.losses).filter(|(_, count)| *count > 0);
        Self {
            sent: part.sent(),
            ok: part.ok,
            failed: part.failed(),
            unsent: part.unsent,
            errors: counted.map(|(loss, count)| (loss.name(), count)).collect(),
            statuses: part.statuses.iter().map(|(s, count)| (s.to_string(), *count)).collect(),
            versions: part.versions.clone(),
            seconds: rounded(seconds),
            rate: if seconds > 0.0 { rounded(part.ok as f64 / seconds) } else { 0.0 },
            sent_bytes: part.sent_bytes,
            received_bytes: part.received_bytes,
            latency_us: Spread::of(&part.latency),
            lateness_us: Spread::of(&part.lateness),
        }
    }
}

impl Client {
    /// Of this much CPU for this many requests.
    pub fn of(cpu: Duration, requests: u64) -> Self {
        let cpu_seconds = cpu.as_secs_f64();
        let each = if requests > 0 { cpu_seconds * 1e6 / requests as f64 } else { 0.0 };
        Self { cpu_seconds: rounded(cpu_seconds), cpu_us_per_request: rounded(each) }
    }
}

impl Report {
    /// What is known before anything was sent.
    pub fn begin(settings: &Settings, requests: &[Request]) -> Self {
        let bytes: usize = requests.iter().map(Request::size).sum();
        let empty = || Summary::of(&Part::default(), Duration::ZERO);
        Self {
            tool: "dukou-load",
            version: env!("CARGO_PKG_VERSION"),
            url: settings.url.clone(),
            mode: if settings.rate.is_some() { "open" } else { "closed" },
            rate: settings.rate,
            connections: settings.connections,
            connections_made: 0,
            threads: settings.threads,
            requests: requests.len(),
            request_bytes: rounded(bytes as f64 / requests.len().max(1) as f64),
            client: Client::of(Duration::ZERO, 0),
            warmup: empty(),
            measured: empty(),
            phases: Vec::new(),
        }
    }
}
