//! Two sessions of one graph must answer alike: asked once, when a compiled form is made.

use dukou_types::{DType, Dim, Tensor, TensorSpec};

use crate::{
    api::{Status, Value},
    session::Callable,
    signature::element_type,
};

/// Free dimensions of the sample: two rows tell more than one.
const FREE: usize = 2;
/// A sample larger than this is not worth its memory.
const MOST_ELEMENTS: usize = 1 << 24;
const TOLERANCE: f64 = 1e-4;

/// Runs both on one made-up input. A graph that refuses it proves nothing and is let pass: golden
/// samples, where there are any, come later.
pub(crate) fn same_answers(expected: &Callable, actual: &Callable) -> Result<(), String> {
    if expected.signature != actual.signature {
        return Err("the compiled graph has another signature".to_owned());
    }
    let signature = &expected.signature;
    let Some(memory) = signature.inputs.iter().map(sample).collect::<Option<Vec<_>>>() else {
        return Ok(());
    };
    let outputs: Vec<usize> = (0..signature.outputs.len()).collect();
    let run = |session: &Callable| -> Result<Vec<Value>, Status> {
        let inputs = memory
            .iter()
            .zip(&signature.inputs)
            .map(|((shape, bytes), spec)| value(session, spec, shape, bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(session.call(&inputs, &outputs)?.into_iter().collect())
    };
    let Ok(wanted) = run(expected) else {
        return Ok(());
    };
    let came = run(actual)
        .map_err(|status| format!("the compiled graph does not run: {}", status.message))?;
    for ((wanted, came), spec) in wanted.iter().zip(&came).zip(&signature.outputs) {
        compare(wanted, came, spec).map_err(|status| status.message)?.then_some(()).ok_or_else(
            || format!("output `{}` of the compiled graph differs from the original's", spec.name),
        )?;
    }
    Ok(())
}

/// A small made-up input: shape and bytes.
fn sample(spec: &TensorSpec) -> Option<(Vec<i64>, Vec<u8>)> {
    let shape: Vec<usize> = spec
        .shape
        .iter()
        .map(|dim| match dim {
            Dim::Fixed(extent) => *extent,
            Dim::Symbol(_) | Dim::Any(()) => FREE,
        })
        .collect();
    let count = Tensor::elements(&shape).filter(|&count| count <= MOST_ELEMENTS)?;
    // Small numbers that differ, so that a mixed-up weight shows.
    let number = |i: usize| ((i * 7) % 13) as f32 / 13.0 - 0.4;
    let bytes = match spec.dtype {
        DType::Fp32 => (0..count).flat_map(|i| number(i).to_le_bytes()).collect(),
        DType::Fp64 => (0..count).flat_map(|i| f64::from(number(i)).to_le_bytes()).collect(),
        // Bits of 0.5, in both 16-bit kinds.
        DType::Fp16 => [0x00, 0x38].repeat(count),
        DType::Bf16 => [0x00, 0x3f].repeat(count),
        DType::Bytes => Vec::new(),
        // Zeros and ones: indices that every table has.
        dtype => {
            let size = dtype.size()?;
            (0..count * size).map(|i| u8::from(i % size == 0 && (i / size) % 2 == 1)).collect()
        }
    };
    Some((shape.iter().map(|&extent| extent as i64).collect(), bytes))
}

fn value(
    session: &Callable,
    spec: &TensorSpec,
    shape: &[i64],
    bytes: &[u8],
) -> Result<Value, Status> {
    let loaded = &session.runtime.0;
    if spec.dtype == DType::Bytes {
        let count = shape.iter().product::<i64>();
        return Value::strings(loaded.api, shape, (0..count).map(|_| &b"a"[..]));
    }
    // SAFETY: the bytes are the caller's and outlive the run.
    unsafe { Value::over(loaded.api, &loaded.memory, bytes, shape, element_type(spec.dtype)) }
}

fn compare(wanted: &Value, came: &Value, spec: &TensorSpec) -> Result<bool, Status> {
    let ((_, shape), (_, other)) = (wanted.shape()?, came.shape()?);
    let count = Tensor::elements(&shape).unwrap_or(0);
    if shape != other || count == 0 {
        return Ok(shape == other);
    }
    let Some(size) = spec.dtype.size() else {
        return Ok(wanted.string_content(count)? == came.string_content(count)?);
    };
    let (left, right) = (wanted.data()?, came.data()?);
    // SAFETY: both values hold `count` elements of `size` bytes and live through this function.
    let (left, right) = unsafe {
        (
            std::slice::from_raw_parts(left, count * size),
            std::slice::from_raw_parts(right, count * size),
        )
    };
    let close = |a: f64, b: f64| {
        a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= TOLERANCE * (1.0 + a.abs())
    };
    let pairs = || left.chunks_exact(size).zip(right.chunks_exact(size));
    Ok(match spec.dtype {
        DType::Fp32 => pairs().all(|(a, b)| {
            let read = |c: &[u8]| f64::from(f32::from_le_bytes([c[0], c[1], c[2], c[3]]));
            close(read(a), read(b))
        }),
        DType::Fp64 => pairs().all(|(a, b)| {
            let read = |c: &[u8]| c.try_into().map(f64::from_le_bytes).unwrap_or(f64::NAN);
            close(read(a), read(b))
        }),
        // Half floats may differ in the last bits when kernels do; golden samples judge those.
        DType::Fp16 | DType::Bf16 => true,
        _ => left == right,
    })
}
