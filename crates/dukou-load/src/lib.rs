//! The load generator: sends requests to a server and says exactly what became of each.
//!
//! Closed loop (as fast as the connections allow) for capacity, open loop (Poisson arrivals, latency
//! from the intended send time) for latency. One JSON document on stdout; progress on stderr.

mod answer;
mod bodies;
mod connection;
mod drive;
mod expect;
mod outcome;
mod phases;
mod random;
mod record;
mod report;
mod request;
mod schedule;
mod settings;
mod speech;
mod target;

use std::process::ExitCode;

use settings::{Command, HELP};

/// The program: reads the command line, sends, prints the report.
///
/// Exit status 0: measured, failed requests or not; 2: nothing was measured, and stderr says why.
pub fn main() -> ExitCode {
    let settings = match settings::parse(std::env::args().skip(1)) {
        Ok(Command::Load(settings)) => settings,
        Ok(Command::Help) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Ok(Command::Version) => {
            println!("dukou-load {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Err(error) => return refuse(&error),
    };
    match drive::run(settings) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => refuse(&error),
    }
}

/// One sentence for the user; nothing was measured.
fn refuse(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("dukou-load: {error}");
    ExitCode::from(2)
}
