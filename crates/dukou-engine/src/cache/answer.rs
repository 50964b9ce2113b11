//! An answer that is kept: a copy in one piece of memory of its own.
//!
//! The answer that a backend gave may be a slice of a whole batch's, and would keep all of it alive.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use dukou_types::{Buffer, Data, InferResponse, Param, SharedBytes, Tensor};

/// What an entry takes besides its question's bytes and its answer's numbers: the entry's place in the
/// map and its list, two allocations with their counts, the tensors' own fields.
pub const OVERHEAD: usize = 256;
/// The same of each further output.
const OUTPUT_OVERHEAD: usize = 128;
/// The same of each element that is a string.
const STRING_OVERHEAD: usize = size_of::<Bytes>() + 16;
/// Outputs begin at a multiple of this: what reads them expects the alignment of a buffer.
const ALIGNMENT: usize = 64;

/// An answer with the moment from which on it is no longer given.
#[derive(Debug)]
pub struct KeptAnswer {
    response: InferResponse,
    /// None: for as long as there is room.
    pub until: Option<Instant>,
    /// Bytes that it takes, [`OVERHEAD`] included.
    pub size: usize,
}

/// The memory of all outputs of one answer.
struct Memory(Buffer);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

impl KeptAnswer {
    /// A copy of an answer; none where its outputs do not lie as their lengths say.
    pub fn of(response: &InferResponse, until: Option<Instant>) -> Option<Self> {
        let place = |bytes: usize| bytes.next_multiple_of(ALIGNMENT);
        let numbers = response.outputs.iter().filter_map(Tensor::bytes);
        let mut memory = Buffer::zeroed(numbers.clone().map(|bytes| place(bytes.len())).sum());
        let mut begin = 0;
        for bytes in numbers {
            memory.bytes_mut()[begin..begin + bytes.len()].copy_from_slice(bytes);
            begin += place(bytes.len());
        }
        let mut size = OVERHEAD + memory.capacity();
        let memory = SharedBytes::new(Arc::new(Memory(memory)));
        let mut begin = 0;
        let mut outputs = response.outputs.clone();
        for output in &mut outputs {
            size += OUTPUT_OVERHEAD + size_of_val(&*output.shape);
            output.data = match &output.data {
                Data::Strings(strings) => {
                    size += strings.iter().map(|s| s.len() + STRING_OVERHEAD).sum::<usize>();
                    Data::Strings(strings.iter().map(|s| Bytes::copy_from_slice(s)).collect())
                }
                data => {
                    let length = match data {
                        Data::Owned(buffer) => buffer.len(),
                        Data::Shared(shared) => shared.as_ref().len(),
                        Data::Strings(_) => 0,
                    };
                    let part = memory.slice(begin..begin + length)?;
                    begin += place(length);
                    Data::Shared(part)
                }
            };
        }
        size += response.parameters.iter().map(parameter_size).sum::<usize>();
        let response =
            InferResponse { outputs, parameters: response.parameters.clone(), served_by: None };
        Some(Self { response, until, size })
    }

    /// The answer, to be given to somebody: its numbers are shared.
    pub fn response(&self) -> InferResponse {
        self.response.clone()
    }

    /// Whether it is no longer given at `now`.
    pub fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

fn parameter_size((name, value): &(Arc<str>, Param)) -> usize {
    let text = match value {
        Param::String(text) => text.len(),
        Param::Bool(_) | Param::Int(_) | Param::Double(_) => 0,
    };
    64 + name.len() + text
}
