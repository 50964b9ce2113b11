//! One run: the batch goes in, every asker hears exactly once, whatever the backend does.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use dukou_exec::{Batch, Execute, Sink};
use dukou_types::{Data, ErrorCode, Failure, InferRequest, InferResponse};

use crate::{
    batcher::{Core, Ride},
    queue::{Asker, Ticket},
};

/// What one request of a batch has heard so far.
#[derive(Default)]
struct Slot {
    answer: Option<Result<InferResponse, Failure>>,
    handed_back: Option<InferRequest>,
}

/// Collects the answers of a run, so that no asker is woken while the instance is still in use.
struct Answers(Vec<Slot>);

impl Sink for Answers {
    fn respond(&mut self, slot: usize, answer: Result<InferResponse, Failure>) {
        let Some(slot) = self.0.get_mut(slot) else {
            return;
        };
        slot.answer = Some(match slot.answer.take() {
            None => answer,
            Some(Err(failure)) => Err(failure),
            Some(Ok(_)) => answer.and(Err(Failure::new(
                ErrorCode::WireUnsupported,
                "the model gives several answers to one request, and this operation returns one",
            ))),
        });
    }

    fn hand_back(&mut self, slot: usize, request: InferRequest) {
        if let Some(slot) = self.0.get_mut(slot) {
            slot.handed_back = Some(request);
        }
    }
}

/// Runs these together on one instance and tells every asker. Where a run of several failed, those
/// that it failed for are tried once more, each alone, after the others have their answers.
pub(crate) fn run(core: &Core, instance: usize, tickets: Vec<Ticket>) {
    let several = tickets.len() > 1;
    let (requests, askers): (Vec<_>, Vec<_>) =
        tickets.into_iter().map(|ticket| (ticket.request, ticket.asker)).unzip();
    let again = run_once(core, instance, requests, askers, several);
    for (request, asker) in again {
        let gone = request.cancel.is_cancelled() || asker.reply.is_closed();
        let late = request.deadline.is_some_and(|deadline| deadline <= core.clock.now());
        if gone || late {
            core.drop_unrun(request, asker);
        } else {
            core.counts.retried();
            run_once(core, instance, vec![request], vec![asker], false);
        }
    }
}

/// One run. Gives the requests that deserve another try, where `retry` allows one.
fn run_once(
    core: &Core,
    instance: usize,
    requests: Vec<InferRequest>,
    askers: Vec<Asker>,
    retry: bool,
) -> Vec<(InferRequest, Asker)> {
    let batch = Batch { requests };
    let (riders, rows) = (batch.requests.len(), batch.rows());
    let mut answers = Answers(Vec::new());
    answers.0.resize_with(riders, Slot::default);

    let started = core.clock.now();
    let outcome =
        catch_unwind(AssertUnwindSafe(|| core.execute.run(instance, batch, &mut answers)));
    let compute = core.clock.now().saturating_duration_since(started);
    if let Some(first) = askers.first() {
        first.account.ran(rows, compute);
    }
    let panicked = outcome.err().map(|payload| broken(payload.as_ref()));

    let mut again = Vec::new();
    for (slot, asker) in answers.0.into_iter().zip(askers) {
        let answer = slot.answer.unwrap_or_else(|| match &panicked {
            Some(failure) => Err(failure.clone()),
            None => Ok(InferResponse::default()),
        });
        match (answer, slot.handed_back) {
            (Err(_), Some(request)) if retry => again.push((request, asker)),
            (answer, handed_back) => {
                if let Some(request) = handed_back {
                    give_back(core.execute.as_ref(), request);
                }
                let queue = started.saturating_duration_since(asker.arrived);
                tell(asker, answer, Ride { queue, compute, rows, requests: riders });
            }
        }
    }
    again
}

/// Answers the asker; one that has gone in the meantime does not hear it.
fn tell(asker: Asker, answer: Result<InferResponse, Failure>, ride: Ride) {
    let _gone = asker.reply.send(answer.map(|response| (response, ride)));
}

/// Returns the leases of a request that will not run.
pub(crate) fn give_back(execute: &dyn Execute, request: InferRequest) {
    for tensor in request.inputs {
        if let Data::Owned(buffer) = tensor.data {
            execute.give_back(buffer);
        }
    }
}

/// What a backend that panicked is reported as: a fault of ours, its words for the log alone.
fn broken(payload: &(dyn Any + Send)) -> Failure {
    let words = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    Failure::new(ErrorCode::EngineInternal, "the backend failed while it ran this request")
        .with_detail(format!("the backend panicked: {words}"))
}

impl Ride {
    /// A ride of a request that was answered without one, as from a cache.
    pub const NONE: Self =
        Self { queue: Duration::ZERO, compute: Duration::ZERO, rows: 0, requests: 0 };
}
