//! How often a model ran with so many rows at once, and how long that took: for Triton's statistics, which
//! tell each size by itself where a histogram has powers of two.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};

/// Sizes that have a place of their own; it is as many as a batch is made of by default.
const SMALL: usize = 64;
/// The most larger sizes that are told apart; runs of further ones are counted nowhere here.
const MOST_LARGE: usize = 256;

/// Runs of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// How many.
    pub count: u64,
    /// In the model, in nanoseconds.
    pub ns: u64,
}

/// Rows → the runs that had so many.
pub type BySize = BTreeMap<usize, Runs>;

/// One thread's part of the counts. Larger sizes are behind a lock: such a run takes longer than it by far.
#[derive(Debug)]
pub struct BatchSizes {
    small: [(AtomicU64, AtomicU64); SMALL],
    large: Mutex<BySize>,
}

impl Default for BatchSizes {
    fn default() -> Self {
        let small = [const { (AtomicU64::new(0), AtomicU64::new(0)) }; SMALL];
        Self { small, large: Mutex::new(BySize::new()) }
    }
}

impl BatchSizes {
    /// Counts one run.
    pub fn add(&self, rows: usize, compute: Duration) {
        let ns = u64::try_from(compute.as_nanos()).unwrap_or(u64::MAX);
        if let Some((count, spent)) = rows.checked_sub(1).and_then(|at| self.small.get(at)) {
            count.fetch_add(1, Relaxed);
            spent.fetch_add(ns, Relaxed);
            return;
        }
        let mut large = self.large.lock().unwrap_or_else(PoisonError::into_inner);
        if large.len() < MOST_LARGE || large.contains_key(&rows) {
            large.entry(rows).or_default().add(Runs { count: 1, ns });
        }
    }

    /// Adds what was counted here to a sum.
    pub fn add_to(&self, sum: &mut BySize) {
        for (at, (count, ns)) in self.small.iter().enumerate() {
            let runs = Runs { count: count.load(Relaxed), ns: ns.load(Relaxed) };
            if runs.count > 0 {
                sum.entry(at + 1).or_default().add(runs);
            }
        }
        merge(sum, &self.large.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Adds what another counted.
pub fn merge(sum: &mut BySize, other: &BySize) {
    for (&rows, &runs) in other {
        sum.entry(rows).or_default().add(runs);
    }
}

impl Runs {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.ns += other.ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_is_told_by_itself() {
        let sizes = BatchSizes::default();
        for rows in [1, 3, 64, 65, 1000, 3, 0] {
            sizes.add(rows, Duration::from_nanos(10));
        }
        let mut sum = BySize::new();
        sizes.add_to(&mut sum);
        sizes.add_to(&mut sum);
        let told: Vec<_> = sum.iter().map(|(&rows, runs)| (rows, runs.count, runs.ns)).collect();
        let of = |rows, count| (rows, count, count * 10);
        assert_eq!(told, [of(0, 2), of(1, 2), of(3, 4), of(64, 2), of(65, 2), of(1000, 2)]);
    }

    #[test]
    fn sizes_without_number_take_no_memory_without_number() {
        let sizes = BatchSizes::default();
        for rows in SMALL + 1..SMALL + 2 + MOST_LARGE * 2 {
            sizes.add(rows, Duration::ZERO);
        }
        let mut sum = BySize::new();
        sizes.add_to(&mut sum);
        assert_eq!(sum.len(), MOST_LARGE);
    }
}
