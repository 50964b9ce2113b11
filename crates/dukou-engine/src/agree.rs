//! Whether two answers are the same, element by element, within a tolerance.

use std::fmt;

use dukou_types::{DType, Tensor};
use half::{bf16, f16};
use serde::Deserialize;

/// How far an answer may be from the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tolerance {
    /// Added to what is relative.
    pub absolute: f64,
    /// Times the magnitude of what was expected.
    pub relative: f64,
}

impl Default for Tolerance {
    /// That of `python/dukou/model/golden.py`: for versions that bring none.
    fn default() -> Self {
        Self { absolute: 1e-4, relative: 1e-3 }
    }
}

impl Tolerance {
    /// At least what arithmetic in this dtype needs: a few units in the last place.
    #[must_use]
    pub fn for_dtype(self, dtype: DType) -> Self {
        let unit = match dtype {
            DType::Fp16 => 2.0_f64.powi(-10),
            DType::Bf16 => 2.0_f64.powi(-7),
            _ => 0.0,
        };
        Self { absolute: self.absolute.max(4.0 * unit), relative: self.relative.max(4.0 * unit) }
    }
}

/// What differs, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(pub String);

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether two tensors agree within a tolerance.
///
/// # Errors
/// The first element that does not, with both sides.
pub fn agree(expected: &Tensor, came: &Tensor, tolerance: Tolerance) -> Result<(), Difference> {
    let name = &expected.name;
    if expected.dtype != came.dtype || expected.shape != came.shape {
        return Err(Difference(format!(
            "output `{name}`: expected {} {:?}, came {} {:?}",
            expected.dtype, expected.shape, came.dtype, came.shape
        )));
    }
    let count = Tensor::elements(&expected.shape).unwrap_or(0);
    for index in 0..count {
        let (want, got) = (element(expected, index), element(came, index));
        if !want.agrees(&got, tolerance) {
            let place = position(&expected.shape, index);
            return Err(Difference(format!(
                "output `{name}` element {place:?}: expected {want}, came {got}"
            )));
        }
    }
    Ok(())
}

/// Whether the largest element of each row is in the same place.
///
/// # Errors
/// The first row where it is not, with both places.
pub fn same_classes(expected: &Tensor, came: &Tensor) -> Result<(), Difference> {
    let width = expected.shape.last().copied().unwrap_or(1).max(1);
    let rows = Tensor::elements(&expected.shape).unwrap_or(0) / width;
    for row in 0..rows {
        let (want, got) = (argmax(expected, row, width), argmax(came, row, width));
        if want != got {
            return Err(Difference(format!(
                "output `{}` row {row}: expected class {want}, came class {got}",
                expected.name
            )));
        }
    }
    Ok(())
}

/// How many rows two answers to one request have, and on how many of them they do not agree on the task:
/// another class by the output that names one, else by the largest number, else numbers that are apart.
pub fn differing_rows(caller: &[Tensor], copy: &[Tensor]) -> (usize, usize) {
    let rows = caller.first().map_or(0, Tensor::rows);
    let of_copy = |tensor: &Tensor| {
        let found = copy.iter().find(|other| *other.name == *tensor.name);
        found.filter(|other| other.dtype == tensor.dtype && other.shape == tensor.shape)
    };
    let width = |tensor: &Tensor| {
        Tensor::elements(&tensor.shape).unwrap_or(0).checked_div(rows.max(1)).unwrap_or(0)
    };
    let is_float = |tensor: &Tensor| {
        matches!(tensor.dtype, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64)
    };
    let label = caller.iter().find(|tensor| !is_float(tensor) && width(tensor) == 1);
    let scores = || caller.iter().find(|t| is_float(t) && t.shape.len() == 2 && width(t) > 1);
    let differ = if let Some(tensor) = label {
        let Some(other) = of_copy(tensor) else { return (rows, rows) };
        (0..rows).filter(|&row| element(tensor, row) != element(other, row)).count()
    } else if let Some(tensor) = scores() {
        let Some(other) = of_copy(tensor) else { return (rows, rows) };
        let width = width(tensor);
        (0..rows).filter(|&row| argmax(tensor, row, width) != argmax(other, row, width)).count()
    } else {
        let apart = |row: usize| {
            caller.iter().any(|tensor| {
                let Some(other) = of_copy(tensor) else { return true };
                let width = width(tensor);
                (row * width..(row + 1) * width)
                    .any(|index| !element(tensor, index).agrees(&element(other, index), APART))
            })
        };
        (0..rows).filter(|&row| apart(row)).count()
    };
    (rows, differ)
}

/// Numbers of two versions that are nearer than this say the same.
const APART: Tolerance = Tolerance { absolute: 1e-3, relative: 0.05 };

fn argmax(tensor: &Tensor, row: usize, width: usize) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for column in 0..width {
        let value = element(tensor, row * width + column).number();
        if value > best.1 {
            best = (column, value);
        }
    }
    best.0
}

/// One element, widened without loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element<'a> {
    /// A floating number.
    Float(f64),
    /// A whole number or truth value.
    Whole(i128),
    /// A string or blob.
    Text(&'a [u8]),
}

impl Element<'_> {
    fn agrees(&self, came: &Self, tolerance: Tolerance) -> bool {
        match (self, came) {
            (Self::Float(want), Self::Float(got)) => {
                (want.is_nan() && got.is_nan())
                    || want == got
                    || (want.is_finite()
                        && (want - got).abs()
                            <= tolerance.absolute + tolerance.relative * want.abs())
            }
            _ => self == came,
        }
    }

    fn number(&self) -> f64 {
        match self {
            Self::Float(value) => *value,
            Self::Whole(value) => *value as f64,
            Self::Text(_) => 0.0,
        }
    }
}

impl fmt::Display for Element<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Float(value) => write!(f, "{value}"),
            Self::Whole(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "\"{}\"", text.escape_ascii()),
        }
    }
}

/// The element at a flat index. An index past the end gives an empty text, which equals no number.
pub fn element(tensor: &Tensor, index: usize) -> Element<'_> {
    fn at<T: bytemuck::Pod>(tensor: &Tensor, index: usize) -> Option<T> {
        let size = size_of::<T>();
        let bytes = tensor.bytes()?.get(index * size..(index + 1) * size)?;
        Some(bytemuck::pod_read_unaligned(bytes))
    }
    fn whole<'a, T: bytemuck::Pod + Into<i128>>(
        tensor: &Tensor,
        index: usize,
    ) -> Option<Element<'a>> {
        at::<T>(tensor, index).map(|value| Element::Whole(value.into()))
    }
    let found = match tensor.dtype {
        DType::Bool | DType::Uint8 => whole::<u8>(tensor, index),
        DType::Uint16 => whole::<u16>(tensor, index),
        DType::Uint32 => whole::<u32>(tensor, index),
        DType::Uint64 => whole::<u64>(tensor, index),
        DType::Int8 => whole::<i8>(tensor, index),
        DType::Int16 => whole::<i16>(tensor, index),
        DType::Int32 => whole::<i32>(tensor, index),
        DType::Int64 => whole::<i64>(tensor, index),
        DType::Fp16 => at::<f16>(tensor, index).map(|value| Element::Float(value.into())),
        DType::Bf16 => at::<bf16>(tensor, index).map(|value| Element::Float(value.into())),
        DType::Fp32 => at::<f32>(tensor, index).map(|value| Element::Float(value.into())),
        DType::Fp64 => at::<f64>(tensor, index).map(Element::Float),
        DType::Bytes => tensor.strings().and_then(|s| s.get(index)).map(|s| Element::Text(s)),
    };
    found.unwrap_or(Element::Text(&[]))
}

fn position(shape: &[usize], mut index: usize) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for (slot, &extent) in place.iter_mut().zip(shape).rev() {
        *slot = index % extent.max(1);
        index /= extent.max(1);
    }
    place
}
