//! An answer's body: nested lists, by row or by output, as the request came.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dukou_types::{DType, ErrorCode, Failure, InferResponse, Tensor};
use half::{bf16, f16};
use ryu::Float;

use super::example_json;
use crate::{
    Carriage, EncodeContext, Encoded,
    json::{push_float, push_integer, push_text},
    sentence::quoted,
};

/// Appends an answer's body to `out`: `predictions` for rows, `outputs` for whole tensors, `results` for
/// examples; the name is left out where there is one output.
///
/// # Errors
/// `request.wrong-shape` where rows were asked for and an output has none, or not as many as another.
/// `out` is then as it was.
pub fn encode(
    response: &InferResponse,
    context: &EncodeContext<'_>,
    out: &mut Vec<u8>,
) -> Result<Encoded, Failure> {
    if let Carriage::Results { telling, .. } = *context.carriage {
        example_json::encode(response, telling, context, out);
        return Ok(Encoded::default());
    }
    if *context.carriage == Carriage::Rows {
        let rows = rows_of(&response.outputs)?;
        out.extend_from_slice(b"{\"predictions\":");
        push_rows(out, &response.outputs, rows);
    } else {
        out.extend_from_slice(b"{\"outputs\":");
        match &*response.outputs {
            [only] => push_tensor(out, only),
            several => push_named(out, several, push_tensor),
        }
    }
    out.push(b'}');
    Ok(Encoded::default())
}

/// How many rows the outputs have.
pub(crate) fn rows_of(outputs: &[Tensor]) -> Result<usize, Failure> {
    let refuse = |message| Err(Failure::new(ErrorCode::RequestWrongShape, message));
    let mut rows = None;
    for output in outputs {
        let name = quoted(&output.name);
        match (output.shape.first(), rows) {
            (None, _) => {
                return refuse(format!(
                    "Tensor name: {name} has no shape information: it is one value, not one a row; ask with `inputs`"
                ));
            }
            (Some(&came), Some(before)) if came != before => {
                return refuse(format!(
                    "Tensor name: {name} has inconsistent batch size: {came} expecting: {before}; ask with `inputs`"
                ));
            }
            (Some(&came), _) => rows = Some(came),
        }
    }
    Ok(rows.unwrap_or(0))
}

/// Appends a list with one value, or one object of several outputs, a row.
pub(crate) fn push_rows(out: &mut Vec<u8>, outputs: &[Tensor], rows: usize) {
    if let [only] = outputs {
        return push_tensor(out, only);
    }
    out.push(b'[');
    for row in 0..rows {
        if row > 0 {
            out.push(b',');
        }
        push_named(out, outputs, |out, tensor| push_row(out, tensor, row));
    }
    out.push(b']');
}

/// Appends an object with each tensor under its name.
pub(crate) fn push_named(
    out: &mut Vec<u8>,
    tensors: &[Tensor],
    push: impl Fn(&mut Vec<u8>, &Tensor),
) {
    out.push(b'{');
    for (position, tensor) in tensors.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push_text(out, &tensor.name);
        out.push(b':');
        push(out, tensor);
    }
    out.push(b'}');
}

/// Appends a whole tensor.
pub(crate) fn push_tensor(out: &mut Vec<u8>, tensor: &Tensor) {
    push_part(out, tensor, &tensor.shape, 0);
}

/// Appends one row of a tensor that has it.
pub(crate) fn push_row(out: &mut Vec<u8>, tensor: &Tensor, row: usize) {
    let shape = tensor.shape.get(1..).unwrap_or_default();
    // The row exists, so the product does not overflow.
    let size: usize = shape.iter().product();
    push_part(out, tensor, shape, row * size);
}

/// Appends the value of this shape that begins at this element.
fn push_part(out: &mut Vec<u8>, tensor: &Tensor, shape: &[usize], first: usize) {
    if let Some(strings) = tensor.strings() {
        let always = tensor.name.ends_with("_bytes");
        return push_nested(out, shape, first, &mut |out, at| {
            let bytes = strings.get(at).map(|bytes| &bytes[..]).unwrap_or_default();
            match std::str::from_utf8(bytes) {
                Ok(text) if !always => push_text(out, text),
                _ => {
                    out.extend_from_slice(b"{\"b64\":\"");
                    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
                    out.extend_from_slice(b"\"}");
                }
            }
        });
    }
    let bytes = tensor.bytes().unwrap_or_default();
    match tensor.dtype {
        DType::Bool => push_nested(out, shape, first, &mut |out, at| {
            let truth = bytes.get(at).is_some_and(|&byte| byte != 0);
            out.extend_from_slice(if truth { b"true" } else { b"false" });
        }),
        DType::Uint8 => push_typed::<u8>(out, bytes, shape, first, push_integer),
        DType::Uint16 => push_typed::<u16>(out, bytes, shape, first, push_integer),
        DType::Uint32 => push_typed::<u32>(out, bytes, shape, first, push_integer),
        DType::Uint64 => push_typed::<u64>(out, bytes, shape, first, push_integer),
        DType::Int8 => push_typed::<i8>(out, bytes, shape, first, push_integer),
        DType::Int16 => push_typed::<i16>(out, bytes, shape, first, push_integer),
        DType::Int32 => push_typed::<i32>(out, bytes, shape, first, push_integer),
        DType::Int64 => push_typed::<i64>(out, bytes, shape, first, push_integer),
        DType::Fp32 => push_typed::<f32>(out, bytes, shape, first, push_any_float),
        DType::Fp64 => push_typed::<f64>(out, bytes, shape, first, push_any_float),
        DType::Fp16 => push_typed::<f16>(out, bytes, shape, first, |out, value| {
            push_any_float(out, value.to_f32());
        }),
        DType::Bf16 => push_typed::<bf16>(out, bytes, shape, first, |out, value| {
            push_any_float(out, value.to_f32());
        }),
        // Held as strings; without them there is nothing.
        DType::Bytes => out.extend_from_slice(b"[]"),
    }
}

fn push_typed<T: bytemuck::Pod>(
    out: &mut Vec<u8>,
    bytes: &[u8],
    shape: &[usize],
    first: usize,
    push: impl Fn(&mut Vec<u8>, T),
) {
    let size = size_of::<T>();
    push_nested(out, shape, first, &mut |out, at| {
        if let Some(element) = bytes.get(at * size..(at + 1) * size) {
            push(out, bytemuck::pod_read_unaligned(element));
        }
    });
}

/// Appends lists in lists of this shape, from this element on.
fn push_nested(
    out: &mut Vec<u8>,
    shape: &[usize],
    first: usize,
    push: &mut impl FnMut(&mut Vec<u8>, usize),
) {
    let Some((&extent, inner)) = shape.split_first() else {
        return push(out, first);
    };
    out.push(b'[');
    let size: usize = inner.iter().product();
    for position in 0..extent {
        if position > 0 {
            out.push(b',');
        }
        push_nested(out, inner, first + position * size, push);
    }
    out.push(b']');
}

/// A number, or one of the bare words that TensorFlow Serving writes.
fn push_any_float<T: Float + Into<f64> + Copy>(out: &mut Vec<u8>, value: T) {
    let wide: f64 = value.into();
    if wide.is_finite() {
        push_float(out, value);
    } else {
        let word = match (wide.is_nan(), wide > 0.0) {
            (true, _) => "NaN",
            (false, true) => "Infinity",
            (false, false) => "-Infinity",
        };
        out.extend_from_slice(word.as_bytes());
    }
}
