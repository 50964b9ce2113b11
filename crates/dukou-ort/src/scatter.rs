//! Answers out of a run: the runtime's own memory, kept alive and shared by rows.

use std::sync::Arc;

use dukou_types::{
    Buffer, Data, InferRequest, InferResponse, Requested, SharedBytes, Tensor, TensorSpec,
    note_copied_out,
};
use smallvec::SmallVec;

use crate::{
    api::{Status, Value},
    session::Callable,
    signature::dtype_of,
};

/// An output of the whole run.
pub(crate) struct Whole {
    shape: Vec<usize>,
    data: Data,
}

/// What an output may turn out to be a view of.
pub(crate) struct Keep<'a> {
    pub session: &'a Arc<Callable>,
    pub requests: &'a [InferRequest],
    pub scratch: &'a [Buffer],
}

impl Keep<'_> {
    /// Whether memory is one of the run's inputs: a graph may hand an input through.
    fn is_input(&self, place: *const u8) -> bool {
        let tensors =
            self.requests.iter().flat_map(|request| &request.inputs).filter_map(Tensor::bytes);
        tensors
            .chain(self.scratch.iter().map(Buffer::bytes))
            .any(|bytes| bytes.as_ptr_range().contains(&place))
    }
}

/// Memory of the runtime's, kept alive with the session that may own it.
struct OutputMemory {
    place: *const u8,
    len: usize,
    _value: Value,
    _session: Arc<Callable>,
}

impl AsRef<[u8]> for OutputMemory {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the value owns these bytes and lives as long as `self`; nobody writes them any more.
        unsafe { std::slice::from_raw_parts(self.place, self.len) }
    }
}

// SAFETY: the bytes are only read, and a value may be released by any thread.
unsafe impl Send for OutputMemory {}
// SAFETY: as above.
unsafe impl Sync for OutputMemory {}

/// Takes an output over: no copy, unless it is one of the run's own inputs handed through.
pub(crate) fn output(keep: &Keep<'_>, value: Value, spec: &TensorSpec) -> Result<Whole, Status> {
    let (element, shape) = value.shape()?;
    if dtype_of(element) != Some(spec.dtype) {
        return Err(Status::ours(format!("output `{}` came as element type {element}", spec.name)));
    }
    let elements =
        Tensor::elements(&shape).ok_or_else(|| Status::ours("an output's shape overflows"))?;
    let Some(size) = spec.dtype.size() else {
        return Ok(Whole { shape, data: Data::Strings(strings(&value, elements)?) });
    };
    let len =
        elements.checked_mul(size).ok_or_else(|| Status::ours("an output's size overflows"))?;
    let place = value.data()?;
    let memory = OutputMemory { place, len, _value: value, _session: Arc::clone(keep.session) };
    let data = if len > 0 && keep.is_input(place) {
        note_copied_out(len);
        let mut copy = keep.session.runtime.0.pool.lease(len);
        copy.bytes_mut().copy_from_slice(memory.as_ref());
        Data::Owned(copy)
    } else {
        Data::Shared(SharedBytes::new(Arc::new(memory)))
    };
    Ok(Whole { shape, data })
}

fn strings(value: &Value, count: usize) -> Result<Vec<bytes::Bytes>, Status> {
    let (content, offsets) = value.string_content(count)?;
    let content = bytes::Bytes::from(content);
    let ends = offsets.iter().skip(1).copied().chain(std::iter::once(content.len()));
    offsets
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            (start <= end && end <= content.len())
                .then(|| content.slice(start..end))
                .ok_or_else(|| Status::ours("string offsets out of order"))
        })
        .collect()
}

/// Gives every request its rows of every output that it wants. `None` where the outputs have other rows
/// than the requests together.
pub(crate) fn scatter(
    session: &Callable,
    requests: &[InferRequest],
    outputs: &[(usize, Whole)],
) -> Option<Vec<InferResponse>> {
    let total: usize = requests.iter().map(InferRequest::rows).sum();
    if requests.len() > 1 && outputs.iter().any(|(_, whole)| whole.shape.first() != Some(&total)) {
        return None;
    }
    let mut row = 0;
    requests
        .iter()
        .map(|request| {
            let rows = request.rows();
            let part = (requests.len() > 1).then_some((row, rows, total));
            row += rows;
            let tensor = |position: usize| {
                let (_, whole) = outputs.iter().find(|(at, _)| *at == position)?;
                rows_of(whole, part, session.signature.outputs.get(position)?)
            };
            let outputs = match &request.outputs {
                Requested::All => (0..session.signature.outputs.len()).map(tensor).collect(),
                Requested::Only(positions) => positions.iter().copied().map(tensor).collect(),
            };
            let outputs: Option<SmallVec<[Tensor; 2]>> = outputs;
            Some(InferResponse { outputs: outputs?, parameters: Vec::new(), served_by: None })
        })
        .collect()
}

/// Rows `(first, count, of)` of an output, or all of it.
fn rows_of(
    whole: &Whole,
    part: Option<(usize, usize, usize)>,
    spec: &TensorSpec,
) -> Option<Tensor> {
    let mut shape = whole.shape.clone();
    let data = match part {
        None => whole.data.clone(),
        Some((first, count, of)) => {
            *shape.first_mut()? = count;
            let range = |len: usize| {
                let row = len.checked_div(of).unwrap_or(0);
                first * row..(first + count) * row
            };
            match &whole.data {
                Data::Shared(shared) => Data::Shared(shared.slice(range(shared.as_ref().len()))?),
                Data::Strings(strings) => {
                    Data::Strings(strings.get(range(strings.len()))?.to_vec())
                }
                Data::Owned(buffer) => {
                    let bytes = buffer.bytes().get(range(buffer.len()))?;
                    let mut copy = Buffer::zeroed(bytes.len());
                    copy.bytes_mut().copy_from_slice(bytes);
                    Data::Owned(copy)
                }
            }
        }
    };
    Some(Tensor { name: Arc::clone(&spec.name), dtype: spec.dtype, shape, data })
}
