//! record: the last room. One call a request feeds the counters, the histograms and the access log.
//!
//! It knows what was answered and nothing of how. It must cost well under two microseconds.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use dukou_types::{ErrorCode, Principal, RequestId};

use crate::{
    access_log::AccessLog, cache::Found, counters::RequestCount, serving::Lane, state::State,
    table::Dialect,
};

/// One answered request, as the doors saw it.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The engine's id.
    pub id: RequestId,
    /// The trace that it belongs to; none where no head could be read.
    pub trace: Option<u128>,
    /// The client's own id.
    pub client_id: Option<&'a str>,
    /// The listener's name.
    pub listener: &'a str,
    /// How it came; none where the listener's first line could not be read.
    pub dialect: Dialect,
    /// `infer`, `metadata`, `ready` …: what was asked for. Only `infer` is counted by arm.
    pub operation: &'static str,
    /// Where it went; none where it failed (or was answered) before a version was chosen.
    pub lane: Option<&'a Arc<Lane>>,
    /// The model's name as asked for, for the log alone, where no lane was chosen.
    pub asked_model: Option<&'a str>,
    /// The status that the client got.
    pub status: u16,
    /// The code of the failure; none is well.
    pub error: Option<ErrorCode>,
    /// When its head had been read.
    pub received: Instant,
    /// How long it waited; none where it never ran.
    pub queue: Option<Duration>,
    /// How long the run that it rode in took; none where it never ran.
    pub compute: Option<Duration>,
    /// Rows it carried; 0 where it was not decoded.
    pub rows: usize,
    /// Rows of the batch it rode in; 0 where it never ran.
    pub batch_rows: usize,
    /// What the cache did; none where the model has none or the request failed.
    pub found: Option<Found>,
    /// Bytes of the body that came.
    pub bytes_in: usize,
    /// Bytes of the body that left.
    pub bytes_out: usize,
    /// Who asked.
    pub principal: &'a Principal,
}

/// Where outcomes go.
#[derive(Debug)]
pub struct Recorder {
    state: Arc<State>,
    log: Arc<AccessLog>,
}

impl Recorder {
    /// A recorder that feeds these two.
    pub fn new(state: Arc<State>, log: Arc<AccessLog>) -> Self {
        Self { state, log }
    }

    /// Writes one request down. Called once a request, after its answer is known. Batches are counted
    /// apart, by [`crate::counters::ArmCounters::batch`].
    pub fn record(&self, outcome: &Outcome<'_>) {
        let request = outcome.received.elapsed();
        match (outcome.lane, outcome.error) {
            (Some(lane), error) => lane.counters.request(&RequestCount {
                dialect: outcome.dialect,
                error,
                rows: outcome.rows,
                request,
                queue: outcome.queue,
                found: outcome.found,
            }),
            (None, Some(code)) => self.state.refused(outcome.dialect, code),
            // Health and metadata are answered from the table: nothing that a decision needs.
            (None, None) => {}
        }
        if self.log.is_open() {
            self.log.write(outcome, request, SystemTime::now());
        }
    }

    /// A request has been admitted; the guard's end says that it was answered or given up.
    pub fn begin(&self) -> InFlight<'_> {
        self.state.gauges.in_flight.fetch_add(1, Relaxed);
        InFlight { state: &self.state }
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct InFlight<'a> {
    state: &'a State,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.state.gauges.in_flight.fetch_sub(1, Relaxed);
    }
}
