//! An answer's message. Numbers go as raw bytes, as Triton's do; what is large stands in the answer as it
//! lies in the model's memory and is not copied.

use dukou_types::{InferResponse, Param, Tensor};
use smallvec::SmallVec;

use crate::{
    EncodeContext, Encoded,
    grpc::{
        PREFIX, prefix, push_bytes, push_length, push_message, push_number, push_varint, varint_len,
    },
    rope::{Inserts, push_elements},
};

/// Appends an answer's message to `out`; large tensors stand beside it, at their places of `out`.
pub fn encode(response: &InferResponse, context: &EncodeContext<'_>, out: &mut Vec<u8>) -> Encoded {
    push_bytes(out, 1, context.model.as_bytes());
    push_bytes(out, 2, context.version.as_bytes());
    push_bytes(out, 3, context.client_id.unwrap_or_default().as_bytes());
    for (name, value) in &response.parameters {
        push_parameter(out, 4, name, value);
    }
    push_tensors(out, 5, &response.outputs);
    Encoded { inserts: push_raws(out, 6, &response.outputs), ..Encoded::default() }
}

/// Appends tensors without their elements.
pub(super) fn push_tensors(out: &mut Vec<u8>, number: u32, tensors: &[Tensor]) {
    for tensor in tensors {
        let name = tensor.name.as_bytes();
        let dtype = tensor.dtype.name().as_bytes();
        let shape: usize = tensor.shape.iter().map(|extent| varint_len(*extent as u64)).sum();
        let field = |length: usize| match length {
            0 => 0,
            length => 1 + varint_len(length as u64) + length,
        };
        push_length(out, number, field(name.len()) + field(dtype.len()) + field(shape));
        push_bytes(out, 1, name);
        push_bytes(out, 2, dtype);
        if shape > 0 {
            push_length(out, 3, shape);
            for &extent in &tensor.shape {
                push_varint(out, extent as u64);
            }
        }
    }
}

/// Appends the elements of tensors, each as one run of bytes.
pub(super) fn push_raws(out: &mut Vec<u8>, number: u32, tensors: &[Tensor]) -> Inserts {
    let mut inserts = SmallVec::new();
    for tensor in tensors {
        push_length(out, number, tensor.size());
        push_elements(out, tensor, &mut inserts);
    }
    inserts
}

/// Appends an entry of a map of parameters.
pub(super) fn push_parameter(out: &mut Vec<u8>, number: u32, name: &str, value: &Param) {
    push_message(out, number, |entry| {
        push_bytes(entry, 1, name.as_bytes());
        push_message(entry, 2, |choice| match value {
            // A choice that was made is written, even where it is zero.
            Param::Bool(truth) => choice.extend_from_slice(&[1 << 3, u8::from(*truth)]),
            Param::Int(number) => {
                choice.push(2 << 3);
                push_varint(choice, *number as u64);
            }
            Param::String(text) => {
                push_length(choice, 3, text.len());
                choice.extend_from_slice(text.as_bytes());
            }
            Param::Double(number) => {
                choice.push(4 << 3 | 1);
                choice.extend_from_slice(&number.to_le_bytes());
            }
        });
    });
}

/// The beginning of an answer in a stream, envelope included; the answer's own message of so many bytes
/// follows, and the end, which says that it is the only one of its request.
pub fn encode_streamed(length: usize) -> (Vec<u8>, Vec<u8>) {
    let mut last = Vec::new();
    push_parameter(&mut last, 4, "triton_final_response", &Param::Bool(true));
    let inner = length + last.len();
    let mut head = Vec::with_capacity(PREFIX + 12);
    head.extend_from_slice(&[0; PREFIX]);
    push_length(&mut head, 2, inner);
    let whole = head.len() - PREFIX + inner;
    head[..PREFIX].copy_from_slice(&prefix(0, whole));
    (head, last)
}

/// A failure in a stream, behind room for its envelope: its words, and the client's id of the request.
pub fn encode_streamed_failure(words: &str, client_id: Option<&str>) -> Vec<u8> {
    let mut out = vec![0; PREFIX];
    push_bytes(&mut out, 1, words.as_bytes());
    push_message(&mut out, 2, |answer| {
        push_bytes(answer, 3, client_id.unwrap_or_default().as_bytes());
    });
    let length = out.len() - PREFIX;
    out[..PREFIX].copy_from_slice(&prefix(0, length));
    out
}

/// Appends a field of a truth value.
pub(super) fn push_truth(out: &mut Vec<u8>, number: u32, truth: bool) {
    push_number(out, number, truth.into());
}
