//! Security events: what was refused, to whom, and how often; one JSON line each, and a counter a code.
//!
//! A flood must not fill the disk: the first refusal of a kind from an address is written at once,
//! further ones of the same second become one line with their count, and a second has room for so many
//! lines and no more. The counters are exact whatever is written.

use std::{
    collections::HashMap,
    io,
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread::Thread,
    time::{Duration, Instant, SystemTime},
};

use dukou_types::{ErrorCode, RequestId};
use parking_lot::{Condvar, Mutex};
use serde::Serialize;

use crate::{
    access_line::push_time,
    events::{self, Level},
    log_file::{Gather, LogFile, Target},
    private::is_harmless,
};

/// How long refusals of one kind are gathered into one line.
const WINDOW: Duration = Duration::from_secs(1);
/// Kinds that one window tells apart; further ones are told together.
const KINDS: usize = 64;
/// How long the writer gathers lines before it writes them.
const GATHER: Duration = Duration::from_millis(20);
/// The most of a text that a line repeats.
const LONGEST: usize = 200;

/// Whether a refusal with this code is one that somebody who guards the server wants to see.
pub const fn is_event(code: ErrorCode) -> bool {
    use ErrorCode as C;
    matches!(
        code,
        C::AccessNoKey
            | C::AccessBadKey
            | C::AccessForbidden
            | C::AccessDeniedAddress
            | C::AccessForeignHost
            | C::AccessForeignOrigin
            | C::AccessBadHandshake
            | C::AccessBadCertificate
            | C::LimitsRate
            | C::LimitsHeadTooLarge
            | C::LimitsSlowHead
            | C::LimitsSlowBody
            | C::LimitsSlowReader
            | C::LimitsTooManyConnections
            | C::RequestBodyTooLarge
            | C::WireInvalidRequest
            | C::WireTooDeep
            | C::WireShapeOverflow
    )
}

/// Whether a path, as it came, tries to get out of the folder that it is in: no client of ours sends
/// such a one, and what looks for a way in does.
pub fn climbs(path: &str) -> bool {
    let lower = path.to_ascii_lowercase();
    ["..", "%2e", "%2f", "%5c", "%0", "%25", "%c0", "\\"].iter().any(|sign| lower.contains(sign))
}

/// One refusal.
#[derive(Clone, Copy, Debug)]
pub struct SecurityEvent<'a> {
    /// What it was refused for.
    pub code: ErrorCode,
    /// The listener's name.
    pub listener: &'a str,
    /// Who was refused; none where nobody in particular.
    pub peer: Option<IpAddr>,
    /// The request's id, where there was one.
    pub id: Option<RequestId>,
    /// Whose key it showed, where that was good.
    pub principal: Option<&'a str>,
    /// The model that it asked for.
    pub model: Option<&'a str>,
    /// What only the log should carry.
    pub detail: Option<&'a str>,
}

/// Where security events are counted and written.
#[derive(Debug)]
pub struct SecurityLog {
    counts: [AtomicU64; ErrorCode::ALL.len()],
    file: LogFile<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    open: AtomicBool,
    inside: Mutex<Inside>,
    something: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    ended: bool,
    /// Lines that wait for the writer.
    lines: Vec<u8>,
    /// When the window began; none where nothing has come.
    since: Option<Instant>,
    /// What came again in this window, by its kind.
    again: HashMap<(ErrorCode, Box<str>, Option<IpAddr>), Again>,
    /// What came when the window knew too many kinds already.
    others: HashMap<ErrorCode, u64>,
}

#[derive(Debug)]
struct Again {
    count: u64,
    last: SystemTime,
}

/// A line. Its fields are those of `docs/security.md`.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    event: &'static str,
    code: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    listener: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    count: u64,
}

impl Default for SecurityLog {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; ErrorCode::ALL.len()],
            file: LogFile::default(),
        }
    }
}

impl SecurityLog {
    /// Counts a refusal, and writes it down.
    pub fn note(&self, event: &SecurityEvent<'_>) {
        self.counts[event.code as usize].fetch_add(1, Relaxed);
        if self.file.lines.open.load(Relaxed) {
            self.file.lines.note(event, SystemTime::now());
        }
    }

    /// How often each code was an event, those that are not zero.
    pub fn counts(&self) -> impl Iterator<Item = (ErrorCode, u64)> + '_ {
        let count = |&code: &ErrorCode| (code, self.counts[code as usize].load(Relaxed));
        ErrorCode::ALL.iter().map(count).filter(|(_, count)| *count > 0)
    }

    /// Writes to this file from now on, or nowhere. The same file again changes nothing.
    ///
    /// # Errors
    /// The file cannot be opened; events go where they went.
    pub fn open(&self, target: Option<&str>) -> io::Result<()> {
        self.file.open(target, "security-log")
    }

    /// Writes what waits and stops. Called when the engine has drained.
    pub fn close(&self) {
        self.file.close();
    }
}

impl Gather for Shared {
    fn begin(&self) {
        self.inside.lock().ended = false;
    }

    fn welcome(&self, _writer: &Thread) {
        self.open.store(true, Relaxed);
    }

    fn end(&self, _writer: &Thread) {
        self.open.store(false, Relaxed);
        self.inside.lock().ended = true;
        self.something.notify_one();
    }

    fn write_until_ended(&self, target: &mut Target) {
        let mut failing = false;
        loop {
            let (lines, ended) = self.next();
            if !lines.is_empty() {
                let written = target.write(&lines);
                if let Err(error) = &written
                    && !failing
                {
                    let message = format_args!("the security log cannot be written: {error}");
                    events::log(Level::Error, message);
                }
                failing = written.is_err();
            }
            if ended {
                return;
            }
        }
    }
}

impl Shared {
    fn note(&self, event: &SecurityEvent<'_>, now: SystemTime) {
        let mut inside = self.inside.lock();
        let first = inside.since.is_none();
        inside.since.get_or_insert_with(Instant::now);
        inside.note(event, now);
        drop(inside);
        if first {
            self.something.notify_one();
        }
    }

    /// Waits for lines, and takes them.
    fn next(&self) -> (Vec<u8>, bool) {
        let mut inside = self.inside.lock();
        while inside.since.is_none() && !inside.ended {
            self.something.wait(&mut inside);
        }
        if !inside.ended {
            self.something.wait_for(&mut inside, GATHER);
        }
        if inside.ended || inside.since.is_some_and(|since| since.elapsed() >= WINDOW) {
            inside.end_window();
        }
        (std::mem::take(&mut inside.lines), inside.ended)
    }
}

impl Inside {
    fn note(&mut self, event: &SecurityEvent<'_>, now: SystemTime) {
        let kind = (event.code, Box::from(event.listener), event.peer);
        if let Some(again) = self.again.get_mut(&kind) {
            again.count += 1;
            again.last = now;
        } else if self.again.len() < KINDS {
            self.again.insert(kind, Again { count: 0, last: now });
            self.push(&Line {
                time: text_of(now),
                event: "refused",
                code: event.code.as_str(),
                status: event.code.http_status(),
                listener: Some(shortened(event.listener)),
                peer: event.peer,
                id: event.id.map(|id| id.to_string()),
                principal: event.principal.map(shortened),
                model: event.model.filter(|name| is_harmless(name)).map(shortened),
                detail: event.detail.map(shortened),
                count: 1,
            });
        } else {
            *self.others.entry(event.code).or_default() += 1;
        }
    }

    /// Says how often what came again came, and forgets it.
    fn end_window(&mut self) {
        self.since = None;
        for ((code, listener, peer), again) in std::mem::take(&mut self.again) {
            if again.count > 0 {
                let line = Line {
                    listener: Some(&listener),
                    peer,
                    ..repeated(code, again.last, again.count)
                };
                self.push(&line);
            }
        }
        for (code, count) in std::mem::take(&mut self.others) {
            self.push(&repeated(code, SystemTime::now(), count));
        }
    }

    fn push(&mut self, line: &Line<'_>) {
        // Of texts and numbers: nothing in it can fail to be JSON.
        if serde_json::to_writer(&mut self.lines, line).is_ok() {
            self.lines.push(b'\n');
        }
    }
}

fn repeated(code: ErrorCode, last: SystemTime, count: u64) -> Line<'static> {
    Line {
        time: text_of(last),
        event: "refused-again",
        code: code.as_str(),
        status: code.http_status(),
        listener: None,
        peer: None,
        id: None,
        principal: None,
        model: None,
        detail: None,
        count,
    }
}

fn text_of(moment: SystemTime) -> String {
    let mut text = Vec::with_capacity(24);
    push_time(&mut text, moment);
    String::from_utf8_lossy(&text).into_owned()
}

fn shortened(text: &str) -> &str {
    if text.len() > LONGEST { &text[..text.floor_char_boundary(LONGEST)] } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn event(code: ErrorCode, peer: [u8; 4]) -> SecurityEvent<'static> {
        SecurityEvent {
            code,
            listener: "http",
            peer: Some(IpAddr::from(peer)),
            id: Some(RequestId(7)),
            principal: None,
            model: Some("digits"),
            detail: None,
        }
    }

    fn lines(text: &[u8]) -> Vec<Value> {
        text.split(|&b| b == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn a_flood_is_two_lines_a_window() {
        let mut inside = Inside::default();
        for _ in 0..10_000 {
            inside.note(&event(ErrorCode::AccessBadKey, [10, 0, 0, 1]), SystemTime::UNIX_EPOCH);
        }
        inside.note(&event(ErrorCode::AccessBadKey, [10, 0, 0, 2]), SystemTime::UNIX_EPOCH);
        inside.end_window();
        let said = lines(&inside.lines);
        let counts: Vec<_> = said.iter().map(|line| line["count"].as_u64().unwrap()).collect();
        assert_eq!(counts, [1, 1, 9_999]);
        assert_eq!(said[0]["event"], "refused");
        assert_eq!(said[0]["id"], "0000000000000007");
        assert_eq!(said[0]["model"], "digits");
        assert_eq!(said[2]["event"], "refused-again");
        assert_eq!(said[2]["peer"], "10.0.0.1");
        assert_eq!(said[2]["status"], 401);
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_counted() {
        let mut inside = Inside::default();
        for number in 0..5000_u32 {
            let event = event(ErrorCode::AccessNoKey, number.to_be_bytes());
            inside.note(&event, SystemTime::UNIX_EPOCH);
        }
        inside.end_window();
        let said = lines(&inside.lines);
        assert_eq!(said.len(), KINDS + 1);
        assert_eq!(said.iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>(), 5000);
        assert!(said[KINDS].get("peer").is_none());
        assert!(inside.again.is_empty() && inside.others.is_empty());
    }

    #[test]
    fn what_was_noted_is_in_the_file_when_it_closes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("security.jsonl");
        let log = SecurityLog::default();
        log.note(&event(ErrorCode::AccessNoKey, [1, 1, 1, 1]));
        log.open(path.to_str()).unwrap();
        for _ in 0..3 {
            log.note(&event(ErrorCode::AccessBadKey, [1, 1, 1, 1]));
        }
        log.close();
        let said = lines(&std::fs::read(&path).unwrap());
        assert_eq!(said.iter().map(|line| line["count"].as_u64().unwrap()).sum::<u64>(), 3);
        let counted: Vec<_> = log.counts().collect();
        assert_eq!(counted, [(ErrorCode::AccessNoKey, 1), (ErrorCode::AccessBadKey, 3)]);
    }
}
