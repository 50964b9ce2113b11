//! One named array, row-major, little-endian.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Buffer, DType, SharedBytes};

/// A tensor's elements.
#[derive(Clone, Debug)]
pub enum Data {
    /// In a buffer of ours: a lease, filled by a decoder.
    Owned(Buffer),
    /// In memory of someone else's, kept alive: an output on its way out.
    Shared(SharedBytes),
    /// `BYTES`: one entry an element.
    Strings(Vec<Bytes>),
}

/// A named array. `shape` counts elements; the product equals the elements held.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// The name in the signature.
    pub name: Arc<str>,
    /// The element type.
    pub dtype: DType,
    /// The extent of each dimension; empty for a scalar.
    pub shape: Vec<usize>,
    /// The elements, row-major.
    pub data: Data,
}

impl Tensor {
    /// Number of elements; `None` where the product overflows.
    pub fn elements(shape: &[usize]) -> Option<usize> {
        shape.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent))
    }

    /// The extent of the first dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// The elements as bytes (little-endian, row-major); `None` for `BYTES`.
    pub fn bytes(&self) -> Option<&[u8]> {
        match &self.data {
            Data::Owned(buffer) => Some(buffer.bytes()),
            Data::Shared(shared) => Some(shared.as_ref()),
            Data::Strings(_) => None,
        }
    }

    /// The elements as strings; `None` for anything but `BYTES`.
    pub fn strings(&self) -> Option<&[Bytes]> {
        match &self.data {
            Data::Strings(strings) => Some(strings),
            _ => None,
        }
    }

    /// The elements as `T`; `None` for `BYTES`, or where memory is not aligned for `T`.
    pub fn typed<T: bytemuck::Pod>(&self) -> Option<&[T]> {
        bytemuck::try_cast_slice(self.bytes()?).ok()
    }

    /// The element at this position as a number; `None` past the end, and for `BYTES`.
    pub fn number(&self, at: usize) -> Option<f64> {
        let size = self.dtype.size()?;
        self.dtype.number(self.bytes()?.get(at * size..(at + 1) * size)?)
    }

    /// Bytes held, for caps and accounting.
    pub fn size(&self) -> usize {
        match &self.data {
            Data::Owned(buffer) => buffer.len(),
            Data::Shared(shared) => shared.as_ref().len(),
            Data::Strings(strings) => strings.iter().map(|s| s.len() + 4).sum(),
        }
    }
}
