//! A clock that moves when it is told to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// A moment that a test moves. Cloning shares it.
#[derive(Clone, Debug)]
pub struct ManualTime {
    start: Instant,
    passed_ns: Arc<AtomicU64>,
}

impl Default for ManualTime {
    fn default() -> Self {
        Self { start: Instant::now(), passed_ns: Arc::default() }
    }
}

impl ManualTime {
    /// The moment.
    pub fn now(&self) -> Instant {
        self.start + Duration::from_nanos(self.passed_ns.load(Ordering::Acquire))
    }

    /// Lets time pass.
    pub fn pass(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.passed_ns.fetch_add(nanoseconds, Ordering::AcqRel);
    }
}
