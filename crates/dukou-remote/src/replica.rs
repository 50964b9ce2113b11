//! One replica: where it is, how it is, and what it was asked.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use http::Uri;
use parking_lot::Mutex;
use rustls::{ClientConfig, pki_types::ServerName};

use crate::{
    address::Address,
    balance::{Candidate, PeakEwma},
    gate::{Seen, Serves},
    standing::Standing,
};

/// An answer that takes no longer costs about as much to ask for as to make.
const SHORT: Duration = Duration::from_micros(500);

/// One replica.
#[derive(Debug)]
pub struct Replica {
    /// Where it is.
    pub address: Address,
    /// How its certificate is checked; none where it speaks in clear.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// What an inference is asked at.
    pub infer: Uri,
    /// Whether it is asked in calls of gRPC, over HTTP/2.
    pub calls: bool,
    /// Whether requests go there: fit, and let through by the gate.
    pub open: AtomicBool,
    /// Whether rows of several requests may ride together there.
    rides: AtomicBool,
    /// What was heard of it.
    pub known: Mutex<Known>,
    latency: Mutex<PeakEwma>,
    /// Nanoseconds of its quickest answer of late; the most there can be where it gave none.
    quickest: AtomicU64,
    outstanding: AtomicUsize,
    /// Requests that it was sent.
    pub requests: AtomicU64,
    /// Of these, those that it lost or failed at.
    pub failures: AtomicU64,
    /// Of these, those that another had not answered.
    pub retries: AtomicU64,
}

/// What was heard of a replica.
#[derive(Debug, Default)]
pub struct Known {
    /// Whether it is fit.
    pub standing: Standing,
    /// The revision that it serves.
    pub serves: Serves,
    /// As it wrote it.
    pub revision: Option<Arc<str>>,
    /// The revision at which it said that rows of several requests may ride together.
    pub rides: Option<Arc<str>>,
    /// A lower revision that one probe saw: the next decides.
    lower: Option<u64>,
}

impl Known {
    /// Whether rows may ride together in an answer of this revision.
    pub fn rides_at(&self, revision: Option<&str>) -> bool {
        revision.is_some() && self.rides.as_deref() == revision
    }

    /// An answer or a probe said which revision is served there. An answer may have been on its way
    /// for long and never lowers what is known; of probes two that follow each other do.
    pub fn hears(&mut self, revision: Option<&str>, probe: bool) {
        let serves = Serves::parse(revision);
        if let (Some(known), Some(came)) = (self.serves.number(), serves.number())
            && came < known
            && (!probe || self.lower != Some(came))
        {
            self.lower = probe.then_some(came);
            return;
        }
        if probe || serves.number().is_some() {
            self.lower = None;
            self.serves = serves;
            if self.revision.as_deref() != revision {
                self.revision = revision.map(Into::into);
            }
        }
    }
}

/// A replica as `/state` and `/metrics` show it.
#[derive(Clone, Debug)]
pub struct ReplicaState {
    /// Its address.
    pub replica: String,
    /// Whether it is fit to be asked.
    pub healthy: bool,
    /// Why it is not, or not now.
    pub why: Option<String>,
    /// The revision that it serves.
    pub revision: Option<Arc<str>>,
    /// Requests that it has not answered yet.
    pub outstanding: usize,
    /// What its answers take; none before the first.
    pub latency: Option<Duration>,
    /// Requests that it was sent.
    pub requests: u64,
    /// Of these, those that it lost or failed at.
    pub failures: u64,
    /// Of these, those that another had not answered.
    pub retries: u64,
}

impl Replica {
    /// One of which nothing was heard yet.
    pub fn new(
        address: Address,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
        infer: Uri,
        calls: bool,
    ) -> Self {
        Self {
            address,
            tls,
            infer,
            calls,
            open: AtomicBool::new(false),
            rides: AtomicBool::new(false),
            known: Mutex::default(),
            latency: Mutex::default(),
            quickest: AtomicU64::new(u64::MAX),
            outstanding: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            retries: AtomicU64::new(0),
        }
    }

    /// As the gate sees it.
    pub fn seen(&self, now: Instant) -> Seen {
        let known = self.known.lock();
        Seen { healthy: known.standing.is_up(now), serves: known.serves }
    }

    /// Whether requests go there.
    pub fn is_open(&self) -> bool {
        self.open.load(Acquire)
    }

    /// Opens or closes it.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Release);
    }

    /// Whether rows may ride together there, as far as is known.
    pub fn rides(&self) -> bool {
        self.rides.load(Acquire)
    }

    /// Looks at what is known of that.
    pub fn set_rides(&self) {
        let known = self.known.lock();
        self.rides.store(known.rides_at(known.revision.as_deref()), Release);
    }

    /// Whether it has answered all that it was asked.
    pub fn is_idle(&self) -> bool {
        self.outstanding.load(Relaxed) == 0
    }

    /// Whether its answers are as short as a call's own cost: its quickest of late, whatever waits there.
    pub fn is_short(&self) -> bool {
        self.quickest.load(Relaxed) <= SHORT.as_nanos() as u64
    }

    fn answered_in(&self, took: Duration) {
        self.latency.lock().observe(took, Instant::now());
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // It rises slowly, so that it is of late. Two that meet here may lose one answer, which is no matter.
        let quickest = self.quickest.load(Relaxed);
        self.quickest.store(took.min(quickest.saturating_add(quickest / 64)), Relaxed);
    }

    /// As it is chosen among others.
    pub fn candidate(&self, index: usize, now: Instant) -> Candidate {
        let latency = self.latency.lock().latency(now);
        Candidate { index, latency, outstanding: self.outstanding.load(Relaxed) }
    }

    /// It is sent so many requests in one call; the guard's end says how long that took, however it ended.
    pub fn begin(self: &Arc<Self>, requests: usize) -> Asking {
        self.requests.fetch_add(requests as u64, Relaxed);
        self.outstanding.fetch_add(requests, Relaxed);
        Asking { replica: Arc::clone(self), requests, since: Instant::now(), counts: true }
    }

    /// As `/state` and `/metrics` show it.
    pub fn state(&self, now: Instant, current: Option<u64>) -> ReplicaState {
        let known = self.known.lock();
        let why = known.standing.why_not(now).map(str::to_owned);
        let healthy = why.is_none();
        let behind = match (current, known.serves) {
            (Some(current), Serves::Revision(number)) if number != current => {
                Some(format!("serves r{number}, and callers are given r{current}"))
            }
            _ => None,
        };
        ReplicaState {
            replica: self.address.text.clone(),
            healthy,
            why: why.or(behind),
            revision: known.revision.clone(),
            outstanding: self.outstanding.load(Relaxed),
            latency: self.latency.lock().latency(now),
            requests: self.requests.load(Relaxed),
            failures: self.failures.load(Relaxed),
            retries: self.retries.load(Relaxed),
        }
    }
}

/// A request that a replica has not answered yet.
#[derive(Debug)]
pub struct Asking {
    replica: Arc<Replica>,
    requests: usize,
    since: Instant,
    counts: bool,
}

impl Asking {
    /// It failed at once: how fast says nothing of how fast it answers.
    pub fn ignore_time(mut self) {
        self.counts = false;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.replica.outstanding.fetch_sub(self.requests, Relaxed);
        if self.counts {
            self.replica.answered_in(self.since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_answer_does_not_lower_what_is_known() {
        let mut known = Known::default();
        known.hears(Some("r5"), true);
        known.hears(Some("r6"), false);
        known.hears(Some("r5"), false);
        assert_eq!(known.serves, Serves::Revision(6));
        known.hears(Some("r5"), true);
        assert_eq!(known.serves, Serves::Revision(6), "a probe may have been on its way too");
        known.hears(Some("r5"), true);
        assert_eq!(known.serves, Serves::Revision(5), "it was started again with an older table");
        known.hears(None, false);
        assert_eq!(known.serves, Serves::Revision(5), "an error may say nothing of it");
        known.hears(None, true);
        assert_eq!(known.serves, Serves::Foreign);
    }

    #[test]
    fn whose_answers_are_short_is_seen_and_forgotten() {
        let replica =
            Replica::new(Address::parse("http://a").unwrap(), None, Uri::default(), false);
        assert!(!replica.is_short(), "nobody knows yet");
        replica.answered_in(Duration::from_micros(100));
        replica.answered_in(Duration::from_millis(90));
        assert!(replica.is_short(), "one that waited says nothing");
        (0..200).for_each(|_| replica.answered_in(Duration::from_millis(90)));
        assert!(!replica.is_short());
    }

    #[test]
    fn what_is_outstanding_is_counted_back_however_it_ends() {
        let replica = Arc::new(Replica::new(
            Address::parse("http://a").unwrap(),
            None,
            Uri::default(),
            false,
        ));
        let asking = replica.begin(1);
        assert_eq!(replica.candidate(0, Instant::now()).outstanding, 1);
        asking.ignore_time();
        let candidate = replica.candidate(0, Instant::now());
        assert_eq!((candidate.outstanding, candidate.latency), (0, None));
        drop(replica.begin(1));
        assert!(replica.candidate(0, Instant::now()).latency.is_some());
    }
}
