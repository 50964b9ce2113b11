//! The access log: one JSON line a request, written by a thread of its own.
//!
//! A line is formatted by hand into the calling thread's own buffer. The writer is woken by the first
//! line after a silence and gathers for a moment before it writes, so that a busy engine pays for no
//! wake-up a request. Buffers are bounded: where the disk is slower than the requests, lines are
//! dropped and counted, and no request waits.

use std::{
    io,
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
    thread::Thread,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use crate::{
    access_line::push_line,
    counters::thread_number,
    events::{self, Level},
    log_file::{Gather, LogFile, Target},
    record::Outcome,
};

/// Bytes that one buffer holds before lines are dropped.
const BUFFER_BYTES: usize = 1 << 20;
/// Buffers; threads are spread over them.
const BUFFERS: usize = 16;
/// How long the writer gathers lines before it writes them.
const GATHER: Duration = Duration::from_millis(20);

/// Where lines go: a file, stdout, or nowhere. Changed while the engine serves, with the table.
#[derive(Debug, Default)]
pub struct AccessLog(LogFile<Shared>);

#[derive(Debug)]
struct Shared {
    /// Whether anything is listening: read first, so that no log costs no time.
    open: AtomicBool,
    /// Whether the writer sleeps and must be woken by the next line.
    asleep: AtomicBool,
    ended: AtomicBool,
    dropped: AtomicU64,
    sleeper: Mutex<Option<Thread>>,
    buffers: [Mutex<Vec<u8>>; BUFFERS],
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            open: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            sleeper: Mutex::default(),
            buffers: [const { Mutex::new(Vec::new()) }; BUFFERS],
        }
    }
}

impl AccessLog {
    /// Sends lines to `target` from now on: a path, `-` for stdout, or nowhere. What was written for
    /// the target before goes there first. The same target again changes nothing.
    ///
    /// # Errors
    /// The file cannot be opened; lines go where they went.
    pub fn open(&self, target: Option<&str>) -> io::Result<()> {
        self.0.open(target, "access-log")
    }

    /// Writes what is buffered and stops. Called when the engine has drained.
    pub fn close(&self) {
        self.0.close();
    }

    /// Lines that were dropped because the writer did not keep up.
    pub fn dropped(&self) -> u64 {
        self.0.lines.dropped.load(Relaxed)
    }

    /// Whether lines go anywhere.
    pub fn is_open(&self) -> bool {
        self.0.lines.open.load(Acquire)
    }

    /// Writes one request down, which took this long and ended at this moment.
    pub fn write(&self, outcome: &Outcome<'_>, request: Duration, now: SystemTime) {
        let shared = &*self.0.lines;
        if !self.is_open() {
            return;
        }
        let mut buffer = shared.buffers[thread_number() % BUFFERS].lock();
        // A line is a few hundred bytes, a client's id and a model's name as asked for are bounded
        // below: one check before formatting is enough.
        if buffer.len() >= BUFFER_BYTES {
            shared.dropped.fetch_add(1, Relaxed);
            return;
        }
        push_line(&mut buffer, outcome, request, now);
        drop(buffer);
        if shared.asleep.swap(false, AcqRel)
            && let Some(writer) = &*shared.sleeper.lock()
        {
            writer.unpark();
        }
    }
}

impl Gather for Shared {
    fn begin(&self) {
        self.ended.store(false, Release);
    }

    fn welcome(&self, writer: &Thread) {
        *self.sleeper.lock() = Some(writer.clone());
        self.open.store(true, Release);
    }

    fn end(&self, writer: &Thread) {
        self.open.store(false, Release);
        self.ended.store(true, Release);
        writer.unpark();
    }

    fn write_until_ended(&self, target: &mut Target) {
        let mut lines = Vec::new();
        let mut failing = false;
        loop {
            let ended = self.ended.load(Acquire);
            let mut silent = true;
            for buffer in &self.buffers {
                // Exchanged, not copied: a worker that writes a line meanwhile waits for no copy.
                std::mem::swap(&mut *buffer.lock(), &mut lines);
                if lines.is_empty() {
                    continue;
                }
                silent = false;
                let written = target.write(&lines);
                if let Err(error) = &written {
                    self.dropped.fetch_add(count_lines(&lines), Relaxed);
                    if !failing {
                        let message = format_args!("the access log cannot be written: {error}");
                        events::log(Level::Error, message);
                    }
                }
                failing = written.is_err();
                // A burst must not leave its memory behind.
                if lines.len() < lines.capacity() / 8 {
                    lines.shrink_to(BUFFER_BYTES / 16);
                }
                lines.clear();
            }
            if ended {
                return;
            }
            if silent {
                self.sleep();
            } else {
                std::thread::park_timeout(GATHER);
            }
        }
    }
}

impl Shared {
    /// Waits for the next line.
    fn sleep(&self) {
        self.asleep.store(true, Release);
        // A line that came after the sweep and before the flag would wake nobody: look once more.
        if self.buffers.iter().all(|buffer| buffer.lock().is_empty()) {
            std::thread::park();
        }
        self.asleep.store(false, Release);
    }
}

fn count_lines(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

#[cfg(test)]
#[path = "access_log_test.rs"]
mod tests;
