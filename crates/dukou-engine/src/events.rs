//! What the engine says of itself: one JSON line an event on stdout, its log on stderr.
//!
//! Events are for the supervisor (`spec/local-api.md`), the log is for people. A pipe that nobody
//! reads any more is no reason to stop serving: errors of writing are let go.

use std::{collections::BTreeMap, fmt, io::Write, net::SocketAddr, time::SystemTime};

use dukou_types::{Failure, Revision};
use serde::Serialize;

/// An event on stdout.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// The process is up; nothing is served yet.
    Started {
        /// The process's id.
        pid: u32,
        /// The epoch of its counters.
        epoch: &'a str,
        /// Listeners that it opened itself, with the addresses that they got.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        listening: BTreeMap<&'a str, SocketAddr>,
    },
    /// A table is in; requests are answered.
    Serving {
        /// Its revision.
        revision: &'a Revision,
        /// Its models' names.
        models: Vec<&'a str>,
    },
    /// A table was not taken.
    Refused {
        /// The failure's code.
        code: &'a str,
        /// The failure's sentence.
        message: &'a str,
        /// The model that it is about, where it is about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        model: Option<&'a str>,
        /// The version that it is about, where it is about one.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<&'a str>,
    },
    /// A version that is served does not reproduce its golden samples.
    GoldenAlarm {
        /// The model.
        model: &'a str,
        /// The version.
        version: &'a str,
        /// What differs.
        message: &'a str,
    },
    /// Requests in flight have been answered; the process ends.
    Drained,
}

/// Writes an event as one line on stdout.
pub fn emit(event: &Event<'_>) {
    let Ok(mut line) = serde_json::to_vec(event) else { return };
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&line).and_then(|()| out.flush());
}

/// Writes a line to the log.
pub fn log(level: Level, message: impl fmt::Display) {
    let mut line = Vec::with_capacity(128);
    crate::access_line::push_time(&mut line, SystemTime::now());
    let _ = writeln!(line, " {level} {message}");
    let _ = std::io::stderr().lock().write_all(&line);
}

/// Writes a failure to the log, with what only the log should carry.
pub fn log_failure(level: Level, what: impl fmt::Display, failure: &Failure) {
    match &failure.detail {
        Some(detail) => log(level, format_args!("{what}: {failure} ({detail})")),
        None => log(level, format_args!("{what}: {failure}")),
    }
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is wrong that the engine cannot mend.
    Error,
    /// Something is not as it was asked for.
    Warn,
    /// Worth knowing.
    Info,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_written_as_the_spec_says() {
        let json = |event: &Event<'_>| serde_json::to_string(event).unwrap();
        let revision = Revision::parse("r7").unwrap();
        assert_eq!(
            json(&Event::Started { pid: 4, epoch: "e", listening: BTreeMap::new() }),
            r#"{"event":"started","pid":4,"epoch":"e"}"#
        );
        let listening = BTreeMap::from([("http", "127.0.0.1:80".parse().unwrap())]);
        assert_eq!(
            json(&Event::Started { pid: 4, epoch: "e", listening }),
            r#"{"event":"started","pid":4,"epoch":"e","listening":{"http":"127.0.0.1:80"}}"#
        );
        assert_eq!(
            json(&Event::Serving { revision: &revision, models: vec!["digits"] }),
            r#"{"event":"serving","revision":"r7","models":["digits"]}"#
        );
        let refused = Event::Refused { code: "c", message: "m", model: None, version: None };
        assert_eq!(json(&refused), r#"{"event":"refused","code":"c","message":"m"}"#);
        let alarm = Event::GoldenAlarm { model: "d", version: "1", message: "m" };
        assert_eq!(
            json(&alarm),
            r#"{"event":"golden-alarm","model":"d","version":"1","message":"m"}"#
        );
        assert_eq!(json(&Event::Drained), r#"{"event":"drained"}"#);
    }
}
