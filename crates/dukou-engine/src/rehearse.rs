//! What a version goes through between being opened and being served: warmed, measured, proved.
//!
//! *Warmed* over the batch sizes that will come, so that the first client does not pay for the
//! runtime's allocations. *Measured*, because a run of a few dozen microseconds is best done by the
//! thread that brings the request. *Proved* to give a row the same answer whatever rides beside it:
//! a model that normalizes over its batch, or quantizes it with one scale, does not, and answers of
//! one client would then depend on another's request.

use std::time::{Duration, Instant};

use dukou_exec::{Batch, Execute, Sink};
use dukou_types::{ErrorCode, Failure, InferRequest, InferResponse, Principal, RequestId, Tensor};

use crate::{
    agree::{Tolerance, agree},
    samples::{self, Inputs},
};

/// Runs that are timed, and how long timing them may take together.
const TIMED_RUNS: usize = 16;
const TIMING: Duration = Duration::from_millis(60);
/// A run that takes longer than this ends the warm-up: larger ones would only delay the swap.
const SLOW_RUN: Duration = Duration::from_millis(200);

/// The caps of a batch, for the warm-up.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Rows of one run.
    pub rows: usize,
    /// Bytes of input of one run.
    pub bytes: usize,
}

/// What a rehearsal showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// The typical run of the sample on a quiet machine; none where no sample could be run.
    pub run: Option<Duration>,
    /// Whether requests may ride together.
    pub batchable: bool,
    /// What its user should be told: why requests ride alone, why nothing was measured.
    pub note: Option<String>,
}

/// Rehearses a version that nobody else uses yet.
///
/// `sample` is one that the version's owner packaged; without one it is drawn from the signature, and
/// a model that refuses that is neither measured nor batched.
///
/// # Errors
/// The failure of the packaged sample's run.
pub fn rehearse(
    execute: &dyn Execute,
    sample: Option<&Inputs>,
    caps: Caps,
) -> Result<Rehearsal, Failure> {
    let drawn;
    let base = match sample {
        Some(sample) => sample,
        None => {
            drawn = samples::draw(execute.signature(), 1, 1);
            &drawn
        }
    };
    match run(execute, 0, base.clone()) {
        Ok(_) => {}
        Err(failure) if sample.is_none() => {
            let note = format!(
                "a sample drawn from the signature was refused ({}): requests ride alone, nothing was measured",
                failure.message
            );
            return Ok(Rehearsal { run: None, batchable: false, note: Some(note) });
        }
        Err(failure) => return Err(failure),
    }
    let (batchable, note) = match prove(execute, base) {
        Ok(()) => (true, None),
        Err(reason) => (false, Some(format!("requests ride alone: {reason}"))),
    };
    warm(execute, base, if batchable { caps } else { Caps { rows: 1, ..caps } });
    let run = measure(execute, base);
    Ok(Rehearsal { run, batchable, note })
}

/// Runs one request on an instance and waits for its answer.
///
/// # Errors
/// What the backend said.
pub fn run(
    execute: &dyn Execute,
    instance: usize,
    inputs: Inputs,
) -> Result<InferResponse, Failure> {
    answer(execute, instance, InferRequest::new(RequestId(0), Principal::Engine, inputs))
}

/// The same for a request that is already made.
///
/// # Errors
/// What the backend said.
pub fn answer(
    execute: &dyn Execute,
    instance: usize,
    request: InferRequest,
) -> Result<InferResponse, Failure> {
    struct One(Option<Result<InferResponse, Failure>>);
    impl Sink for One {
        fn respond(&mut self, _slot: usize, answer: Result<InferResponse, Failure>) {
            self.0.get_or_insert(answer);
        }
    }
    let mut sink = One(None);
    execute.run(instance, Batch { requests: vec![request] }, &mut sink);
    sink.0
        .unwrap_or_else(|| Err(Failure::new(ErrorCode::EngineInternal, "the model gave no answer")))
}

/// Whether a row's answer is the same alone and among different neighbours, in two arrangements.
///
/// Held to the default tolerance, not the version's own: that one says how far another machine may
/// differ, and a dynamically quantized version is given much; neighbours are to make no difference.
fn prove(execute: &dyn Execute, base: &Inputs) -> Result<(), String> {
    let tolerance = Tolerance::default();
    if !execute.signature().has_free_rows() {
        return Err("not every input and output has a free first dimension".into());
    }
    let rows = base.first().map_or(0, Tensor::rows);
    if rows == 0 || base.iter().any(|tensor| tensor.rows() != rows) {
        return Err("the sample's inputs have different numbers of rows".into());
    }
    let alone = run(execute, 0, base.clone()).map_err(|failure| failure.message.into_owned())?;
    for (before, after) in [(0, 3), (2, 1)] {
        let ahead = samples::draw_beside(base, before, 7);
        let behind = samples::draw_beside(base, after, 11);
        let mut parts = vec![base];
        if before > 0 {
            parts.insert(0, &ahead);
        }
        parts.push(&behind);
        let together = samples::join(&parts).ok_or("the sample's rows cannot be joined")?;
        let answers = run(execute, 0, together).map_err(|failure| {
            format!("a batch of {} rows was refused ({})", before + rows + after, failure.message)
        })?;
        for (expected, came) in alone.outputs.iter().zip(&answers.outputs) {
            let part = samples::slice(came, before, rows)
                .filter(|_| came.rows() == before + rows + after)
                .ok_or_else(|| {
                    format!(
                        "output `{}` of {} rows has shape {:?}",
                        came.name,
                        before + rows + after,
                        came.shape
                    )
                })?;
            agree(expected, &part, tolerance.for_dtype(expected.dtype)).map_err(|difference| {
                format!("a row's answer depends on its neighbours ({difference})")
            })?;
        }
    }
    Ok(())
}

/// Runs every batch size that will come, doubling up to the cap, and one row on each further instance.
fn warm(execute: &dyn Execute, base: &Inputs, caps: Caps) {
    let row_bytes: usize = base.iter().map(|tensor| tensor.size() / tensor.rows().max(1)).sum();
    let most = caps.rows.min(caps.bytes / row_bytes.max(1)).max(1);
    let mut rows = 1;
    while let Some(inputs) = samples::repeat(base, rows) {
        let started = Instant::now();
        if run(execute, 0, inputs).is_err() || started.elapsed() > SLOW_RUN || rows >= most {
            break;
        }
        rows = (rows * 2).min(most);
    }
    for instance in 1..execute.instances() {
        let _ = run(execute, instance, base.clone());
    }
}

/// The lower quartile of some runs of the sample: whatever else this machine does while a version is
/// loaded only ever makes a run longer.
fn measure(execute: &dyn Execute, base: &Inputs) -> Option<Duration> {
    let began = Instant::now();
    let mut times = Vec::with_capacity(TIMED_RUNS);
    while times.len() < TIMED_RUNS && (times.is_empty() || began.elapsed() < TIMING) {
        let inputs = base.clone();
        let started = Instant::now();
        run(execute, 0, inputs).ok()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    times.get(times.len() / 4).copied()
}
