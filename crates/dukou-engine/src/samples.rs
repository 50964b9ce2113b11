//! Requests that the engine makes for itself: to warm a version up, to measure it, to prove that its
//! rows do not depend on each other.
//!
//! Where a version has golden samples theirs are the inputs; a bare file has none, and its inputs are
//! drawn from its signature, the same ones every time.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use dukou_types::{Buffer, DType, Data, Dim, Signature, Tensor};
use half::{bf16, f16};
use smallvec::SmallVec;

/// The inputs of one request, in the signature's order.
pub type Inputs = SmallVec<[Tensor; 2]>;

/// What a free dimension other than the first is taken to be.
const FREE_EXTENT: usize = 8;

/// Inputs of `rows` rows drawn from a signature; the same for the same seed.
///
/// Floats lie in 0..1, bytes in 0..=255, other whole numbers are 0 or 1: indices of any vocabulary and
/// masks alike. A symbol stands for the same extent everywhere.
pub fn draw(signature: &Signature, rows: usize, seed: u64) -> Inputs {
    let mut random = Random(seed);
    let mut symbols: HashMap<Arc<str>, usize> = HashMap::new();
    // Whatever the outputs are: inputs whose first dimension is free take one row where they take any.
    let free = |dim: Option<&Dim>| matches!(dim, Some(Dim::Symbol(_) | Dim::Any(())));
    let rows_are_free = signature.inputs.iter().all(|spec| free(spec.shape.first()));
    if rows_are_free {
        for spec in &signature.inputs {
            if let Some(Dim::Symbol(symbol)) = spec.shape.first() {
                symbols.insert(Arc::clone(symbol), rows);
            }
        }
    }
    let mut inputs = Inputs::new();
    for spec in &signature.inputs {
        let extents = spec.shape.iter().enumerate().map(|(axis, dim)| match dim {
            Dim::Fixed(extent) => *extent,
            Dim::Symbol(symbol) => symbols.get(symbol).copied().unwrap_or(FREE_EXTENT),
            Dim::Any(()) if axis == 0 && rows_are_free => rows,
            Dim::Any(()) => FREE_EXTENT,
        });
        let shape: Vec<usize> = extents.collect();
        let data = random.elements(spec.dtype, Tensor::elements(&shape).unwrap_or(0));
        inputs.push(Tensor { name: Arc::clone(&spec.name), dtype: spec.dtype, shape, data });
    }
    inputs
}

/// `rows` other rows for the same inputs. Floating ones reach to four times the base's largest, on both
/// sides of zero: a model that scales by the largest value of its whole batch gives itself away.
pub fn draw_beside(base: &Inputs, rows: usize, seed: u64) -> Inputs {
    let mut random = Random(seed);
    let beside = base.iter().map(|tensor| {
        let mut shape = tensor.shape.clone();
        if let Some(first) = shape.first_mut() {
            *first = rows;
        }
        let mut data = random.elements(tensor.dtype, Tensor::elements(&shape).unwrap_or(0));
        if let (DType::Fp32, Some(base), Data::Owned(drawn)) =
            (tensor.dtype, tensor.typed::<f32>(), &mut data)
        {
            let largest = base
                .iter()
                .filter(|value| value.is_finite())
                .fold(1.0, |most: f32, v| most.max(v.abs()));
            for value in drawn.typed_mut::<f32>() {
                *value *= 4.0 * largest;
            }
        }
        Tensor { name: Arc::clone(&tensor.name), dtype: tensor.dtype, shape, data }
    });
    beside.collect()
}

/// The rows of all parts one after another; none where dimensions but the first differ.
pub fn join(parts: &[&Inputs]) -> Option<Inputs> {
    let first = parts.first()?;
    let joined = (0..first.len()).map(|input| {
        let tensors: Vec<&Tensor> = parts.iter().map(|part| &part[input]).collect();
        join_tensors(&tensors)
    });
    joined.collect()
}

fn join_tensors(tensors: &[&Tensor]) -> Option<Tensor> {
    let first = tensors.first()?;
    let (_, trailing) = first.shape.split_first()?;
    let rows = tensors.iter().map(|tensor| tensor.rows()).sum();
    if tensors.iter().any(|tensor| tensor.shape.get(1..) != Some(trailing)) {
        return None;
    }
    let data = if first.dtype == DType::Bytes {
        Data::Strings(tensors.iter().filter_map(|t| t.strings()).flatten().cloned().collect())
    } else {
        let bytes: Vec<u8> = tensors.iter().filter_map(|t| t.bytes()).flatten().copied().collect();
        owned(&bytes)
    };
    let shape = std::iter::once(rows).chain(trailing.iter().copied()).collect();
    Some(Tensor { name: Arc::clone(&first.name), dtype: first.dtype, shape, data })
}

/// Rows `start..start + rows` of a tensor; none where it has not so many.
pub fn slice(tensor: &Tensor, start: usize, rows: usize) -> Option<Tensor> {
    let (&all, trailing) = tensor.shape.split_first()?;
    let width = Tensor::elements(trailing)?;
    let end = start.checked_add(rows).filter(|&end| end <= all)?;
    let data = match (tensor.strings(), tensor.dtype.size()) {
        (Some(strings), _) => Data::Strings(strings.get(start * width..end * width)?.to_vec()),
        (None, Some(size)) => owned(tensor.bytes()?.get(start * width * size..end * width * size)?),
        (None, None) => return None,
    };
    let shape = std::iter::once(rows).chain(trailing.iter().copied()).collect();
    Some(Tensor { name: Arc::clone(&tensor.name), dtype: tensor.dtype, shape, data })
}

/// The first row repeated `rows` times; none where an input has no rows.
pub fn repeat(inputs: &Inputs, rows: usize) -> Option<Inputs> {
    let row: Inputs = inputs.iter().map(|tensor| slice(tensor, 0, 1)).collect::<Option<_>>()?;
    join(&vec![&row; rows])
}

fn owned(bytes: &[u8]) -> Data {
    let mut buffer = Buffer::zeroed(bytes.len());
    buffer.bytes_mut().copy_from_slice(bytes);
    Data::Owned(buffer)
}

/// SplitMix64: small, seeded, and good enough for inputs that nobody must guess.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn elements(&mut self, dtype: DType, count: usize) -> Data {
        fn fill<T: bytemuck::Pod>(count: usize, mut draw: impl FnMut() -> T) -> Data {
            let mut buffer = Buffer::zeroed(count * size_of::<T>());
            buffer.typed_mut::<T>().iter_mut().for_each(|slot| *slot = draw());
            Data::Owned(buffer)
        }
        match dtype {
            DType::Uint8 => fill(count, || self.next() as u8),
            DType::Bool | DType::Int8 => fill(count, || (self.next() & 1) as u8),
            DType::Uint16 | DType::Int16 => fill(count, || (self.next() & 1) as u16),
            DType::Uint32 | DType::Int32 => fill(count, || (self.next() & 1) as u32),
            DType::Uint64 | DType::Int64 => fill(count, || self.next() & 1),
            DType::Fp16 => fill(count, || f16::from_f64(self.unit())),
            DType::Bf16 => fill(count, || bf16::from_f64(self.unit())),
            DType::Fp32 => fill(count, || self.unit() as f32),
            DType::Fp64 => fill(count, || self.unit()),
            DType::Bytes => {
                let words = ["0", "1", "a", "the crossing"];
                let word =
                    |draw: u64| Bytes::from_static(words[draw as usize % words.len()].as_bytes());
                Data::Strings((0..count).map(|_| word(self.next())).collect())
            }
        }
    }
}
