//! One batch: gather rows, run, and let `scatter` give the answers out. Nothing is copied that need not be.

use std::sync::Arc;

use dukou_exec::Sink;
use dukou_types::{
    Buffer, DType, Data, ErrorCode, Failure, InferRequest, InferResponse, Requested, Tensor,
    note_copied_in,
};
use smallvec::SmallVec;

use crate::{
    api::{Status, Value},
    refusal,
    scatter::{Keep, Whole, output, scatter},
    session::Callable,
    signature::element_type,
};

/// Slots whose *run* failed: a second try may help them. (What was refused before is refused again.)
pub(crate) type Failed = SmallVec<[usize; 4]>;

/// Runs the requests, together where they can ride together, and tells the sink.
pub(crate) fn run(
    session: &Arc<Callable>,
    batchable: bool,
    requests: &[InferRequest],
    sink: &mut dyn Sink,
) -> Failed {
    let mut failed = Failed::new();
    if let [_, _, ..] = requests
        && batchable
        && requests.iter().all(|request| check(session, request).is_ok())
        && ride_together(requests)
    {
        match group(session, requests) {
            Ok(Some(answers)) => {
                for (slot, answer) in answers.into_iter().enumerate() {
                    sink.respond(slot, Ok(answer));
                }
                return failed;
            }
            // The outputs do not have the rows of the inputs: each alone, then.
            Ok(None) => {}
            Err(failure) => {
                for slot in 0..requests.len() {
                    failed.push(slot);
                    sink.respond(slot, Err(failure.clone()));
                }
                return failed;
            }
        }
    }
    for (slot, request) in requests.iter().enumerate() {
        if let Err(failure) = check(session, request) {
            sink.respond(slot, Err(failure));
            continue;
        }
        match group(session, std::slice::from_ref(request)) {
            Ok(answers) => {
                let answer = answers.and_then(|mut answers| answers.pop()).ok_or_else(|| {
                    Failure::new(ErrorCode::EngineInternal, "the model gave no answer")
                });
                sink.respond(slot, answer);
            }
            Err(failure) => {
                failed.push(slot);
                sink.respond(slot, Err(failure));
            }
        }
    }
    failed
}

/// What must hold before memory is handed to C: decoders see to it, and this is the last door.
fn check(session: &Callable, request: &InferRequest) -> Result<(), Failure> {
    let signature = &session.signature;
    if request.inputs.len() != signature.inputs.len() {
        return Err(Failure::new(
            ErrorCode::RequestMissingInput,
            format!(
                "the model takes {} inputs, not {}",
                signature.inputs.len(),
                request.inputs.len()
            ),
        ));
    }
    for (tensor, spec) in request.inputs.iter().zip(&signature.inputs) {
        if tensor.dtype != spec.dtype {
            return Err(Failure::new(
                ErrorCode::RequestWrongDtype,
                format!("input `{}` is {}, not {}", spec.name, spec.dtype, tensor.dtype),
            ));
        }
        let elements = Tensor::elements(&tensor.shape).ok_or_else(|| {
            Failure::new(
                ErrorCode::WireShapeOverflow,
                format!("input `{}`: the shape's product overflows", spec.name),
            )
        })?;
        let (held, needed) = match (&tensor.data, spec.dtype.size()) {
            (Data::Strings(strings), None) => (strings.len(), Some(elements)),
            (Data::Owned(_) | Data::Shared(_), Some(size)) => {
                (tensor.bytes().map_or(0, <[u8]>::len), elements.checked_mul(size))
            }
            _ => (0, None),
        };
        if needed != Some(held) {
            return Err(Failure::new(
                ErrorCode::WireElementCount,
                format!("input `{}`: shape {:?} does not fit the data", spec.name, tensor.shape),
            ));
        }
    }
    if let Requested::Only(positions) = &request.outputs
        && positions.iter().any(|&position| position >= signature.outputs.len())
    {
        return Err(Failure::new(
            ErrorCode::RequestUnknownOutput,
            format!("the model has {} outputs", signature.outputs.len()),
        ));
    }
    Ok(())
}

/// Whether every input has rows, as many as its request's others, and the neighbours' trailing extents.
fn ride_together(requests: &[InferRequest]) -> bool {
    let Some(first) = requests.first() else {
        return false;
    };
    requests.iter().all(|request| {
        let rows = request.rows();
        request.inputs.iter().zip(&first.inputs).all(|(tensor, pattern)| {
            tensor.shape.first() == Some(&rows) && tensor.shape.get(1..) == pattern.shape.get(1..)
        })
    })
}

/// Positions of the outputs that somebody wants, in the signature's order.
fn wanted(session: &Callable, requests: &[InferRequest]) -> SmallVec<[usize; 8]> {
    let count = session.signature.outputs.len();
    let all = || (0..count).collect::<SmallVec<[usize; 8]>>();
    if requests.iter().any(|request| request.outputs == Requested::All) {
        return all();
    }
    let union: SmallVec<[usize; 8]> = (0..count)
        .filter(|position| {
            requests.iter().any(|request| match &request.outputs {
                Requested::All => true,
                Requested::Only(positions) => positions.contains(position),
            })
        })
        .collect();
    // The runtime refuses a run without outputs.
    if union.is_empty() { all() } else { union }
}

/// Runs checked requests as one. `None` where the outputs cannot be told apart by rows.
fn group(
    session: &Arc<Callable>,
    requests: &[InferRequest],
) -> Result<Option<Vec<InferResponse>>, Failure> {
    let pool = &session.runtime.0.pool;
    let mut scratch: SmallVec<[Buffer; 2]> = SmallVec::new();
    let outcome = inputs(session, requests, &mut scratch)
        .and_then(|inputs| {
            let wanted = wanted(session, requests);
            let values = session.call(&inputs, &wanted)?;
            values
                .into_iter()
                .zip(&wanted)
                .map(|(value, &position)| {
                    let spec = session.signature.outputs.get(position);
                    let spec =
                        spec.ok_or_else(|| Status::ours("an output that the signature lacks"))?;
                    let keep = Keep { session, requests, scratch: &scratch };
                    Ok((position, output(&keep, value, spec)?))
                })
                .collect::<Result<SmallVec<[(usize, Whole); 4]>, Status>>()
        })
        .map_err(refusal::of_running);
    for buffer in scratch {
        pool.give_back(buffer);
    }
    Ok(scatter(session, requests, &outcome?))
}

/// The inputs as values: over the request's own memory where it rides alone, gathered otherwise.
fn inputs(
    session: &Callable,
    requests: &[InferRequest],
    scratch: &mut SmallVec<[Buffer; 2]>,
) -> Result<SmallVec<[Value; 4]>, Status> {
    let loaded = &session.runtime.0;
    let mut values = SmallVec::new();
    for (position, spec) in session.signature.inputs.iter().enumerate() {
        let parts = requests.iter().filter_map(|request| request.inputs.get(position));
        let first = requests.first().and_then(|request| request.inputs.get(position));
        let Some(first) = first else {
            return Err(Status::ours("a request without its inputs"));
        };
        let mut shape: SmallVec<[i64; 6]> =
            first.shape.iter().map(|&extent| i64::try_from(extent).unwrap_or(i64::MAX)).collect();
        if let ([_, _, ..], Some(rows)) = (requests, shape.first_mut()) {
            let total: usize = requests.iter().map(InferRequest::rows).sum();
            *rows = i64::try_from(total).unwrap_or(i64::MAX);
        }
        if spec.dtype == DType::Bytes {
            let strings = parts.filter_map(Tensor::strings).flatten().map(AsRef::as_ref);
            values.push(Value::strings(loaded.api, &shape, strings)?);
            continue;
        }
        let alone = first.bytes().unwrap_or(&[]);
        let aligned =
            spec.dtype.size().is_none_or(|size| (alone.as_ptr() as usize).is_multiple_of(size));
        let bytes: &[u8] = if requests.len() == 1 && aligned {
            alone
        } else {
            let total = parts.clone().filter_map(Tensor::bytes).map(<[u8]>::len).sum();
            note_copied_in(total);
            let mut gathered = loaded.pool.lease(total);
            let mut rest = gathered.bytes_mut();
            for part in parts.filter_map(Tensor::bytes) {
                let (here, after) = rest.split_at_mut(part.len());
                here.copy_from_slice(part);
                rest = after;
            }
            scratch.push(gathered);
            // The buffer's memory is on the heap: growing `scratch` moves the handle, not the bytes.
            let held = scratch.last().map_or(&[][..], Buffer::bytes);
            // SAFETY: `scratch` outlives the values (its owner drops it after the run) and is not
            // written again.
            unsafe { std::slice::from_raw_parts(held.as_ptr(), held.len()) }
        };
        // SAFETY: requests and scratch outlive the run, and outputs that lie in them are copied.
        values.push(unsafe {
            Value::over(loaded.api, &loaded.memory, bytes, &shape, element_type(spec.dtype))?
        });
    }
    Ok(values)
}
