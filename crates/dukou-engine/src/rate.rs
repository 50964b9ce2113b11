//! How often one key may ask: a bucket that fills steadily, in one number.
//!
//! The generic cell rate algorithm (ITU-T I.371): the time at which the next request would be due at
//! the steady rate is kept, and a request may come before it by what a burst allows.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::table::Rate;

/// One key's allowance.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    /// Nanoseconds between two requests at the steady rate.
    interval: u64,
    /// How many nanoseconds a request may be early.
    tolerance: u64,
    /// When the next request is due, in nanoseconds of [`now`].
    due: AtomicU64,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate) -> Self {
        let interval = (rate.seconds.saturating_mul(1_000_000_000) / rate.requests.max(1)).max(1);
        let tolerance = interval.saturating_mul(rate.burst.saturating_sub(1));
        Self { rate, interval, tolerance, due: AtomicU64::new(0) }
    }

    /// What it was made of.
    pub const fn rate(&self) -> Rate {
        self.rate
    }

    /// Takes one request out.
    ///
    /// # Errors
    /// How long until there is one again.
    pub fn take(&self) -> Result<(), Duration> {
        self.take_at(now())
    }

    fn take_at(&self, now: u64) -> Result<(), Duration> {
        let mut due = self.due.load(Relaxed);
        loop {
            let earliest = due.saturating_sub(self.tolerance);
            if now < earliest {
                return Err(Duration::from_nanos(earliest - now));
            }
            let next = due.max(now).saturating_add(self.interval);
            match self.due.compare_exchange_weak(due, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(newer) => due = newer,
            }
        }
    }
}

/// Nanoseconds of this process's life.
fn now() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_then_the_steady_rate() {
        let bucket = Bucket::new(Rate { requests: 10, seconds: 1, burst: 5 });
        let start = 100 * SECOND;
        for _ in 0..5 {
            assert_eq!(bucket.take_at(start), Ok(()));
        }
        assert_eq!(bucket.take_at(start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.take_at(start + SECOND / 10), Ok(()));
        assert!(bucket.take_at(start + SECOND / 10).is_err());
        // A long silence fills it to the burst and no further.
        for _ in 0..5 {
            assert_eq!(bucket.take_at(start + 60 * SECOND), Ok(()));
        }
        assert!(bucket.take_at(start + 60 * SECOND).is_err());
    }

    #[test]
    fn over_any_time_no_more_than_the_rate_and_one_burst() {
        let bucket = Bucket::new(Rate { requests: 3, seconds: 60, burst: 1 });
        let taken = (0..3600).filter(|s| bucket.take_at((100 + s) * SECOND).is_ok()).count();
        assert_eq!(taken, 180);
    }
}
