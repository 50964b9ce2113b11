//! `bench-echo [--answer FILE] [--port 0] [--threads 2] [--calls 1]`: prints the address that it took and
//! answers every request with the file's bytes; with `--calls 1` every call of gRPC, whose message they are;
//! without a file every request with its own body.

use std::{net::TcpListener, process::ExitCode};

use bench_reference::{
    calls,
    echo::{self, Speech},
    flags::Flags,
};
use bytes::Bytes;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("bench-echo: {message}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let flags = Flags::parse(std::env::args().skip(1), &["answer", "port", "threads", "calls"])?;
    let port = flags.number("port", 0)?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("listening on http://{address}");
    let (answer, speech) = match (flags.get("answer"), flags.number("calls", 0)?) {
        (None, _) => (Bytes::new(), Speech::Both),
        (Some(file), 0) => (read(file)?.into(), Speech::Http1),
        (Some(file), _) => (calls::enveloped(&read(file)?), Speech::Calls),
    };
    echo::serve(listener, answer, flags.number("threads", 2)?, speech)
        .map_err(|error| error.to_string())
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("cannot read `{file}`: {error}"))
}
