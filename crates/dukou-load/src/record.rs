//! Exact counts and latency histograms of what was sent.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::outcome::Loss;

/// Nanoseconds in an hour: no latency is larger, for no run waits longer for one.
const LARGEST: u64 = 3_600_000_000_000;

/// What became of the requests of one part of a run.
#[derive(Clone)]
pub struct Part {
    /// Answered as they should be.
    pub ok: u64,
    /// Without a good answer, by kind in the order of [`Loss::ALL`].
    pub losses: [u64; Loss::ALL.len()],
    /// Due, but never sent: the run had ended.
    pub unsent: u64,
    /// Answers by status, good and bad.
    pub statuses: BTreeMap<u16, u64>,
    /// Good answers by the `dukou-version` that gave them.
    pub versions: BTreeMap<String, u64>,
    /// Bytes of requests.
    pub sent_bytes: u64,
    /// Bytes of answers.
    pub received_bytes: u64,
    /// Nanoseconds from due to answered, of good answers.
    pub latency: Histogram<u64>,
    /// Nanoseconds from due to sent.
    pub lateness: Histogram<u64>,
    /// When the last of them was over.
    pub last: Option<Instant>,
}

/// One request that is over.
pub struct Finished<'a> {
    /// When it should have been sent.
    pub due: Instant,
    /// When it was.
    pub sent: Instant,
    /// When its answer was complete, or it was lost.
    pub over: Instant,
    /// Bytes of it.
    pub sent_bytes: usize,
    /// Bytes of the answer.
    pub received_bytes: usize,
    /// The status, where one came.
    pub status: Option<u16>,
    /// The version that answered, where it was asked for and said.
    pub version: Option<&'a str>,
    /// Why it has no good answer.
    pub loss: Option<Loss>,
}

#[expect(clippy::expect_used, reason = "constant bounds, which a test below creates")]
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LARGEST, 3).expect("the bounds are valid")
}

impl Default for Part {
    fn default() -> Self {
        Self {
            ok: 0,
            losses: [0; Loss::ALL.len()],
            unsent: 0,
            statuses: BTreeMap::new(),
            versions: BTreeMap::new(),
            sent_bytes: 0,
            received_bytes: 0,
            latency: histogram(),
            lateness: histogram(),
            last: None,
        }
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(LARGEST)
}

impl Part {
    /// Counts one request.
    pub fn add(&mut self, finished: &Finished<'_>) {
        self.sent_bytes += finished.sent_bytes as u64;
        self.received_bytes += finished.received_bytes as u64;
        if let Some(status) = finished.status {
            *self.statuses.entry(status).or_default() += 1;
        }
        self.lateness.saturating_record(nanos(finished.sent - finished.due));
        match finished.loss {
            Some(loss) => self.losses[loss as usize] += 1,
            None => {
                self.ok += 1;
                self.latency.saturating_record(nanos(finished.over - finished.due));
                if let Some(version) = finished.version {
                    self.count_version(version);
                }
            }
        }
        self.last = self.last.max(Some(finished.over));
    }

    fn count_version(&mut self, version: &str) {
        if let Some(count) = self.versions.get_mut(version) {
            *count += 1;
        } else {
            self.versions.insert(version.to_owned(), 1);
        }
    }

    /// Without a good answer, of all kinds.
    pub fn failed(&self) -> u64 {
        self.losses.iter().sum()
    }

    /// Sent.
    pub fn sent(&self) -> u64 {
        self.ok + self.failed()
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.ok += other.ok;
        self.unsent += other.unsent;
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        for (ours, theirs) in self.losses.iter_mut().zip(other.losses) {
            *ours += theirs;
        }
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (version, count) in &other.versions {
            *self.versions.entry(version.clone()).or_default() += count;
        }
        // Equal bounds: adding cannot fail.
        let _ = self.latency.add(&other.latency);
        let _ = self.lateness.add(&other.lateness);
        self.last = self.last.max(other.last);
    }
}

/// All parts that one thread saw.
#[derive(Default)]
pub struct Record {
    /// Before measuring began.
    pub warmup: Part,
    /// Measured, by phase.
    pub phases: Vec<Part>,
    /// Connections made.
    pub connections: u64,
}

impl Record {
    /// The part of this phase.
    pub fn phase(&mut self, at: usize) -> &mut Part {
        if self.phases.len() <= at {
            self.phases.resize_with(at + 1, Part::default);
        }
        &mut self.phases[at]
    }

    /// The part of a phase; the warm-up's where there is none.
    pub fn part(&mut self, phase: Option<usize>) -> &mut Part {
        match phase {
            Some(at) => self.phase(at),
            None => &mut self.warmup,
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        self.warmup.merge(&other.warmup);
        self.connections += other.connections;
        for (at, part) in other.phases.iter().enumerate() {
            self.phase(at).merge(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once_and_losses_have_no_latency() {
        let due = Instant::now();
        let mut part = Part::default();
        let mut finished = Finished {
            due,
            sent: due + Duration::from_millis(3),
            over: due + Duration::from_millis(5),
            sent_bytes: 10,
            received_bytes: 20,
            status: Some(200),
            version: Some("1"),
            loss: None,
        };
        part.add(&finished);
        for loss in Loss::ALL {
            finished.loss = Some(loss);
            part.add(&finished);
        }
        let mut total = Part::default();
        total.merge(&part);
        total.merge(&part);
        assert_eq!((total.ok, total.failed(), total.sent()), (2, 12, 14));
        assert!(total.losses.iter().all(|count| *count == 2));
        assert_eq!(total.versions["1"], 2);
        assert_eq!(total.latency.len(), 2);
        assert_eq!(total.lateness.len(), 14);
        let close = total.latency.max().abs_diff(5_000_000);
        assert!(close < 10_000, "{close}");
    }
}
