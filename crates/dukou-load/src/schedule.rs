//! When requests are due, in an open loop: a Poisson process, kept to by the kernel's timer.
//!
//! The schedule knows nothing of answers. A server that stalls does not slow it down: what became due
//! meanwhile is sent late, and its latency counts from when it was due.

use std::{
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::{Interest, unix::AsyncFd};

use crate::random::Random;

/// Arrival times since the start, in order.
pub struct Arrivals {
    random: Random,
    mean_gap: f64,
    next: f64,
}

impl Arrivals {
    /// A Poisson process of `rate` arrivals a second.
    pub fn new(rate: f64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let next = random.exponential(1.0 / rate);
        Self { random, mean_gap: 1.0 / rate, next }
    }

    /// The next arrival before `end`, where there is one.
    pub fn next_before(&mut self, end: Duration) -> Option<Duration> {
        if self.next >= end.as_secs_f64() {
            return None;
        }
        let due = Duration::from_secs_f64(self.next);
        self.next += self.random.exponential(self.mean_gap);
        Some(due)
    }
}

/// A timer of the kernel: the runtime's own has steps of a millisecond, which would be most of a
/// latency here.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[expect(deprecated, reason = "its successor is `unsafe`; an `OwnedFd` is what that asks for")]
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        Ok(Self(AsyncFd::with_interest(fd, Interest::READABLE)?))
    }

    async fn wait(&self, gap: Duration) -> io::Result<()> {
        let gap = gap.max(Duration::from_nanos(1));
        let value = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec {
                tv_sec: gap.as_secs().try_into().unwrap_or(i64::MAX),
                tv_nsec: gap.subsec_nanos().into(),
            },
        };
        timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &value)?;
        let mut ready = self.0.readable().await?;
        // Setting it anew clears what has expired; reading it would be one call more.
        ready.clear_ready();
        Ok(())
    }
}

/// Hands out arrivals one by one, each when it is due.
pub struct Pacer {
    arrivals: Arrivals,
    timer: Timer,
    start: Instant,
    end: Duration,
}

impl Pacer {
    /// From `start` on, for `end`.
    pub fn new(arrivals: Arrivals, start: Instant, end: Duration) -> io::Result<Self> {
        Ok(Self { arrivals, timer: Timer::new()?, start, end })
    }

    /// Waits for the next arrival and says when it was due; nothing once there are no more.
    pub async fn next(&mut self) -> io::Result<Option<Instant>> {
        let Some(due) = self.arrivals.next_before(self.end) else {
            return Ok(None);
        };
        let due = self.start + due;
        // A timer may fire a hair early against another clock reading: never send before it is due.
        while let Some(gap) = due.checked_duration_since(Instant::now()).filter(|g| !g.is_zero()) {
            self.timer.wait(gap).await?;
        }
        Ok(Some(due))
    }

    /// Gives up: how many arrivals will never be sent.
    pub fn abandon(&mut self) -> u64 {
        let mut left = 0;
        while self.arrivals.next_before(self.end).is_some() {
            left += 1;
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_come_at_the_stated_rate_and_as_a_poisson_process() {
        let end = Duration::from_secs(100);
        let mut arrivals = Arrivals::new(500.0, 3);
        let mut seconds = vec![0_u32; 100];
        while let Some(due) = arrivals.next_before(end) {
            seconds[usize::try_from(due.as_secs()).unwrap()] += 1;
        }
        let total: u32 = seconds.iter().sum();
        // 50000 ± 5 standard deviations of √50000 = 224.
        assert!((48_880..=51_120).contains(&total), "{total}");
        // Counts of a Poisson process have a variance equal to their mean: evenly spaced arrivals
        // would have none.
        let mean = f64::from(total) / 100.0;
        let variance = seconds.iter().map(|c| (f64::from(*c) - mean).powi(2)).sum::<f64>() / 99.0;
        assert!((0.5..1.8).contains(&(variance / mean)), "{}", variance / mean);
        assert!(arrivals.next_before(end).is_none());
    }

    #[test]
    fn the_same_seed_is_the_same_schedule() {
        let end = Duration::from_secs(1);
        let list = |seed| {
            let mut arrivals = Arrivals::new(50.0, seed);
            std::iter::from_fn(move || arrivals.next_before(end)).collect::<Vec<_>>()
        };
        assert_eq!(list(1), list(1));
        assert_ne!(list(1), list(2));
    }

    #[test]
    fn nothing_is_due_early() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let arrivals = Arrivals::new(2000.0, 1);
            let end = Duration::from_millis(50);
            let mut pacer = Pacer::new(arrivals, Instant::now(), end).unwrap();
            let mut count = 0;
            while let Some(due) = pacer.next().await.unwrap() {
                assert!(Instant::now() >= due);
                count += 1;
            }
            assert!(count > 0);
            assert_eq!(pacer.abandon(), 0);
        });
    }
}
