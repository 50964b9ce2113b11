//! A predict answer's message: elements in the `*_val` field of their dtype, as TensorFlow Serving writes
//! them unless it is told otherwise.

use bytes::Bytes;
use dukou_types::{DType, InferResponse, Tensor};
use smallvec::SmallVec;

use super::{
    examples,
    tensor::{field_of, number_of},
};
use crate::{
    Carriage, EncodeContext, Encoded,
    grpc::{push_bytes, push_length, push_message, push_number, push_varint, varint_len},
    rope::{Inserts, push_elements},
    tensorflow::SIGNATURE,
};

/// Appends an answer's message to `out`; large tensors stand beside it, at their places of `out`.
pub fn encode(response: &InferResponse, context: &EncodeContext<'_>, out: &mut Vec<u8>) -> Encoded {
    if let Carriage::Results { telling, several } = *context.carriage {
        examples::encode(response, context, (telling, several), out);
        return Encoded::default();
    }
    let mut inserts: Inserts = SmallVec::new();
    for tensor in &response.outputs {
        push_output(out, tensor, &mut inserts);
    }
    push_message(out, 2, |spec| push_spec(spec, context.model, context.version));
    Encoded { inserts, ..Encoded::default() }
}

/// Appends the fields of a `ModelSpec`; the version where it is a number.
pub(super) fn push_spec(out: &mut Vec<u8>, model: &str, version: &str) {
    push_bytes(out, 1, model.as_bytes());
    if let Ok(version) = version.parse::<i64>() {
        push_message(out, 2, |wrapped| push_number(wrapped, 1, version as u64));
    }
    push_bytes(out, 3, SIGNATURE.as_bytes());
}

/// Appends one entry of the outputs.
fn push_output(out: &mut Vec<u8>, tensor: &Tensor, inserts: &mut Inserts) {
    let mut head = Vec::with_capacity(64);
    push_number(&mut head, 1, number_of(tensor.dtype));
    push_message(&mut head, 2, |shape| {
        for &extent in &tensor.shape {
            push_message(shape, 2, |dim| push_number(dim, 1, extent as u64));
        }
    });
    let (field, _) = field_of(tensor.dtype);
    let elements = Elements::of(tensor);
    let name = tensor.name.as_bytes();
    let proto = head.len() + elements.length(field);
    let sized = |length: usize| 1 + varint_len(length as u64) + length;
    push_length(out, 1, (if name.is_empty() { 0 } else { sized(name.len()) }) + sized(proto));
    push_bytes(out, 1, name);
    push_length(out, 2, proto);
    out.extend_from_slice(&head);
    elements.push(out, field, inserts);
}

/// A tensor's elements, as its field carries them.
enum Elements<'t> {
    /// Packed as they lie in memory.
    Lying(&'t Tensor, &'t [u8]),
    /// Packed as numbers of varying length.
    Packed(Vec<u8>),
    /// One field each.
    Strings(&'t [Bytes]),
}

impl<'t> Elements<'t> {
    fn of(tensor: &'t Tensor) -> Self {
        let bytes = match (tensor.strings(), tensor.bytes()) {
            (Some(strings), _) => return Self::Strings(strings),
            (None, bytes) => bytes.unwrap_or_default(),
        };
        match tensor.dtype {
            // A truth value is a number of one byte.
            DType::Fp32 | DType::Fp64 | DType::Bool => Self::Lying(tensor, bytes),
            DType::Uint8 => packed::<u8>(bytes, u64::from),
            DType::Uint16 | DType::Fp16 | DType::Bf16 => packed::<u16>(bytes, u64::from),
            DType::Uint32 => packed::<u32>(bytes, u64::from),
            DType::Uint64 => packed::<u64>(bytes, u64::from),
            DType::Int8 => packed::<i8>(bytes, |n| i64::from(n) as u64),
            DType::Int16 => packed::<i16>(bytes, |n| i64::from(n) as u64),
            DType::Int32 => packed::<i32>(bytes, |n| i64::from(n) as u64),
            DType::Int64 => packed::<i64>(bytes, |n| n as u64),
            DType::Bytes => Self::Strings(&[]),
        }
    }

    /// Bytes that the field takes.
    fn length(&self, field: u32) -> usize {
        let key = varint_len(u64::from(field) << 3);
        let sized = |length: usize| key + varint_len(length as u64) + length;
        match self {
            Self::Lying(_, []) => 0,
            Self::Lying(_, bytes) => sized(bytes.len()),
            Self::Packed(packed) if packed.is_empty() => 0,
            Self::Packed(packed) => sized(packed.len()),
            Self::Strings(strings) => strings.iter().map(|string| sized(string.len())).sum(),
        }
    }

    fn push(self, out: &mut Vec<u8>, field: u32, inserts: &mut Inserts) {
        match self {
            Self::Lying(_, []) => {}
            Self::Lying(tensor, bytes) => {
                push_length(out, field, bytes.len());
                push_elements(out, tensor, inserts);
            }
            Self::Packed(packed) => push_bytes(out, field, &packed),
            Self::Strings(strings) => {
                for string in strings {
                    push_length(out, field, string.len());
                    out.extend_from_slice(string);
                }
            }
        }
    }
}

fn packed<'t, T: bytemuck::Pod>(bytes: &[u8], number: impl Fn(T) -> u64) -> Elements<'t> {
    let mut packed = Vec::with_capacity(bytes.len() + 8);
    for element in bytes.chunks_exact(size_of::<T>()) {
        push_varint(&mut packed, number(bytemuck::pod_read_unaligned(element)));
    }
    Elements::Packed(packed)
}
