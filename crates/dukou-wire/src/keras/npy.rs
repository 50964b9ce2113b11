//! One array in NumPy's NPY form (versions 1 to 3), for a model of one input.

use bytes::Bytes;
use dukou_types::{DType, Data, ErrorCode, Failure, Signature, Tensor, TensorSpec};
use half::f16;

use crate::{
    sentence::{self, quoted},
    tensorflow::{Lease, check_shapes},
    truths::check_truths,
};

/// What an NPY file begins with.
pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// Reads the array. Floating inputs take any number; the others take their own dtype alone.
///
/// # Errors
/// `wire.invalid-field` for what is no such array, `request.wrong-dtype`, `request.wrong-shape`,
/// `wire.element-count`, `request.missing-input` for a model of several inputs.
pub fn read(body: &Bytes, signature: &Signature, lease: &mut Lease<'_>) -> Result<Tensor, Failure> {
    let [spec] = &*signature.inputs else {
        let message = format!(
            "an NPY body is one array, and the model takes {}",
            sentence::specs(&signature.inputs)
        );
        return Err(Failure::new(ErrorCode::RequestMissingInput, message));
    };
    let tensor = read_for(body, spec, 0, lease)?;
    check_shapes(&signature.inputs, std::slice::from_ref(&tensor))?;
    Ok(tensor)
}

/// Reads the array for the input at this position. Its shape is as it came.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_for(
    body: &Bytes,
    spec: &TensorSpec,
    position: usize,
    lease: &mut Lease<'_>,
) -> Result<Tensor, Failure> {
    let (header, data) = split(body).ok_or_else(|| broken("its header is cut off"))?;
    let descr = between(header, "'descr':", ",").ok_or_else(|| broken("no `descr`"))?;
    let fortran =
        between(header, "'fortran_order':", ",").ok_or_else(|| broken("no `fortran_order`"))?;
    let shape = between(header, "'shape':", ")").ok_or_else(|| broken("no `shape`"))?;
    if fortran != "False" {
        return Err(broken("it is in Fortran order; `numpy.ascontiguousarray` turns it"));
    }
    let source = Source::parse(descr.trim_matches('\'')).ok_or_else(|| {
        broken(&format!(
            "its dtype is {}, and numbers in little-endian order are read",
            quoted(descr)
        ))
    })?;
    let shape: Vec<usize> = shape
        .trim_start_matches('(')
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| broken("its shape is none")))
        .collect::<Result<_, _>>()?;
    let bytes = Tensor::elements(&shape).and_then(|count| count.checked_mul(source.size()));
    if bytes != Some(data.len()) {
        let message = format!(
            "the NPY array has shape {} of {descr}, and {} bytes of data came",
            sentence::shape(&shape),
            data.len()
        );
        return Err(Failure::new(ErrorCode::WireElementCount, message));
    }
    let data = convert(data, source, (spec, position), lease)?;
    Ok(Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data })
}

/// The header's text and the bytes behind it.
fn split(body: &Bytes) -> Option<(&str, &[u8])> {
    let (length, start): (usize, usize) = match body.get(6)? {
        1 => (usize::from(u16::from_le_bytes(body.get(8..10)?.try_into().ok()?)), 10),
        2 | 3 => (u32::from_le_bytes(body.get(8..12)?.try_into().ok()?) as usize, 12),
        _ => return None,
    };
    let end = start.checked_add(length)?;
    Some((std::str::from_utf8(body.get(start..end)?).ok()?, body.get(end..)?))
}

/// The text between two marks, without the space around it.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let rest = &text[text.find(before)? + before.len()..];
    Some(rest[..rest.find(after)?].trim())
}

#[cold]
fn broken(why: &str) -> Failure {
    Failure::new(
        ErrorCode::WireInvalidField,
        format!("the body is no NPY array that is read here: {why}"),
    )
}

/// What the array's elements are.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Source(DType);

impl Source {
    fn parse(descr: &str) -> Option<Self> {
        let dtype = match descr {
            "<f8" => DType::Fp64,
            "<f4" => DType::Fp32,
            "<f2" => DType::Fp16,
            "<i8" => DType::Int64,
            "<i4" => DType::Int32,
            "<i2" => DType::Int16,
            "|i1" => DType::Int8,
            "<u8" => DType::Uint64,
            "<u4" => DType::Uint32,
            "<u2" => DType::Uint16,
            "|u1" => DType::Uint8,
            "|b1" => DType::Bool,
            _ => return None,
        };
        Some(Self(dtype))
    }

    fn size(self) -> usize {
        self.0.size().unwrap_or(1)
    }
}

fn convert(
    data: &[u8],
    source: Source,
    (spec, position): (&TensorSpec, usize),
    lease: &mut Lease<'_>,
) -> Result<Data, Failure> {
    let count = data.len() / source.size();
    let size = spec.dtype.size().unwrap_or(0);
    let floating = matches!(spec.dtype, DType::Fp16 | DType::Fp32 | DType::Fp64);
    if source.0 != spec.dtype && !floating {
        let message = format!(
            "the NPY array is {}, and input {} is {}",
            source.0,
            quoted(&spec.name),
            spec.dtype
        );
        return Err(Failure::new(ErrorCode::RequestWrongDtype, message));
    }
    let mut buffer = lease(position, count * size);
    buffer.resize(count * size);
    if source.0 == spec.dtype {
        check_truths(spec.dtype, data, &|| format!("input {}", quoted(&spec.name)))?;
        buffer.bytes_mut().copy_from_slice(data);
        return Ok(Data::Owned(buffer));
    }
    let values =
        data.chunks_exact(source.size()).map(|bytes| source.0.number(bytes).unwrap_or(f64::NAN));
    match spec.dtype {
        DType::Fp64 => fill(buffer.typed_mut(), values, |value| value),
        DType::Fp16 => fill(buffer.typed_mut(), values, f16::from_f64),
        _ => fill(buffer.typed_mut(), values, |value| value as f32),
    }
    Ok(Data::Owned(buffer))
}

fn fill<T>(slots: &mut [T], values: impl Iterator<Item = f64>, of: impl Fn(f64) -> T) {
    for (slot, value) in slots.iter_mut().zip(values) {
        *slot = of(value);
    }
}
