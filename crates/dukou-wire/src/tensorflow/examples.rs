//! `tf.Example`s as a model's inputs: a feature is the input of its name, an example a row.
//!
//! The dialect reads features in its own form; what they are to the model is said here once.

use std::borrow::Cow;

use bytemuck::Pod;
use bytes::Bytes;
use dukou_types::{Buffer, DType, Data, Dim, ErrorCode, Failure, Signature, Tensor, TensorSpec};
use half::{bf16, f16};
use smallvec::SmallVec;

use super::{Lease, check_shapes};
use crate::sentence::{self, quoted};

/// The values of a feature in one example.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Feature {
    /// Texts or blobs.
    Bytes(Vec<Bytes>),
    /// Numbers.
    Floats(Vec<f32>),
    /// Whole numbers.
    Integers(Vec<i64>),
}

impl Feature {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(values) => values.len(),
            Self::Floats(values) => values.len(),
            Self::Integers(values) => values.len(),
        }
    }

    const fn kind(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "bytes_list",
            Self::Floats(_) => "float_list",
            Self::Integers(_) => "int64_list",
        }
    }
}

/// The features of one example, by name; of two with one name the later one counts.
pub(crate) type Example<'a> = Vec<(Cow<'a, str>, Feature)>;

/// The examples of a request, and what all of them have besides: an example's own features count before
/// those of the context.
#[derive(Debug, Default)]
pub(crate) struct Examples<'a> {
    /// The features of all.
    pub(crate) context: Example<'a>,
    /// A row each.
    pub(crate) rows: Vec<Example<'a>>,
}

/// One tensor an input, a row an example. A feature of the context stands once in a request and in every row
/// of its tensor: that becomes `most` bytes at most.
///
/// # Errors
/// `request.missing-input` where an example lacks a feature; `request.wrong-dtype`, `request.wrong-shape`
/// and `wire.not-a-number` where one is not what the input takes; `wire.shape-overflow` where it is too much.
pub(crate) fn tensors(
    examples: &Examples<'_>,
    signature: &Signature,
    most: usize,
    lease: &mut Lease<'_>,
) -> Result<SmallVec<[Tensor; 2]>, Failure> {
    if examples.rows.is_empty() {
        let message = "Input is empty: it holds an example a row";
        return Err(Failure::new(ErrorCode::WireMissingField, message));
    }
    let mut tensors = SmallVec::new();
    for (position, spec) in signature.inputs.iter().enumerate() {
        let named =
            |example: &Example<'_>| example.iter().rposition(|(name, _)| **name == *spec.name);
        let of_all = named(&examples.context).map(|place| &examples.context[place].1);
        let features = examples.rows.iter().enumerate().map(|(row, example)| {
            let own = named(example).map(|place| &example[place].1);
            own.or(of_all).ok_or_else(|| missing(spec, row, signature))
        });
        let features = features.collect::<Result<Vec<_>, Failure>>()?;
        if of_all.is_some() {
            check_size(&features, spec, most)?;
        }
        tensors.push(tensor(&features, spec, &mut |bytes| lease(position, bytes))?);
    }
    check_shapes(&signature.inputs, &tensors)?;
    Ok(tensors)
}

/// Demands that all rows of a feature take `most` bytes at most.
fn check_size(features: &[&Feature], spec: &TensorSpec, most: usize) -> Result<(), Failure> {
    let width = spec.dtype.size().unwrap_or(size_of::<Bytes>());
    let values: usize = features.iter().map(|feature| feature.len()).sum();
    if values.checked_mul(width).is_some_and(|bytes| bytes <= most) {
        return Ok(());
    }
    let message = format!(
        "Feature: {} has {values} values in {} examples, which is more than `limits.body_bytes` of the \
         serving table allows: {most}",
        quoted(&spec.name),
        features.len()
    );
    Err(Failure::new(ErrorCode::WireShapeOverflow, message))
}

#[cold]
fn missing(spec: &TensorSpec, row: usize, signature: &Signature) -> Failure {
    let name = quoted(&spec.name);
    let message = format!(
        "Feature: {} (data type: {}) is required but could not be found in example {row}; the model takes {}",
        name.trim_matches('`'),
        spec.dtype,
        sentence::specs(&signature.inputs)
    );
    Failure::new(ErrorCode::RequestMissingInput, message)
}

fn tensor(
    features: &[&Feature],
    spec: &TensorSpec,
    lease: &mut dyn FnMut(usize) -> Buffer,
) -> Result<Tensor, Failure> {
    let values = features.first().map_or(0, |feature| feature.len());
    if let Some(row) = features.iter().position(|feature| feature.len() != values) {
        let message = format!(
            "Feature: {} has {values} values in example 0 and {} in example {row}",
            quoted(&spec.name),
            features[row].len()
        );
        return Err(Failure::new(ErrorCode::RequestWrongShape, message));
    }
    let shape = shape_of(spec, features.len(), values)?;
    let data = match spec.dtype {
        DType::Bytes => {
            let mut strings = Vec::with_capacity(features.len() * values);
            for feature in features {
                match feature {
                    Feature::Bytes(values) => strings.extend(values.iter().cloned()),
                    other => return Err(other_kind(spec, other)),
                }
            }
            Data::Strings(strings)
        }
        dtype => {
            let bytes = dtype.size().unwrap_or(0) * values * features.len();
            let mut buffer = lease(bytes);
            buffer.resize(bytes);
            for (row, feature) in features.iter().enumerate() {
                fill(&mut buffer, row * values, feature, spec)?;
            }
            Data::Owned(buffer)
        }
    };
    Ok(Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data })
}

/// The shape of so many rows of so many values: the declared one, its one free extent filled in.
fn shape_of(spec: &TensorSpec, rows: usize, values: usize) -> Result<Vec<usize>, Failure> {
    let refuse = || {
        let message = format!(
            "Feature: {} has {values} values an example; the model takes {}",
            quoted(&spec.name),
            sentence::declared(&spec.shape)
        );
        Failure::new(ErrorCode::RequestWrongShape, message)
    };
    let Some((_, inner)) = spec.shape.split_first() else { return Err(refuse()) };
    let fixed = inner.iter().try_fold(1_usize, |product, dim| match dim {
        Dim::Fixed(extent) => product.checked_mul(*extent),
        Dim::Symbol(_) | Dim::Any(()) => Some(product),
    });
    let free = inner.iter().filter(|dim| !matches!(dim, Dim::Fixed(_))).count();
    let fixed = fixed.filter(|fixed| *fixed > 0).ok_or_else(refuse)?;
    let fits = match free {
        0 => values == fixed,
        1 => values.is_multiple_of(fixed),
        _ => false,
    };
    if !fits {
        return Err(refuse());
    }
    let inner = inner.iter().map(|dim| match dim {
        Dim::Fixed(extent) => *extent,
        Dim::Symbol(_) | Dim::Any(()) => values / fixed,
    });
    Ok([rows].into_iter().chain(inner).collect())
}

#[cold]
fn other_kind(spec: &TensorSpec, came: &Feature) -> Failure {
    let message =
        format!("Feature: {} is {}, a {} came", quoted(&spec.name), spec.dtype, came.kind());
    Failure::new(ErrorCode::RequestWrongDtype, message)
}

/// Writes one example's values at this element.
fn fill(
    buffer: &mut Buffer,
    from: usize,
    feature: &Feature,
    spec: &TensorSpec,
) -> Result<(), Failure> {
    match (spec.dtype, feature) {
        (DType::Fp32, Feature::Floats(values)) => put(buffer, from, values, |n| Some(*n)),
        (DType::Fp64, Feature::Floats(values)) => {
            put(buffer, from, values, |n| Some(f64::from(*n)))
        }
        (DType::Fp16, Feature::Floats(values)) => {
            put(buffer, from, values, |n| Some(f16::from_f32(*n)))
        }
        (DType::Bf16, Feature::Floats(values)) => {
            put(buffer, from, values, |n| Some(bf16::from_f32(*n)))
        }
        // A whole number is a number.
        (DType::Fp32, Feature::Integers(values)) => put(buffer, from, values, |n| Some(*n as f32)),
        (DType::Fp64, Feature::Integers(values)) => put(buffer, from, values, |n| Some(*n as f64)),
        (DType::Bool, Feature::Integers(values)) => {
            put(buffer, from, values, |n| u8::try_from(*n).ok().filter(|n| *n < 2))
        }
        (DType::Uint8, Feature::Integers(values)) => whole::<u8>(buffer, from, values),
        (DType::Uint16, Feature::Integers(values)) => whole::<u16>(buffer, from, values),
        (DType::Uint32, Feature::Integers(values)) => whole::<u32>(buffer, from, values),
        (DType::Uint64, Feature::Integers(values)) => whole::<u64>(buffer, from, values),
        (DType::Int8, Feature::Integers(values)) => whole::<i8>(buffer, from, values),
        (DType::Int16, Feature::Integers(values)) => whole::<i16>(buffer, from, values),
        (DType::Int32, Feature::Integers(values)) => whole::<i32>(buffer, from, values),
        (DType::Int64, Feature::Integers(values)) => put(buffer, from, values, |n| Some(*n)),
        (_, other) => return Err(other_kind(spec, other)),
    }
    .map_err(|came| {
        let message =
            format!("Feature: {} holds {came}, and {} does not", quoted(&spec.name), spec.dtype);
        Failure::new(ErrorCode::WireNotANumber, message)
    })
}

fn whole<T: Pod + TryFrom<i64>>(
    buffer: &mut Buffer,
    from: usize,
    values: &[i64],
) -> Result<(), String> {
    put(buffer, from, values, |n| T::try_from(*n).ok())
}

/// Writes converted values; the one that cannot be, in words.
fn put<T: Pod, V: std::fmt::Display>(
    buffer: &mut Buffer,
    from: usize,
    values: &[V],
    convert: impl Fn(&V) -> Option<T>,
) -> Result<(), String> {
    for (place, value) in buffer.typed_mut::<T>().iter_mut().skip(from).zip(values) {
        *place = convert(value).ok_or_else(|| value.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(dtype: DType, inner: &[Dim]) -> Signature {
        let shape = [Dim::Symbol("n".into())].into_iter().chain(inner.iter().cloned()).collect();
        Signature {
            inputs: vec![TensorSpec { name: "x".into(), dtype, shape }],
            ..Signature::default()
        }
    }

    fn read(
        examples: &[Feature],
        dtype: DType,
        inner: &[Dim],
    ) -> Result<(Vec<usize>, Vec<u8>), ErrorCode> {
        let rows = examples.iter().map(|feature| vec![("x".into(), feature.clone())]).collect();
        let examples = Examples { rows, ..Examples::default() };
        tensors(&examples, &signature(dtype, inner), 100, &mut |_, bytes| Buffer::zeroed(bytes))
            .map(|read| (read[0].shape.clone(), read[0].bytes().unwrap_or_default().to_vec()))
            .map_err(|failure| failure.code)
    }

    #[test]
    fn a_feature_is_the_input_of_its_name() {
        let two = [Feature::Integers(vec![1, -2]), Feature::Integers(vec![3, 4])];
        assert_eq!(read(&two, DType::Int8, &[Dim::Fixed(2)]), Ok((vec![2, 2], vec![1, 254, 3, 4])));
        assert_eq!(read(&two, DType::Int8, &[Dim::Any(())]).unwrap().0, [2, 2]);
        assert_eq!(read(&two, DType::Uint8, &[Dim::Fixed(2)]), Err(ErrorCode::WireNotANumber));
        assert_eq!(read(&two, DType::Bytes, &[Dim::Fixed(2)]), Err(ErrorCode::RequestWrongDtype));
        assert_eq!(read(&two, DType::Int8, &[Dim::Fixed(3)]), Err(ErrorCode::RequestWrongShape));
        let floats = [Feature::Floats(vec![1.0])];
        assert_eq!(read(&floats, DType::Fp32, &[]), Ok((vec![1], vec![0, 0, 128, 63])));
        assert_eq!(read(&floats, DType::Int8, &[]), Err(ErrorCode::RequestWrongDtype));
        assert_eq!(read(&[], DType::Fp32, &[]), Err(ErrorCode::WireMissingField));
        let none = Examples { rows: vec![vec![]], ..Examples::default() };
        let mut lease = |_, bytes| Buffer::zeroed(bytes);
        let failure = tensors(&none, &signature(DType::Fp32, &[]), 100, &mut lease);
        assert!(failure.unwrap_err().message.contains("is required but could not be found"));
    }

    #[test]
    fn what_stands_once_for_all_becomes_no_more_than_a_body_may_be() {
        let context: Example<'_> = vec![("x".into(), Feature::Floats(vec![1.0, 2.0]))];
        let own = vec![("x".into(), Feature::Floats(vec![3.0, 4.0]))];
        let read = |rows: Vec<Example<'_>>, most| {
            let examples = Examples { context: context.clone(), rows };
            let mut lease = |_, bytes| Buffer::zeroed(bytes);
            tensors(&examples, &signature(DType::Fp32, &[Dim::Fixed(2)]), most, &mut lease)
        };
        let tensors = read(vec![vec![], own.clone(), vec![]], 24).unwrap();
        assert_eq!(tensors[0].typed::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, 1.0, 2.0]);
        let failure = read(vec![vec![], own, vec![]], 23).unwrap_err();
        assert_eq!(failure.code, ErrorCode::WireShapeOverflow);
        assert!(failure.message.contains("6 values in 3 examples"), "{failure}");
    }
}
