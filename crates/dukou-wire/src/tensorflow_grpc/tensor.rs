//! `TensorProto`: a dtype, a shape, and elements in one of two forms.
//!
//! `tensor_content` holds them as raw bytes; the `*_val` field of the dtype holds them one by one, the last
//! of which stands for all that are missing. What clients write depends on the dtype and on chance, so both
//! are read.

use bytes::Bytes;
use dukou_types::{Buffer, DType, Data, ErrorCode, Failure, Tensor, TensorSpec};

use crate::{
    grpc::{Fields, Part, Repeated, broken, varint},
    sentence::{self, counted, quoted},
    truths::check_truths,
};

/// The most dimensions a shape may have.
const MOST_DIMENSIONS: usize = 254;
/// Bytes that an element of `DT_STRING` takes here, whatever it holds.
const STRING: usize = size_of::<Bytes>();

/// TensorFlow's number of a dtype.
pub(super) const fn number_of(dtype: DType) -> u64 {
    match dtype {
        DType::Fp32 => 1,
        DType::Fp64 => 2,
        DType::Int32 => 3,
        DType::Uint8 => 4,
        DType::Int16 => 5,
        DType::Int8 => 6,
        DType::Bytes => 7,
        DType::Int64 => 9,
        DType::Bool => 10,
        DType::Bf16 => 14,
        DType::Uint16 => 17,
        DType::Fp16 => 19,
        DType::Uint32 => 22,
        DType::Uint64 => 23,
    }
}

/// The field that carries a dtype's elements one by one.
pub(super) const fn field_of(dtype: DType) -> (u32, &'static str) {
    match dtype {
        DType::Fp32 => (5, "float_val"),
        DType::Fp64 => (6, "double_val"),
        DType::Int32 | DType::Int16 | DType::Int8 | DType::Uint8 | DType::Uint16 => (7, "int_val"),
        DType::Bytes => (8, "string_val"),
        DType::Int64 => (10, "int64_val"),
        DType::Bool => (11, "bool_val"),
        DType::Fp16 | DType::Bf16 => (13, "half_val"),
        DType::Uint32 => (16, "uint32_val"),
        DType::Uint64 => (17, "uint64_val"),
    }
}

/// Reads a tensor for this input. `most` bytes is the most that it may become.
///
/// # Errors
/// Everything that can be wrong with one; the sentence names the input, and both sides.
pub(super) fn read(
    part: Part<'_>,
    spec: &TensorSpec,
    most: usize,
    lease: &mut dyn FnMut(usize) -> Buffer,
) -> Result<Tensor, Failure> {
    read_as("input", part, spec, most, lease)
}

/// The same for an input or an output, as `noun` says.
///
/// # Errors
/// Those of [`read`].
pub(super) fn read_as(
    noun: &str,
    part: Part<'_>,
    spec: &TensorSpec,
    most: usize,
    lease: &mut dyn FnMut(usize) -> Buffer,
) -> Result<Tensor, Failure> {
    let owner = || format!("{noun} {}", quoted(&spec.name));
    let (number, name) = field_of(spec.dtype);
    let (mut dtype, mut shape, mut content) = (0, Vec::new(), Part::whole(&[]));
    let mut values = Repeated::default();
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => dtype = field.number("dtype")?,
            2 => shape = read_shape(field.part("tensor_shape")?, &owner)?,
            4 => content = field.part("tensor_content")?,
            came if came == number => values.push(name, &field),
            _ => {}
        }
    }
    if dtype != number_of(spec.dtype) {
        let came = DType::ALL.into_iter().find(|&other| number_of(other) == dtype);
        let came = came.map_or_else(|| format!("DataType {dtype}"), |other| other.to_string());
        let message = format!("{} is {}, {came} came", owner(), spec.dtype);
        return Err(Failure::new(ErrorCode::RequestWrongDtype, message));
    }
    let width = spec.dtype.size().unwrap_or(STRING);
    let bytes = Tensor::elements(&shape).and_then(|count| count.checked_mul(width));
    let Some(bytes) = bytes.filter(|&bytes| bytes <= most.max(content.len())) else {
        let message = format!(
            "{} has shape {}, which is more than `limits.body_bytes` of the serving table allows: {most}",
            owner(),
            sentence::shape(&shape)
        );
        return Err(Failure::new(ErrorCode::WireShapeOverflow, message));
    };
    let elements = bytes / width;
    let data = if spec.dtype == DType::Bytes {
        Data::Strings(strings(content, &values, elements, &owner)?)
    } else if content.is_empty() {
        let mut buffer = lease(bytes);
        buffer.resize(bytes);
        let came = values.fill(spec.dtype, &mut buffer, &owner)?;
        spread(&mut buffer, came * width, width);
        Data::Owned(buffer)
    } else {
        if content.len() != bytes {
            return Err(miscounted(&owner, &shape, bytes, content.len()));
        }
        let mut buffer = lease(bytes);
        buffer.resize(bytes);
        content.copy_to(buffer.bytes_mut());
        check_truths(spec.dtype, buffer.bytes(), &owner)?;
        Data::Owned(buffer)
    };
    Ok(Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data })
}

/// Has the last element that came stand for all behind it; zero where none came.
fn spread(buffer: &mut Buffer, came: usize, width: usize) {
    let bytes = buffer.bytes_mut();
    if came == 0 {
        bytes.fill(0);
    } else if came < bytes.len() {
        let (before, rest) = bytes.split_at_mut(came);
        let last = &before[came - width..];
        for place in rest.chunks_exact_mut(width) {
            place.copy_from_slice(last);
        }
    }
}

#[cold]
fn miscounted(owner: &dyn Fn() -> String, shape: &[usize], wanted: usize, came: usize) -> Failure {
    let message = format!(
        "{} has shape {}, which is {}; `tensor_content` has {came}",
        owner(),
        sentence::shape(shape),
        counted(wanted, "byte")
    );
    Failure::new(ErrorCode::WireElementCount, message)
}

/// Texts: all their lengths and then all of them, or one by one.
fn strings(
    mut content: Part<'_>,
    values: &Repeated<'_>,
    elements: usize,
    owner: &dyn Fn() -> String,
) -> Result<Vec<Bytes>, Failure> {
    if content.is_empty() {
        let mut strings = values.strings()?;
        let last = strings.last().cloned().unwrap_or_default();
        strings.resize(elements, last);
        return Ok(strings);
    }
    let total = content.len();
    let mut lengths = Vec::with_capacity(elements.min(total));
    for _ in 0..elements {
        lengths.push(usize::try_from(varint(&mut content)?).unwrap_or(usize::MAX));
    }
    let parts = lengths.into_iter().map(|length| content.take(length).map(|part| part.kept()));
    let strings: Option<Vec<Bytes>> = parts.collect();
    match strings {
        Some(strings) if content.is_empty() => Ok(strings),
        _ => {
            let message = format!(
                "{}: the lengths of its {} do not fill its `tensor_content` of {}",
                owner(),
                counted(elements, "text"),
                counted(total, "byte")
            );
            Err(Failure::new(ErrorCode::WireElementCount, message))
        }
    }
}

fn read_shape(part: Part<'_>, owner: &dyn Fn() -> String) -> Result<Vec<usize>, Failure> {
    let refuse = |words: String| {
        let message = format!("`tensor_shape` of {} {words}", owner());
        Failure::new(ErrorCode::WireInvalidField, message)
    };
    let mut shape = Vec::with_capacity(4);
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            2 => {
                if shape.len() == MOST_DIMENSIONS {
                    return Err(refuse(format!("has more than {MOST_DIMENSIONS} dimensions")));
                }
                let mut size = 0;
                let mut dim = Fields::of(field.part("dim")?);
                while let Some(field) = dim.next()? {
                    if field.number == 1 {
                        size = field.number("size")? as i64;
                    }
                }
                let extent = usize::try_from(size)
                    .map_err(|_| refuse(format!("must be whole numbers from 0 up; {size} came")))?;
                shape.push(extent);
            }
            3 if field.number("unknown_rank")? != 0 => {
                return Err(broken(format!("{} has no shape", owner())));
            }
            _ => {}
        }
    }
    Ok(shape)
}
