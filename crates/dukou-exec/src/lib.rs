//! What a backend is.
//!
//! Whoever runs a model (ONNX Runtime in process, a worker, another server, a graph of these)
//! implements [`Execute`]; whoever wants answers calls it through a batcher. Neither knows the other.

use dukou_types::{Buffer, Failure, InferRequest, InferResponse, Signature};

/// Requests that ride together. All are for the same model version; where the signature is
/// `batchable`, their trailing dimensions agree and their rows are laid one after another.
#[derive(Debug, Default)]
pub struct Batch {
    /// The requests, in the order in which the sink expects to hear of them.
    pub requests: Vec<InferRequest>,
}

impl Batch {
    /// Rows of all requests together.
    pub fn rows(&self) -> usize {
        self.requests.iter().map(InferRequest::rows).sum()
    }
}

/// Where answers go. `slot` is the request's position in the batch.
///
/// A backend calls `respond` any number of times a slot (streaming gives many, a decoupled model may
/// give none) and then the batch ends with the return of [`Execute::run`]. A slot that heard nothing
/// by then has an empty answer. After an error a slot is closed.
pub trait Sink {
    /// Delivers one answer of one request.
    fn respond(&mut self, slot: usize, answer: Result<InferResponse, Failure>);

    /// Gives back the request of a slot whose run failed, so that its asker's batcher can try it once
    /// more alone: one bad request must not take its neighbours with it. A backend that answers `Err`
    /// because the *run* failed calls this for every such slot, before or after `respond`; one that
    /// has consumed the request, or knows that a second try is useless, need not.
    fn hand_back(&mut self, slot: usize, request: InferRequest) {
        let _ = (slot, request);
    }
}

/// A loaded version of a model, ready to run.
pub trait Execute: Send + Sync + 'static {
    /// What it takes and gives.
    fn signature(&self) -> &Signature;

    /// How many runs can go on at once; each has a number from 0 up.
    fn instances(&self) -> usize;

    /// A buffer of at least `bytes` for the input at this position: a decoder writes the elements
    /// straight into it, and the backend runs on it without another copy. It comes from a pool and
    /// returns there when the request is done (see [`Execute::give_back`]).
    fn lease(&self, input: usize, bytes: usize) -> Buffer;

    /// Takes a lease back.
    fn give_back(&self, buffer: Buffer);

    /// Runs a batch on one instance, on the calling thread, and hears nothing of networks or clocks.
    /// The caller lets no two runs of one instance overlap. Never panics on any input.
    fn run(&self, instance: usize, batch: Batch, sink: &mut dyn Sink);
}
