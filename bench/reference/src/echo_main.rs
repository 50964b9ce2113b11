//! `bench-echo --answer FILE [--port 0] [--threads 2]`: prints the address that it took and answers
//! every request with the file's bytes.

use std::{net::TcpListener, process::ExitCode};

use bench_reference::{echo, flags::Flags};

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
    let flags = Flags::parse(std::env::args().skip(1), &["answer", "port", "threads"])?;
    let file = flags.required("answer")?;
    let answer = std::fs::read(file).map_err(|error| format!("cannot read `{file}`: {error}"))?;
    let port = flags.number("port", 0)?;
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    println!("listening on http://{address}");
    echo::serve(listener, answer.into(), flags.number("threads", 2)?)
        .map_err(|error| error.to_string())
}
