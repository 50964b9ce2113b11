//! One request's visit: what is known of it so far, and the promise that it is written down once.
//!
//! Where the client leaves before its answer is known, the visit is dropped on the way; it is then
//! written down as cancelled, with all that was known.

use std::{
    cell::Cell,
    hash::{BuildHasher as _, RandomState},
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use dukou_batch::Ride;
use dukou_types::{
    CancelFlag, ErrorCode, Failure, InferRequest, Principal, RequestId, ServedBy, Trace,
};
use dukou_wire::{Addressed, Decoded, Target};
use http::{HeaderMap, HeaderValue, Response};

use crate::{
    cache::Found,
    counters::thread_number,
    engine::Engine,
    events::{Level, log},
    private::hide_values,
    record::{InFlight, Outcome},
    reply::Rope,
    security::{SecurityEvent, climbs, is_event},
    serving::Lane,
    stack::Door,
    table::Dialect,
};

/// What is known of a request.
pub struct Visit<'e> {
    /// The engine's id.
    pub id: RequestId,
    /// When its head was complete.
    pub received: Instant,
    /// Who asks.
    pub principal: Principal,
    /// The client's own id.
    pub client_id: Option<Arc<str>>,
    /// Whose rows these are, for the tap alone: it is never written to a log.
    pub subject: Option<Arc<str>>,
    /// The trace that it belongs to.
    pub trace: Trace,
    /// Who answered, where that was another server.
    pub served_by: Option<Box<ServedBy>>,
    /// The table's revision, where the answer says it without a lane.
    pub revision: Option<HeaderValue>,
    /// What a call's message said that it is about.
    pub named: Option<Target>,
    /// Bytes of the body that came.
    pub bytes_in: usize,
    /// Whether that was all of it.
    pub body_was_read: bool,
    engine: &'e Engine,
    listener: &'e str,
    peer: IpAddr,
    dialect: Dialect,
    operation: &'static str,
    asked_model: Option<dukou_types::ModelName>,
    lane: Option<Arc<Lane>>,
    in_flight: Option<InFlight<'e>>,
    rows: usize,
    ride: Option<Ride>,
    found: Option<Found>,
    over: bool,
}

impl<'e> Visit<'e> {
    /// A head is complete.
    pub fn begin(door: &'e Door, headers: &HeaderMap) -> Self {
        let id = next_id();
        Self {
            id,
            trace: trace_of(headers, id),
            served_by: None,
            revision: None,
            named: None,
            received: Instant::now(),
            principal: Principal::Unknown,
            client_id: None,
            subject: None,
            bytes_in: 0,
            body_was_read: false,
            engine: &door.engine,
            listener: &door.listener,
            peer: door.peer,
            dialect: Dialect::V2,
            operation: "unknown",
            asked_model: None,
            lane: None,
            in_flight: None,
            rows: 0,
            ride: None,
            found: None,
            over: false,
        }
    }

    /// It was understood what it asks; or not.
    pub fn asked(&mut self, asked: Option<&Addressed>) {
        let Some(Addressed { dialect, target }) = asked else { return };
        self.dialect = Dialect::from(*dialect);
        self.operation = target.operation();
        self.asked_model = target.model().map(|(model, _)| model.clone());
    }

    /// The model has room for it.
    pub fn admitted(&mut self) {
        self.in_flight = Some(self.engine.recorder.begin());
    }

    /// It was decided which version answers.
    pub fn routed(&mut self, lane: &Arc<Lane>) -> Arc<Lane> {
        self.lane = Some(Arc::clone(lane));
        Arc::clone(lane)
    }

    /// The lane, once it is known.
    pub fn lane(&self) -> Option<&Lane> {
        self.lane.as_deref()
    }

    /// What the later rooms see of it.
    pub fn request(&mut self, decoded: Decoded, deadline: Instant) -> InferRequest {
        let request = InferRequest {
            id: self.id,
            client_id: decoded.client_id,
            principal: self.principal.clone(),
            deadline: Some(deadline),
            cancel: CancelFlag::default(),
            trace: Some(self.trace),
            priority: decoded.priority,
            parameters: decoded.parameters,
            inputs: decoded.inputs,
            outputs: decoded.outputs,
        };
        self.rows = request.rows();
        request
    }

    /// It was run, or the cache had its answer.
    pub fn answered(&mut self, ride: Option<Ride>, found: Option<Found>) {
        self.ride = ride;
        self.found = found;
    }

    /// Its answer is known: writes it down.
    pub fn end(mut self, response: &Response<Rope>, failure: Option<&Failure>, path: &str) {
        self.over = true;
        if let Some(failure) = failure {
            if is_event(failure.code) {
                self.guard(failure.code, failure.detail.as_deref());
            } else {
                self.log(failure);
                if climbs(path) {
                    self.guard(failure.code, Some("the path climbs out of its folder"));
                }
            }
        }
        // A call's failure stands in its status, under a head that says 200.
        let status = match failure {
            Some(failure) if response.status().is_success() => failure.http_status(),
            _ => response.status().as_u16(),
        };
        self.record(status, failure.map(|f| f.code), response.body().len());
    }

    /// Tells whoever guards the server.
    fn guard(&self, code: ErrorCode, detail: Option<&str>) {
        let principal = match &self.principal {
            Principal::Named(name) => Some(&**name),
            _ => None,
        };
        self.engine.security.note(&SecurityEvent {
            code,
            listener: self.listener,
            peer: Some(self.peer),
            id: Some(self.id),
            principal,
            model: self.asked_model.as_ref().map(|model| model.as_str()),
            detail,
        });
    }

    fn log(&self, failure: &Failure) {
        if failure.detail.is_some() || failure.code == ErrorCode::EngineInternal {
            let words = match &failure.detail {
                Some(detail) => format!("{failure} ({detail})"),
                None => failure.to_string(),
            };
            // The caller reads its own values in its answer; the log is not to hold them.
            log(Level::Error, format_args!("request {}: {}", self.id, hide_values(&words)));
        }
    }

    fn record(&self, status: u16, error: Option<ErrorCode>, bytes_out: usize) {
        let duration = |of: fn(&Ride) -> Duration| self.ride.as_ref().map(of);
        self.engine.recorder.record(&Outcome {
            id: self.id,
            trace: Some(self.trace.id),
            client_id: self.client_id.as_deref(),
            listener: self.listener,
            dialect: self.dialect,
            operation: self.operation,
            lane: self.lane.as_ref(),
            asked_model: self.asked_model.as_ref().map(|model| model.as_str()),
            status,
            error,
            received: self.received,
            queue: duration(|ride| ride.queue),
            compute: duration(|ride| ride.compute),
            rows: self.rows,
            batch_rows: self.ride.map_or(0, |ride| ride.rows),
            found: self.found,
            bytes_in: self.bytes_in,
            bytes_out,
            principal: &self.principal,
        });
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.over {
            let code = ErrorCode::ServerCancelled;
            self.record(code.http_status(), Some(code), 0);
        }
    }
}

/// The trace that the client names, or one that begins here. Its last half is then the request's id.
fn trace_of(headers: &HeaderMap, id: RequestId) -> Trace {
    let named = headers.get("traceparent").and_then(|value| value.to_str().ok());
    named.and_then(Trace::parse).unwrap_or_else(|| {
        let first_half = seed().rotate_left(32) | 1;
        Trace { id: (u128::from(first_half) << 64) | u128::from(id.0), parent: 0, flags: 0 }
    })
}

/// A number of this run of the process.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().hash_one(std::process::id()))
}

/// The next id: unique in this process and of another sequence in the next. The last step spreads a
/// counter evenly over all numbers, one to one, so that a split can be drawn from it.
pub(crate) fn next_id() -> RequestId {
    thread_local!(static COUNT: Cell<u64> = const { Cell::new(0) });
    let count = COUNT.with(|count| count.replace(count.get() + 1));
    let number = seed().wrapping_add((thread_number() as u64) << 44).wrapping_add(count);
    // The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    RequestId(mixed ^ (mixed >> 31))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_trace_is_the_clients_or_begins_here() {
        let mut headers = HeaderMap::new();
        let here = trace_of(&headers, RequestId(7));
        assert_eq!((here.id as u64, here.parent, here.flags), (7, 0, 0));
        assert!(here.id >> 64 != 0, "of this process");
        let named = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", named.parse().unwrap());
        assert_eq!(Some(trace_of(&headers, RequestId(7))), Trace::parse(named));
        headers.insert("traceparent", "nonsense".parse().unwrap());
        assert_eq!(trace_of(&headers, RequestId(7)), here);
    }

    #[test]
    fn ids_differ_and_are_spread_evenly() {
        let from_threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..2500).map(|_| next_id().0).collect::<Vec<_>>()))
            .collect();
        let ids: Vec<u64> =
            from_threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 10_000);
        let low = ids.iter().filter(|id| **id < u64::MAX / 10).count();
        assert!((800..1200).contains(&low), "{low} of 10000 in the lowest tenth");
    }
}
