//! Answers of Classify and Regress: what of a model's outputs is a class, a score or a value.

use std::borrow::Cow;

use bytemuck::Pod;
use dukou_types::{DType, Dim, ErrorCode, Failure, Signature, Tensor, TensorSpec};
use half::{bf16, f16};

use crate::{Telling, sentence};

/// Demands a signature that can be told so, before anything runs.
///
/// # Errors
/// `wire.unsupported`, in TensorFlow Serving's words.
pub(crate) fn check(signature: &Signature, telling: Telling) -> Result<(), Failure> {
    let specs = &signature.outputs;
    let can = match telling {
        Telling::Classes => scores_of(specs.iter()).is_some() || labels_of(specs.iter()).is_some(),
        Telling::Values => value_of(specs.iter()).is_some(),
    };
    if can {
        return Ok(());
    }
    let outputs = sentence::specs(specs);
    let message = match telling {
        Telling::Classes => format!(
            "Expected classification signature outputs to contain at least one of \"classes\" or \"scores\". \
             Signature was: {outputs}"
        ),
        Telling::Values => format!("No regression outputs found in SignatureDef: {outputs}"),
    };
    Err(Failure::new(ErrorCode::WireUnsupported, message))
}

/// What an output is like, declared or come.
trait Like {
    fn name(&self) -> &str;
    fn dtype(&self) -> DType;
    /// Dimensions.
    fn rank(&self) -> usize;
    /// Whether the second dimension is 1, or may be.
    fn is_narrow(&self) -> bool;
}

impl Like for TensorSpec {
    fn name(&self) -> &str {
        &self.name
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn rank(&self) -> usize {
        self.shape.len()
    }

    fn is_narrow(&self) -> bool {
        !matches!(self.shape.get(1), Some(Dim::Fixed(extent)) if *extent != 1)
    }
}

impl Like for Tensor {
    fn name(&self) -> &str {
        &self.name
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn rank(&self) -> usize {
        self.shape.len()
    }

    fn is_narrow(&self) -> bool {
        self.shape.get(1).is_none_or(|extent| *extent == 1)
    }
}

fn is_floating(output: &impl Like) -> bool {
    matches!(output.dtype(), DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64)
}

/// The one of these with this name, or else the first.
fn named<'o, T: Like>(mut outputs: impl Iterator<Item = &'o T>, name: &str) -> Option<&'o T> {
    let first = outputs.next()?;
    if first.name() == name {
        return Some(first);
    }
    Some(outputs.find(|output| output.name() == name).unwrap_or(first))
}

/// A score for each class of each row.
fn scores_of<'o, T: Like>(outputs: impl Iterator<Item = &'o T>) -> Option<&'o T> {
    named(outputs.filter(|output| output.rank() == 2 && is_floating(*output)), "scores")
}

/// The names of classes, of each row: one, or as many as there are scores.
fn labels_of<'o, T: Like>(outputs: impl Iterator<Item = &'o T>) -> Option<&'o T> {
    let is_one = |output: &&T| {
        matches!(output.dtype(), DType::Bytes | DType::Int64 | DType::Int32)
            && (1..=2).contains(&output.rank())
    };
    named(outputs.filter(is_one), "classes")
}

/// One number a row.
fn value_of<'o, T: Like>(outputs: impl Iterator<Item = &'o T>) -> Option<&'o T> {
    let is_one = |output: &&T| {
        is_floating(*output) && (1..=2).contains(&output.rank()) && output.is_narrow()
    };
    named(outputs.filter(is_one), "outputs")
}

/// Classes with their scores, of one row.
pub(crate) type Row<'t> = Vec<(Cow<'t, str>, f32)>;

/// Classes with their scores, a row each. The names are those of an output that has one for each score, or
/// else the model's own; a model without scores has one class a row.
pub(crate) fn classes<'t>(outputs: &'t [Tensor], labels: &'t [Box<str>]) -> Vec<Row<'t>> {
    let told = labels_of(outputs.iter());
    let Some(scores) = scores_of(outputs.iter()) else {
        let Some(told) = told else { return Vec::new() };
        let count = Tensor::elements(&told.shape).unwrap_or(0);
        return (0..count).map(|row| vec![(text(told, row), 0.0)]).collect();
    };
    let numbers = floats(scores);
    let width = scores.shape[1];
    let told = told.filter(|told| told.shape == scores.shape);
    let name = |row: usize, class: usize| match (told, labels.get(class)) {
        (Some(told), _) => text(told, row * width + class),
        (None, Some(label)) if labels.len() == width => Cow::Borrowed(&**label),
        (None, _) => Cow::Borrowed(""),
    };
    let rows = (0..scores.shape[0]).map(|row| {
        let scored = (0..width).map(|class| {
            let score = numbers.get(row * width + class).copied().unwrap_or(0.0);
            (name(row, class), score)
        });
        scored.collect()
    });
    rows.collect()
}

/// One value a row.
pub(crate) fn values(outputs: &[Tensor]) -> Vec<f32> {
    value_of(outputs.iter()).map_or_else(Vec::new, floats)
}

/// An element as a name.
fn text(tensor: &Tensor, at: usize) -> Cow<'_, str> {
    if let Some(strings) = tensor.strings() {
        return strings.get(at).map_or("".into(), |string| String::from_utf8_lossy(string));
    }
    let bytes = tensor.bytes().unwrap_or_default();
    let number = match tensor.dtype {
        DType::Int32 => element::<i32>(bytes, at).map(i64::from),
        _ => element::<i64>(bytes, at),
    };
    number.map_or("".into(), |number| number.to_string().into())
}

fn element<T: Pod>(bytes: &[u8], at: usize) -> Option<T> {
    let size = size_of::<T>();
    bytes.get(at * size..(at + 1) * size).map(bytemuck::pod_read_unaligned)
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let bytes = tensor.bytes().unwrap_or_default();
    fn each<T: Pod>(bytes: &[u8], convert: impl Fn(T) -> f32) -> Vec<f32> {
        let elements = bytes.chunks_exact(size_of::<T>());
        elements.map(|chunk| convert(bytemuck::pod_read_unaligned(chunk))).collect()
    }
    match tensor.dtype {
        DType::Fp64 => each::<f64>(bytes, |n| n as f32),
        DType::Fp16 => each::<f16>(bytes, f16::to_f32),
        DType::Bf16 => each::<bf16>(bytes, bf16::to_f32),
        _ => each::<f32>(bytes, |n| n),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dukou_types::{Buffer, Data};

    use super::*;

    fn floating(name: &str, shape: &[usize], numbers: &[f32]) -> Tensor {
        let mut buffer = Buffer::zeroed(numbers.len() * 4);
        buffer.typed_mut::<f32>().copy_from_slice(numbers);
        Tensor {
            name: name.into(),
            dtype: DType::Fp32,
            shape: shape.to_vec(),
            data: Data::Owned(buffer),
        }
    }

    fn texts(name: &str, shape: &[usize], texts: &[&'static str]) -> Tensor {
        let strings = texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        let (shape, data) = (shape.to_vec(), Data::Strings(strings));
        Tensor { name: name.into(), dtype: DType::Bytes, shape, data }
    }

    #[test]
    fn classes_have_names_where_somebody_named_them() {
        let scores = floating("scores", &[1, 2], &[0.25, 0.75]);
        let labels = ["cat".into(), "dog".into()];
        let told = [scores.clone()];
        assert_eq!(classes(&told, &labels), [[("cat".into(), 0.25), ("dog".into(), 0.75)]]);
        assert_eq!(classes(&told, &[])[0][1], ("".into(), 0.75));
        let told = [texts("classes", &[1, 2], &["a", "b"]), scores];
        assert_eq!(classes(&told, &labels)[0][0], ("a".into(), 0.25));
        let told = [texts("label", &[2], &["a", "b"])];
        assert_eq!(classes(&told, &[]), [[("a".into(), 0.0)], [("b".into(), 0.0)]]);
    }

    #[test]
    fn a_value_is_one_number_a_row() {
        let told = [floating("wide", &[1, 2], &[1.0, 2.0]), floating("y", &[2, 1], &[3.0, 4.0])];
        assert_eq!(values(&told), [3.0, 4.0]);
    }
}
