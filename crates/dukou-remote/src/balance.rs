//! Which replica is asked: of two drawn at random the one that costs less, its latency times what it
//! is busy with.
//!
//! Power of two choices (Mitzenmacher 2001) on a peak-sensitive moving average, as Finagle has it: a
//! latency above the average counts at once, one below it by and by. What a replica once took is
//! forgotten within half a second. Latencies are alike up to double, so that chance does not choose among
//! replicas that are; and one that is not counts double, whatever it is: a stall must not starve a
//! replica, and who is slow for good shows it by what it is busy with.

use std::time::{Duration, Instant};

/// After this long, an old latency counts a third of what it did.
const MEMORY: Duration = Duration::from_millis(100);

/// Latencies are alike up to so many times the other's; beyond that, requests count so many times.
const ALIKE: u32 = 2;

/// The average latency of one replica, sensitive to peaks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeakEwma {
    nanoseconds: f64,
    seen: Option<Instant>,
}

impl PeakEwma {
    /// An answer took this long.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        let took = took.as_nanos() as f64;
        let Some(seen) = self.seen else {
            *self = Self { nanoseconds: took, seen: Some(now) };
            return;
        };
        if took >= self.nanoseconds {
            self.nanoseconds = took;
        } else {
            let kept = decay(now.saturating_duration_since(seen));
            self.nanoseconds = self.nanoseconds * kept + took * (1.0 - kept);
        }
        self.seen = Some(now);
    }

    /// The average as it counts now; none where nothing was observed. It fades while nothing is heard,
    /// so that a replica that was slow once is asked again.
    pub fn latency(&self, now: Instant) -> Option<Duration> {
        let kept = decay(now.saturating_duration_since(self.seen?));
        Some(Duration::from_nanos((self.nanoseconds * kept) as u64))
    }
}

fn decay(time: Duration) -> f64 {
    (-time.as_secs_f64() / MEMORY.as_secs_f64()).exp()
}

/// One replica that could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its position.
    pub index: usize,
    /// What it takes; none where nobody knows yet.
    pub latency: Option<Duration>,
    /// Requests that it has not answered yet.
    pub outstanding: usize,
}

/// Chooses one; `draw` is any number, evenly distributed. None where there is none.
pub fn choose(candidates: &[Candidate], draw: u64) -> Option<usize> {
    let count = candidates.len();
    match count {
        0 => return None,
        1 => return Some(candidates[0].index),
        _ => {}
    }
    let first = below(draw >> 32, count);
    let other = (first + 1 + below(draw & 0xffff_ffff, count - 1)) % count;
    let (a, b) = (&candidates[first], &candidates[other]);
    // Who is not known yet is taken to be like the others: neither avoided nor flooded.
    let usual = a.latency.or(b.latency).unwrap_or_default();
    let latency = |candidate: &Candidate| candidate.latency.unwrap_or(usual);
    let cost = |one: &Candidate, other: &Candidate| {
        let times = if latency(one) > ALIKE * latency(other) { ALIKE as usize } else { 1 };
        times * (one.outstanding + 1)
    };
    Some(if cost(b, a) < cost(a, b) { b.index } else { a.index })
}

/// Maps 32 even bits evenly onto `0..count`.
fn below(bits: u64, count: usize) -> usize {
    ((bits * count as u64) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn busy(index: usize, milliseconds: u32, outstanding: usize) -> Candidate {
        Candidate { index, latency: Some(MS * milliseconds), outstanding }
    }

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let start = Instant::now();
        let mut average = PeakEwma::default();
        assert_eq!(average.latency(start), None);
        average.observe(MS, start);
        average.observe(MS * 50, start);
        assert_eq!(average.latency(start), Some(MS * 50));
        average.observe(MS, start + MEMORY);
        let after = average.latency(start + MEMORY).unwrap();
        assert!(after > MS * 15 && after < MS * 25, "{after:?}");
        assert!(average.latency(start + MEMORY * 20).unwrap() < MS / 100);
    }

    #[test]
    fn the_less_busy_and_the_faster_is_chosen() {
        for draw in [0, u64::MAX, 0x1234_5678_9abc_def0] {
            assert_eq!(choose(&[busy(4, 2, 3), busy(7, 2, 0)], draw), Some(7));
            assert_eq!(choose(&[busy(4, 1, 0), busy(7, 9, 0)], draw), Some(4));
            assert_eq!(choose(&[busy(4, 1, 9), busy(7, 5, 0)], draw), Some(7));
        }
        assert_eq!(choose(&[], 3), None);
        assert_eq!(choose(&[busy(2, 9, 9)], 3), Some(2));
    }

    #[test]
    fn a_newcomer_is_neither_avoided_nor_flooded() {
        let new = |outstanding| Candidate { index: 1, latency: None, outstanding };
        for draw in [0, u64::MAX] {
            assert_eq!(choose(&[busy(0, 5, 1), new(0)], draw), Some(1));
            assert_eq!(choose(&[busy(0, 5, 1), new(2)], draw), Some(0));
        }
    }

    proptest! {
        #[test]
        fn of_two_the_one_with_the_most_to_do_is_never_chosen(
            first in 0_usize..20, more in 1_usize..20, ms in 1_u32..50, times in 0_u32..200, draw: u64,
        ) {
            // However fast it is: at twice as much work, the other is chosen.
            let idle = busy(0, ms * times, first);
            let loaded = busy(1, ms, 2 * first + 1 + more);
            prop_assert_eq!(choose(&[idle, loaded], draw), Some(0));
        }

        #[test]
        fn whoever_is_chosen_is_one_of_them(
            replicas in proptest::collection::vec((0_u32..50, 0_usize..20), 1..6), draw: u64,
        ) {
            let candidates: Vec<_> = replicas
                .iter()
                .enumerate()
                .map(|(index, (ms, outstanding))| busy(10 + index, *ms, *outstanding))
                .collect();
            let chosen = choose(&candidates, draw).unwrap();
            prop_assert!(candidates.iter().any(|candidate| candidate.index == chosen));
        }

        #[test]
        fn alike_they_are_asked_alike(seed: u64) {
            let candidates = [busy(0, 3, 1), busy(1, 3, 1), busy(2, 3, 1)];
            let mut counts = [0_u32; 3];
            let mut state = seed;
            for _ in 0..3000 {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut draw = state;
                draw = (draw ^ (draw >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                draw = (draw ^ (draw >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                counts[choose(&candidates, draw ^ (draw >> 31)).unwrap()] += 1;
            }
            prop_assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        }
    }
}
