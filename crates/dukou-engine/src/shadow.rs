//! What happens to some requests after their callers have their answers: another version answers them too,
//! unseen, and the answers are compared; the tap keeps them for the monitor.
//!
//! Neither is in a caller's way. What there is no room for is dropped and counted.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use dukou_types::{ErrorCode, InferRequest, InferResponse, Principal, RequestId, Tensor};
use smallvec::SmallVec;

use crate::{
    agree::differing_rows,
    counters::RequestCount,
    engine::Engine,
    serving::{Capture, Lane, Model, Shadow},
    table::Dialect,
    tap::Captured,
    visit::Visit,
    way,
};

/// Copies of one model that may be answered at once.
const COPIES: usize = 16;
/// How long a copy may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// A copy gives way to every caller's request.
const PRIORITY: u32 = u32::MAX;

/// What is to happen after one request.
pub struct After {
    shadow: Option<Arc<Shadow>>,
    capture: Option<Capture>,
    inputs: Option<SmallVec<[Tensor; 2]>>,
}

impl After {
    /// Decides by the request's id, so that it is the same requests everywhere.
    pub fn of(model: &Model, lane: &Lane, id: RequestId) -> Self {
        // The split is drawn from the id itself; these are draws of their own.
        let draw = |salt: u64| (id.0 ^ salt).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        let drawn = |below: u64, salt: u64| draw(salt) <= below;
        let shadow = model.shadow.as_ref().filter(|shadow| {
            shadow.lane.version.version != lane.version.version
                && lane.arm.as_str() != "direct"
                && drawn(shadow.below, 0x5ad0)
        });
        Self {
            shadow: shadow.map(Arc::clone),
            capture: model.capture.filter(|capture| drawn(capture.below, 0x7a9)),
            inputs: None,
        }
    }

    /// Copies the inputs, where anything is to happen: the queue takes the request itself.
    pub fn copy(&mut self, request: &InferRequest) {
        if self.shadow.is_some() || self.capture.is_some() {
            self.inputs = Some(request.inputs.clone());
        }
    }

    /// The caller's answer is encoded.
    pub fn happens(
        self,
        engine: &Engine,
        lane: &Arc<Lane>,
        response: InferResponse,
        visit: &Visit<'_>,
    ) {
        let Some(inputs) = self.inputs else { return };
        let copy = self.shadow.map(|shadow| (shadow, inputs.clone(), response.outputs.clone()));
        if let Some(capture) = self.capture {
            let captured = Captured::new(visit, Arc::clone(lane), inputs, response.outputs);
            engine.tap.keep(captured, capture.buffer_bytes);
        }
        if let Some((shadow, inputs, outputs)) = copy {
            send(shadow, lane, visit.id, inputs, outputs);
        }
    }
}

/// Whether a copy failed for what is around it: a full queue, a stall, a version that is going.
fn is_want_of_room(code: ErrorCode) -> bool {
    use ErrorCode::{LimitsDeadline, LimitsQueueFull, ServerCancelled, ServerDraining};
    matches!(code, LimitsQueueFull | LimitsDeadline | ServerDraining | ServerCancelled)
}

/// Has the shadow answer, on this worker, when the caller's answer is on its way.
fn send(
    shadow: Arc<Shadow>,
    lane: &Lane,
    id: RequestId,
    inputs: SmallVec<[Tensor; 2]>,
    said: SmallVec<[Tensor; 2]>,
) {
    let counters = Arc::clone(&shadow.lane.counters);
    let takes = |l: &Lane| -> Vec<_> {
        l.version.signature.inputs.iter().map(|spec| (spec.name.clone(), spec.dtype)).collect()
    };
    if shadow.in_flight.fetch_add(1, Relaxed) >= COPIES || takes(lane) != takes(&shadow.lane) {
        shadow.in_flight.fetch_sub(1, Relaxed);
        counters.copy_dropped();
        return;
    }
    tokio::spawn(async move {
        let began = Instant::now();
        let mut request = InferRequest::new(id, Principal::Engine, inputs);
        request.priority = PRIORITY;
        request.deadline = Some(began + PATIENCE);
        let rows = request.rows();
        let answered = way::answer(&shadow.lane, None, request, began + PATIENCE).await;
        shadow.in_flight.fetch_sub(1, Relaxed);
        let (error, queue) = match answered {
            Ok((answer, ride)) => {
                let (rows, differ) = differing_rows(&said, &answer.outputs);
                counters.compared(rows, differ);
                (None, Some(ride.queue))
            }
            // It did not come to its turn: that says how busy the server is, and nothing of the version.
            Err(failure) if is_want_of_room(failure.code) => {
                counters.copy_dropped();
                return;
            }
            Err(failure) => {
                // Where the caller got an answer and the copy none, the two do not agree.
                counters.compared(rows, rows);
                (Some(failure.code), None)
            }
        };
        counters.request(&RequestCount {
            dialect: Dialect::V2,
            error,
            rows,
            request: began.elapsed(),
            queue,
            found: None,
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_server_is_no_evidence_against_a_version() {
        use ErrorCode::{EngineInternal, LimitsDeadline, RequestRejectedByModel, ServerDraining};
        assert!([LimitsDeadline, ServerDraining].into_iter().all(is_want_of_room));
        assert!(![EngineInternal, RequestRejectedByModel].into_iter().any(is_want_of_room));
    }
}
