//! The agent: one thread beside serving that follows a tag and reports what was counted.
//!
//! Serving never waits for it. What is fetched comes on a thread of its own at the lowest priority; what is
//! loaded, loads on the agent's thread at the usual one, since threads inherit niceness and a pool made by a
//! meek thread would serve meekly for ever.

mod update;

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dukou_types::{Digest, ErrorCode, Failure};
use rustix::fs::{FlockOperation, flock};
use serde_json::{Value, json};

use crate::{
    fetch::Traffic,
    files::now,
    memory::Memory,
    report::Reporter,
    settings::{Place, Settings},
    slots::{Slot, Slots},
    store::{Beside, BlobStore},
    waiting::Waiting,
};

/// How long the process waits for the agent when it ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The engine, as the agent sees it.
pub trait Device: Send + Sync {
    /// Believes a manifest's signature, or says why not. Its layers need not be there.
    ///
    /// # Errors
    /// `trust.*`.
    fn check_signature(&self, digest: &Digest) -> Result<(), Failure>;

    /// The class names that a version brings.
    ///
    /// # Errors
    /// `formats.corrupt`, `package.*`, `trust.*`.
    fn labels(&self, digest: &Digest) -> Result<Vec<String>, Failure>;

    /// Loads a version beside the one that serves, has it reproduce its golden samples, and serves it where
    /// it does; else the one before serves on.
    ///
    /// # Errors
    /// What loading it said.
    fn serve(&self, slot: &Slot) -> Result<(), Failure>;

    /// What was counted since the start, as it stands in a record.
    fn counted(&self) -> Value;

    /// Writes a line of the log.
    fn log(&self, message: &str);
}

/// Keeps a folder up to date.
pub struct Agent {
    settings: Settings,
    place: Place,
    store: BlobStore,
    slots: Slots,
    waiting: Waiting,
    device: Arc<dyn Device>,
    /// Held while an agent works in the folder.
    _alone: File,
    phase: Mutex<Phase>,
    changed: Condvar,
    /// Whether the last report failed.
    unreported: AtomicBool,
}

/// Where an agent's thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It follows nothing: not yet, or no longer.
    Idle,
    /// It follows.
    Running,
    /// It was told to end.
    Ending,
}

/// Who is served now, for the loop.
#[derive(Default)]
struct Course {
    serving: Option<Digest>,
    fetched: Option<(Digest, Beside, Traffic)>,
    self_tests: u64,
    records: u64,
}

impl Agent {
    /// Takes a folder over.
    ///
    /// # Errors
    /// `edge.not-a-folder`, `edge.busy`: another agent works in it, `edge.disk`.
    pub fn open(
        folder: &Path,
        settings: Settings,
        device: Arc<dyn Device>,
    ) -> Result<Arc<Self>, Failure> {
        let place = Place::new(folder);
        let state = place.state();
        std::fs::create_dir_all(&state).map_err(|error| crate::files::disk(&state, &error))?;
        let alone = take_over(folder)?;
        let waiting = Waiting::new(&state, settings.waiting_bytes);
        Ok(Arc::new(Self {
            store: BlobStore::open(&place.store())?,
            slots: Slots::new(place.slots()),
            waiting,
            settings,
            place,
            device,
            _alone: alone,
            phase: Mutex::new(Phase::Idle),
            changed: Condvar::new(),
            unreported: AtomicBool::new(false),
        }))
    }

    /// Serves from the slots: the current one, else the other. Gives what serves; nothing where neither can.
    ///
    /// # Errors
    /// Where neither can be served: why the current one cannot.
    pub fn begin(&self) -> Result<Digest, Failure> {
        let current = self.slots.current()?;
        let mut first = None;
        for name in [current, current.other()] {
            let Some(slot) = self.slots.read(name) else { continue };
            match self.device.serve(&slot) {
                Ok(()) => {
                    if name != current {
                        self.device.log(&format!(
                            "slot {} serves in the place of slot {}",
                            name.as_str(),
                            current.as_str()
                        ));
                        self.slots.point(name)?;
                    }
                    return Ok(slot.digest);
                }
                Err(failure) => {
                    self.device.log(&format!("slot {} cannot serve: {failure}", name.as_str()));
                    first.get_or_insert(failure);
                }
            }
        }
        Err(first.unwrap_or_else(|| {
            Failure::new(ErrorCode::EdgeNotAFolder, "neither slot names a version")
        }))
    }

    /// Follows and reports until it is told to end. `serving` is what [`Agent::begin`] gave.
    pub fn run(&self, serving: Option<Digest>) {
        {
            let mut phase = self.phase();
            if *phase == Phase::Ending {
                return;
            }
            *phase = Phase::Running;
        }
        self.follow(serving);
        *self.phase() = Phase::Idle;
        self.changed.notify_all();
    }

    fn follow(&self, serving: Option<Digest>) {
        let mut course = Course { serving, ..Course::default() };
        let mut memory = Memory::read(&self.place.state());
        self.tidy(course.serving.as_ref());
        let every = Duration::from_secs(self.settings.record_s);
        let (mut poll, mut record) = (Instant::now(), Instant::now() + every);
        loop {
            if Instant::now() >= poll {
                if let Some(follow) = &self.settings.follow {
                    self.look(follow, &mut course, &mut memory);
                    poll = Instant::now() + interval(follow.every_s);
                } else {
                    poll = Instant::now() + Duration::from_secs(3600);
                }
            }
            if Instant::now() >= record {
                self.record(&mut course, &mut memory, Value::Null);
                self.report();
                record = Instant::now() + every;
            }
            if self.wait(poll.min(record)) {
                self.record(&mut course, &mut memory, json!("ended"));
                return;
            }
        }
    }

    /// Whether it follows a tag.
    pub const fn follows(&self) -> bool {
        self.settings.follow.is_some()
    }

    /// Has [`Agent::run`] end, and waits a little for its last record; a download that is under way is left
    /// where it is.
    pub fn end(&self) {
        let mut phase = self.phase();
        if *phase == Phase::Running {
            *phase = Phase::Ending;
            self.changed.notify_all();
            let ended =
                self.changed.wait_timeout_while(phase, LAST_WORDS, |phase| *phase != Phase::Idle);
            drop(ended);
        } else {
            *phase = Phase::Ending;
        }
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what was counted.
    fn record(&self, course: &mut Course, memory: &mut Memory, event: Value) {
        course.records += 1;
        let mut record = self.device.counted();
        record["format"] = json!(1);
        let epoch = record["epoch"].as_str().unwrap_or_default();
        record["id"] = json!(format!("{epoch}-{}", course.records));
        record["device"] = json!(self.settings.device);
        record["time"] = json!(now());
        record["digest"] = json!(course.serving);
        record["updates"] = json!({"installed": memory.installed, "failed": memory.failed});
        record["self_tests"] = json!(course.self_tests);
        record["store_bytes"] = json!(self.store.size());
        record["free_bytes"] = json!(self.store.free());
        record["dropped"] = json!(memory.dropped);
        record["event"] = event;
        match self.waiting.add(&record) {
            Ok(0) => {}
            Ok(dropped) => {
                memory.dropped += dropped;
                self.remember(memory);
            }
            Err(error) => self.device.log(&format!("a record is not kept: {error}")),
        }
    }

    fn report(&self) {
        let Some(report) = &self.settings.report else { return };
        let sent = Reporter::new(&self.place, report).and_then(|to| to.send(&self.waiting));
        let fails = sent.is_err();
        // Said when it begins and when it ends: a device may be offline for months.
        if self.unreported.swap(fails, Relaxed) != fails {
            self.device.log(&match sent {
                Ok(_) => "reports are taken again".to_owned(),
                Err(failure) => format!("reports wait: {failure}"),
            });
        }
    }

    fn remember(&self, memory: &Memory) {
        if let Err(error) = memory.write() {
            self.device.log(&format!("what happened is not remembered: {error}"));
        }
    }

    /// Waits; true where the agent should end.
    fn wait(&self, until: Instant) -> bool {
        let time = until.saturating_duration_since(Instant::now());
        let running = |phase: &mut Phase| *phase == Phase::Running;
        let waited = self.changed.wait_timeout_while(self.phase(), time, running);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == Phase::Ending
    }
}

/// So many seconds and up to a tenth more: devices that were switched on together do not ask together.
fn interval(seconds: u64) -> Duration {
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut byte = [0];
    // Without chance all wait the same: no harm.
    let _unlucky = SystemRandom::new().fill(&mut byte);
    Duration::from_secs(seconds) + Duration::from_millis(seconds * 100 * u64::from(byte[0]) / 255)
}

fn lock_path(folder: &Path) -> PathBuf {
    Place::new(folder).state().join("agent.lock")
}

fn take_over(folder: &Path) -> Result<File, Failure> {
    let path = lock_path(folder);
    let file = File::create(&path).map_err(|error| crate::files::disk(&path, &error))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => Err(Failure::new(
            ErrorCode::EdgeBusy,
            format!("another agent works in `{}`", folder.display()),
        )),
    }
}

/// Whether an agent works in the folder.
pub fn is_running(folder: &Path) -> bool {
    let Ok(file) = File::open(lock_path(folder)) else { return false };
    flock(&file, FlockOperation::NonBlockingLockShared).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_agent() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("state")).unwrap();
        assert!(!is_running(folder.path()));
        let first = take_over(folder.path()).unwrap();
        assert!(is_running(folder.path()));
        assert_eq!(take_over(folder.path()).unwrap_err().code, ErrorCode::EdgeBusy);
        drop(first);
        assert!(!is_running(folder.path()));
    }

    #[test]
    fn an_interval_is_a_tenth_longer_at_most() {
        for _ in 0..50 {
            let waited = interval(10).as_millis();
            assert!((10_000..=11_000).contains(&waited), "{waited}");
        }
    }
}
