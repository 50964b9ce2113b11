//! An answer's body, and a failure's.
//!
//! Keys stand in Triton's order and `data` is flat. A floating number is written in the shortest form
//! that reads back to the same bits; NaN and the infinities as `null`.

use std::fmt::Display;

use bytemuck::Pod;
use dukou_types::{DType, ErrorCode, Failure, InferResponse, Param, Tensor};

use crate::{
    EncodeContext, Encoded,
    json::{push_float, push_integer, push_text},
    rope::{Inserts, push_elements},
    sentence::quoted,
};

/// Appends an answer's body to `out`; large raw tensors stand beside it, at their places of `out`.
///
/// # Errors
/// `wire.unsupported-dtype` where an output cannot travel as JSON and was not asked for as raw data:
/// FP16, BF16, and `BYTES` that are not UTF-8. `out` is then as it was.
pub fn encode(
    response: &InferResponse,
    context: &EncodeContext<'_>,
    out: &mut Vec<u8>,
) -> Result<Encoded, Failure> {
    let before = out.len();
    out.push(b'{');
    if let Some(id) = context.client_id {
        out.extend_from_slice(b"\"id\":");
        push_text(out, id);
        out.push(b',');
    }
    out.extend_from_slice(b"\"model_name\":");
    push_text(out, context.model);
    out.extend_from_slice(b",\"model_version\":");
    push_text(out, context.version);
    if !response.parameters.is_empty() {
        out.extend_from_slice(b",\"parameters\":");
        push_parameters(out, &response.parameters);
    }
    out.extend_from_slice(b",\"outputs\":");
    let binary = |position| context.carriage.is_binary(position);
    if let Err(failure) = push_tensors(out, &response.outputs, "output", &binary) {
        out.truncate(before);
        return Err(failure);
    }
    out.push(b'}');
    let json = out.len() - before;
    let (mut any, mut inserts) = (false, Inserts::new());
    for (_, tensor) in response.outputs.iter().enumerate().filter(|(place, _)| binary(*place)) {
        any = true;
        push_elements(out, tensor, &mut inserts);
    }
    Ok(Encoded { header_length: any.then_some(json), inserts })
}

/// Appends a list of tensor objects.
pub(super) fn push_tensors(
    out: &mut Vec<u8>,
    tensors: &[Tensor],
    noun: &str,
    binary: &dyn Fn(usize) -> bool,
) -> Result<(), Failure> {
    out.push(b'[');
    for (position, tensor) in tensors.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        push_text(out, &tensor.name);
        out.extend_from_slice(b",\"datatype\":\"");
        out.extend_from_slice(tensor.dtype.name().as_bytes());
        out.extend_from_slice(b"\",\"shape\":");
        push_list(out, tensor.shape.iter(), |out, &extent| push_integer(out, extent));
        if binary(position) {
            out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
            push_integer(out, tensor.size());
            out.push(b'}');
        } else {
            out.extend_from_slice(b",\"data\":");
            push_data(out, tensor).map_err(|reason| cannot(tensor, noun, &reason))?;
        }
        out.push(b'}');
    }
    out.push(b']');
    Ok(())
}

#[cold]
fn cannot(tensor: &Tensor, noun: &str, reason: &str) -> Failure {
    let name = quoted(&tensor.name);
    let remedy = if noun == "output" {
        "ask for it with the parameter `binary_data`: true"
    } else {
        "send it as binary tensor data"
    };
    Failure::new(ErrorCode::WireUnsupportedDtype, format!("{noun} {name} {reason}; {remedy}"))
}

/// Appends a flat list of a tensor's elements, or says why there is no such list.
fn push_data(out: &mut Vec<u8>, tensor: &Tensor) -> Result<(), String> {
    if let Some(strings) = tensor.strings() {
        out.push(b'[');
        for (position, string) in strings.iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            match std::str::from_utf8(string) {
                Ok(text) => push_text(out, text),
                Err(_) => {
                    return Err(format!(
                        "holds bytes that are not UTF-8 (element {position}), which JSON cannot carry"
                    ));
                }
            }
        }
        out.push(b']');
        return Ok(());
    }
    let bytes = tensor.bytes().unwrap_or_default();
    match tensor.dtype {
        DType::Bool => push_list(out, bytes.iter(), |out, &byte| {
            out.extend_from_slice(if byte == 0 { b"false" } else { b"true" })
        }),
        DType::Uint8 => push_list(out, bytes.iter(), |out, &value| push_integer(out, value)),
        DType::Uint16 => push_typed::<u16>(out, bytes, push_integer),
        DType::Uint32 => push_typed::<u32>(out, bytes, push_integer),
        DType::Uint64 => push_typed::<u64>(out, bytes, push_integer),
        DType::Int8 => push_typed::<i8>(out, bytes, push_integer),
        DType::Int16 => push_typed::<i16>(out, bytes, push_integer),
        DType::Int32 => push_typed::<i32>(out, bytes, push_integer),
        DType::Int64 => push_typed::<i64>(out, bytes, push_integer),
        DType::Fp32 => push_typed::<f32>(out, bytes, push_float),
        DType::Fp64 => push_typed::<f64>(out, bytes, push_float),
        DType::Fp16 | DType::Bf16 => {
            return Err(format!("is {}, which does not travel as JSON", tensor.dtype));
        }
        // Held as strings; without them there is nothing.
        DType::Bytes => out.extend_from_slice(b"[]"),
    }
    Ok(())
}

/// Appends elements that may lie at any address.
fn push_typed<T: Pod>(out: &mut Vec<u8>, bytes: &[u8], push: impl Fn(&mut Vec<u8>, T)) {
    let size = size_of::<T>();
    out.reserve(bytes.len() / size * 8);
    push_list(out, bytes.chunks_exact(size), |out, chunk| {
        push(out, bytemuck::pod_read_unaligned(chunk))
    });
}

/// Appends a list.
pub(super) fn push_list<I>(
    out: &mut Vec<u8>,
    items: impl Iterator<Item = I>,
    push: impl Fn(&mut Vec<u8>, I),
) {
    out.push(b'[');
    let mut first = true;
    for item in items {
        if !first {
            out.push(b',');
        }
        first = false;
        push(out, item);
    }
    out.push(b']');
}

/// Appends an object of parameters.
pub(super) fn push_parameters(out: &mut Vec<u8>, parameters: &[(std::sync::Arc<str>, Param)]) {
    out.push(b'{');
    for (position, (name, value)) in parameters.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push_text(out, name);
        out.push(b':');
        match value {
            Param::Bool(truth) => out.extend_from_slice(if *truth { b"true" } else { b"false" }),
            Param::Int(number) => push_integer(out, *number),
            Param::Double(number) => push_float(out, *number),
            Param::String(text) => push_text(out, text),
        }
    }
    out.push(b'}');
}

/// A failure's body. `error` is the sentence, as the protocol has it; the code, what to do and the
/// request's id stand beside it.
pub fn encode_error(failure: &Failure, request_id: impl Display) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"error\":");
    push_text(&mut out, &failure.message);
    out.extend_from_slice(b",\"code\":");
    push_text(&mut out, failure.code.as_str());
    out.extend_from_slice(b",\"remedy\":");
    push_text(&mut out, failure.code.remedy());
    out.extend_from_slice(b",\"request_id\":");
    push_text(&mut out, &request_id.to_string());
    out.push(b'}');
    out
}
