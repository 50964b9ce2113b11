//! Counters of one arm: added to by every request, summed by whoever asks.
//!
//! The hot path adds to relaxed atomics in a shard that its thread rarely shares; nothing locks.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use dukou_batch::Observe;
use dukou_types::ErrorCode;

use crate::{
    batch_sizes::{self, BatchSizes, BySize},
    cache::Found,
    table::Dialect,
};

/// Upper bounds of the histograms in microseconds, inclusive; a last bucket holds what is above.
pub const BOUNDS_US: [u64; 18] = {
    let mut bounds = [0; 18];
    let mut index = 0;
    while index < 18 {
        bounds[index] = 50 << index;
        index += 1;
    }
    bounds
};

/// Buckets of a time histogram.
const BUCKETS: usize = BOUNDS_US.len() + 1;
/// Buckets of rows: 1, 2, 4 … 65536, and above.
const ROW_BUCKETS: usize = 18;
/// Results: `ok`, then each code at its index plus one.
const RESULTS: usize = ErrorCode::ALL.len() + 1;
/// What one request adds.
#[derive(Clone, Copy, Debug)]
pub struct RequestCount {
    /// How it came.
    pub dialect: Dialect,
    /// How it ended; none is well.
    pub error: Option<ErrorCode>,
    /// Rows it carried; 0 where it was not decoded.
    pub rows: usize,
    /// From its head to its answer.
    pub request: Duration,
    /// From the queue's door to the run; none where it never ran.
    pub queue: Option<Duration>,
    /// What the cache did; none where there is none, or where the request failed.
    pub found: Option<Found>,
}

/// The counters of one arm. Cheap to add to from any thread.
#[derive(Debug)]
pub struct ArmCounters {
    shards: Box<[Shard]>,
    /// Rare enough to need no shards.
    agreement: AgreementCounters,
}

/// How a shadow's answers went with those that callers got.
#[derive(Debug, Default)]
struct AgreementCounters {
    compared: AtomicU64,
    differ: AtomicU64,
    dropped: AtomicU64,
}

/// Sums of [`ArmCounters::compared`] and [`ArmCounters::copy_dropped`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    /// Rows that both versions answered.
    pub compared: u64,
    /// Of these, those on which they do not agree.
    pub differ: u64,
    /// Requests of which no copy was made, for want of room.
    pub dropped: u64,
}

/// One thread's part of an arm's counters, on cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    results: [[AtomicU64; RESULTS]; Dialect::ALL.len()],
    rows: AtomicU64,
    request: Histogram,
    queue: Histogram,
    compute: Histogram,
    batch_rows: [AtomicU64; ROW_BUCKETS],
    batch_rows_sum: AtomicU64,
    batch_sizes: BatchSizes,
    last_ms: AtomicU64,
    found: [AtomicU64; Found::ALL.len()],
    rows_not_run: AtomicU64,
}

/// Durations: their sum in nanoseconds, and how many fell into each bucket.
#[derive(Debug)]
struct Histogram {
    sum_ns: AtomicU64,
    counts: [AtomicU64; BUCKETS],
}

pub(crate) const fn zeros<const N: usize>() -> [AtomicU64; N] {
    [const { AtomicU64::new(0) }; N]
}

impl Histogram {
    const fn new() -> Self {
        Self { sum_ns: AtomicU64::new(0), counts: zeros() }
    }

    fn add(&self, duration: Duration) {
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(nanoseconds, Relaxed);
        self.counts[time_bucket(nanoseconds)].fetch_add(1, Relaxed);
    }
}

/// The bucket of a duration: bounds double from 50 µs, so that it is a logarithm.
fn time_bucket(nanoseconds: u64) -> usize {
    doubling_bucket(nanoseconds.div_ceil(50_000), BUCKETS)
}

/// The least `index` with `value <= 2^index`, at most the last of `buckets`.
fn doubling_bucket(value: u64, buckets: usize) -> usize {
    if value <= 1 {
        return 0;
    }
    (u64::BITS - (value - 1).leading_zeros()).min(buckets as u32 - 1) as usize
}

impl Observe for ArmCounters {
    fn ran(&self, rows: usize, compute: Duration) {
        self.batch(rows, compute);
    }
}

impl ArmCounters {
    /// Counters at zero, with a shard for each of so many threads.
    pub(crate) fn new(shards: usize) -> Self {
        let shard = || Shard {
            results: [const { zeros() }; Dialect::ALL.len()],
            rows: AtomicU64::new(0),
            request: Histogram::new(),
            queue: Histogram::new(),
            compute: Histogram::new(),
            batch_rows: zeros(),
            batch_rows_sum: AtomicU64::new(0),
            batch_sizes: BatchSizes::default(),
            last_ms: AtomicU64::new(0),
            found: zeros(),
            rows_not_run: AtomicU64::new(0),
        };
        Self {
            shards: (0..shards).map(|_| shard()).collect(),
            agreement: AgreementCounters::default(),
        }
    }

    /// Counts rows that a shadow answered too.
    pub fn compared(&self, rows: usize, differ: usize) {
        self.agreement.compared.fetch_add(rows as u64, Relaxed);
        self.agreement.differ.fetch_add(differ as u64, Relaxed);
    }

    /// Counts a request of which no copy was made, for want of room.
    pub fn copy_dropped(&self) {
        self.agreement.dropped.fetch_add(1, Relaxed);
    }

    /// Counts a request that has been answered, well or not.
    pub fn request(&self, count: &RequestCount) {
        let shard = self.shard();
        let result = count.error.map_or(0, |code| code as usize + 1);
        shard.results[count.dialect.index()][result].fetch_add(1, Relaxed);
        shard.rows.fetch_add(count.rows as u64, Relaxed);
        shard.request.add(count.request);
        if count.error.is_none() {
            // Of all that a request costs this is the least: the clock is read without a system call.
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            shard.last_ms.store(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), Relaxed);
        }
        if let Some(queue) = count.queue {
            shard.queue.add(queue);
        }
        if let Some(found) = count.found {
            shard.found[found as usize].fetch_add(1, Relaxed);
            if found != Found::Miss {
                shard.rows_not_run.fetch_add(count.rows as u64, Relaxed);
            }
        }
    }

    /// Counts one run of the model. Called once a batch, whoever rode in it.
    pub fn batch(&self, rows: usize, compute: Duration) {
        let shard = self.shard();
        shard.compute.add(compute);
        shard.batch_rows[doubling_bucket(rows as u64, ROW_BUCKETS)].fetch_add(1, Relaxed);
        shard.batch_rows_sum.fetch_add(rows as u64, Relaxed);
        shard.batch_sizes.add(rows, compute);
    }

    fn shard(&self) -> &Shard {
        &self.shards[thread_number() % self.shards.len()]
    }

    /// Everything counted so far, the shards summed.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            for (sum, results) in totals.results.iter_mut().zip(&shard.results) {
                add_counts(sum, results);
            }
            totals.rows += shard.rows.load(Relaxed);
            totals.request.add(&shard.request);
            totals.queue.add(&shard.queue);
            totals.compute.add(&shard.compute);
            add_counts(&mut totals.batch_rows, &shard.batch_rows);
            totals.batch_rows_sum += shard.batch_rows_sum.load(Relaxed);
            shard.batch_sizes.add_to(&mut totals.batch_sizes);
            totals.last_ms = totals.last_ms.max(shard.last_ms.load(Relaxed));
            add_counts(&mut totals.found, &shard.found);
            totals.rows_not_run += shard.rows_not_run.load(Relaxed);
        }
        totals.agreement = Agreement {
            compared: self.agreement.compared.load(Relaxed),
            differ: self.agreement.differ.load(Relaxed),
            dropped: self.agreement.dropped.load(Relaxed),
        };
        totals
    }
}

fn add_counts(sums: &mut [u64], counts: &[AtomicU64]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count.load(Relaxed);
    }
}

/// A small number of the calling thread, the same for its life: spreads threads over shards.
pub(crate) fn thread_number() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) });
    NUMBER.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT.fetch_add(1, Relaxed));
        }
        number.get()
    })
}

/// Sums of one or more arms' counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// By dialect, then by result: `ok`, then each code at its index plus one.
    pub results: [[u64; RESULTS]; Dialect::ALL.len()],
    /// Rows of all requests.
    pub rows: u64,
    /// From head to answer, a request each.
    pub request: TimeTotals,
    /// In the queue, a request each.
    pub queue: TimeTotals,
    /// In the model, a batch each.
    pub compute: TimeTotals,
    /// Batches by rows: 1, 2, 4 … 65536, and above.
    pub batch_rows: [u64; ROW_BUCKETS],
    /// Rows of all batches.
    pub batch_rows_sum: u64,
    /// Batches by their rows, each number by itself.
    pub batch_sizes: BySize,
    /// When a request was last answered well, in milliseconds since 1970; 0: none ever was.
    pub last_ms: u64,
    /// Well answered requests that a cache looked at, by what it did.
    pub found: [u64; Found::ALL.len()],
    /// Rows of those that were not run.
    pub rows_not_run: u64,
    /// A shadow's answers against those that callers got.
    pub agreement: Agreement,
}

/// The sums of a time histogram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeTotals {
    /// All durations together, in nanoseconds.
    pub sum_ns: u64,
    /// How many fell into each bucket of [`BOUNDS_US`], and above.
    pub counts: [u64; BUCKETS],
}

impl TimeTotals {
    fn add(&mut self, histogram: &Histogram) {
        self.sum_ns += histogram.sum_ns.load(Relaxed);
        add_counts(&mut self.counts, &histogram.counts);
    }

    fn merge(&mut self, other: &Self) {
        self.sum_ns += other.sum_ns;
        merge_counts(&mut self.counts, &other.counts);
    }
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            results: [[0; RESULTS]; Dialect::ALL.len()],
            rows: 0,
            request: TimeTotals::default(),
            queue: TimeTotals::default(),
            compute: TimeTotals::default(),
            batch_rows: [0; ROW_BUCKETS],
            batch_rows_sum: 0,
            batch_sizes: BySize::new(),
            last_ms: 0,
            found: [0; Found::ALL.len()],
            rows_not_run: 0,
            agreement: Agreement::default(),
        }
    }
}

fn merge_counts(sums: &mut [u64], counts: &[u64]) {
    for (sum, count) in sums.iter_mut().zip(counts) {
        *sum += count;
    }
}

impl Totals {
    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (sum, results) in self.results.iter_mut().zip(&other.results) {
            merge_counts(sum, results);
        }
        self.rows += other.rows;
        self.request.merge(&other.request);
        self.queue.merge(&other.queue);
        self.compute.merge(&other.compute);
        merge_counts(&mut self.batch_rows, &other.batch_rows);
        self.batch_rows_sum += other.batch_rows_sum;
        batch_sizes::merge(&mut self.batch_sizes, &other.batch_sizes);
        self.last_ms = self.last_ms.max(other.last_ms);
        merge_counts(&mut self.found, &other.found);
        self.rows_not_run += other.rows_not_run;
        self.agreement.compared += other.agreement.compared;
        self.agreement.differ += other.agreement.differ;
        self.agreement.dropped += other.agreement.dropped;
    }

    /// Requests answered, well or not.
    pub fn requests(&self) -> u64 {
        self.results.iter().flatten().sum()
    }

    /// Runs of the model.
    pub fn batches(&self) -> u64 {
        self.batch_rows.iter().sum()
    }

    /// Requests by dialect and result (`ok` is none), those that are not zero.
    pub fn by_result(&self) -> impl Iterator<Item = (Dialect, Option<ErrorCode>, u64)> + '_ {
        Dialect::ALL
            .into_iter()
            .flat_map(|dialect| results_of(dialect, &self.results[dialect.index()]))
    }

    /// Whether nothing was ever counted.
    pub fn is_empty(&self) -> bool {
        self.requests() == 0 && self.batches() == 0 && self.agreement == Agreement::default()
    }
}

fn results_of(
    dialect: Dialect,
    results: &[u64; RESULTS],
) -> impl Iterator<Item = (Dialect, Option<ErrorCode>, u64)> + '_ {
    results.iter().enumerate().filter(|(_, count)| **count > 0).map(move |(index, &count)| {
        (dialect, index.checked_sub(1).map(|code| ErrorCode::ALL[code]), count)
    })
}

#[cfg(test)]
#[path = "counters_test.rs"]
mod tests;
