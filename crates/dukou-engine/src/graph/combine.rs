//! Several outputs become one, element by element.

use std::{hash::Hash, sync::Arc};

use dukou_types::{Buffer, DType, Data, ErrorCode, Failure, SharedBytes, Tensor};

use crate::table::Combine;

/// Combines tensors of one dtype; their shapes may differ, and are then refused.
///
/// # Errors
/// `graph.mismatch` where two shapes differ; `engine.internal` where a tensor is not what it says.
pub fn combine(how: Combine, tensors: &[Tensor], weights: &[u64]) -> Result<Tensor, Failure> {
    let Some(first) = tensors.first() else {
        return Err(broken());
    };
    if let Some(other) = tensors.iter().find(|tensor| tensor.shape != first.shape) {
        return Err(Failure::new(
            ErrorCode::GraphMismatch,
            format!("it combines shape {:?} with shape {:?}", first.shape, other.shape),
        ));
    }
    let data = match (how, first.dtype) {
        (Combine::Mean, DType::Fp32) => {
            mean::<f32>(tensors, weights, f64::from, |mean| mean as f32)
        }
        (Combine::Mean, DType::Fp64) => mean::<f64>(tensors, weights, |x| x, |mean| mean),
        (Combine::Mean, _) => None,
        (Combine::Vote, DType::Bytes) => {
            let columns: Option<Vec<_>> = tensors.iter().map(Tensor::strings).collect();
            columns.and_then(|columns| elect(&columns, weights)).map(Data::Strings)
        }
        (Combine::Vote, dtype) => match dtype.size() {
            Some(1) => vote::<u8>(tensors, weights),
            Some(2) => vote::<u16>(tensors, weights),
            Some(4) => vote::<u32>(tensors, weights),
            Some(8) => vote::<u64>(tensors, weights),
            _ => None,
        },
    };
    let data = data.ok_or_else(broken)?;
    Ok(Tensor { name: first.name.clone(), dtype: first.dtype, shape: first.shape.clone(), data })
}

fn broken() -> Failure {
    Failure::new(ErrorCode::EngineInternal, "a tensor is not what it says it is")
}

/// The weighted mean, summed in FP64.
fn mean<T: bytemuck::Pod>(
    tensors: &[Tensor],
    weights: &[u64],
    widen: fn(T) -> f64,
    narrow: fn(f64) -> T,
) -> Option<Data> {
    let columns = columns::<T>(tensors)?;
    let total: f64 = weights.iter().map(|weight| *weight as f64).sum();
    let count = columns.first()?.len();
    let mean = |place: usize| {
        let sum: f64 =
            columns.iter().zip(weights).map(|(c, weight)| widen(c[place]) * *weight as f64).sum();
        narrow(sum / total)
    };
    Some(held((0..count).map(mean)))
}

/// Two elements are the same where their bits are: signed or not makes no difference.
fn vote<T: bytemuck::Pod + Eq + Hash>(tensors: &[Tensor], weights: &[u64]) -> Option<Data> {
    let columns = columns::<T>(tensors)?;
    let columns: Vec<&[T]> = columns.iter().map(Vec::as_slice).collect();
    Some(held(elect(&columns, weights)?.into_iter()))
}

/// What most say at each place; of those that are even, what the first of them says.
fn elect<T: Clone + PartialEq>(columns: &[&[T]], weights: &[u64]) -> Option<Vec<T>> {
    let count = columns.first()?.len();
    let at = |place: usize| {
        let support = |value: &T| -> u64 {
            columns.iter().zip(weights).filter(|(c, _)| c[place] == *value).map(|(_, w)| w).sum()
        };
        let mut best = &columns[0][place];
        for column in &columns[1..] {
            if support(&column[place]) > support(best) {
                best = &column[place];
            }
        }
        best.clone()
    };
    Some((0..count).map(at).collect())
}

/// The elements of each; memory of somebody else's need not be aligned.
fn columns<T: bytemuck::Pod>(tensors: &[Tensor]) -> Option<Vec<Vec<T>>> {
    let columns: Vec<Vec<T>> = tensors
        .iter()
        .map(|tensor| {
            let bytes = tensor.bytes()?;
            Some(bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
        })
        .collect::<Option<_>>()?;
    let count = columns.first()?.len();
    columns.iter().all(|column| column.len() == count).then_some(columns)
}

fn held<T: bytemuck::Pod>(elements: impl ExactSizeIterator<Item = T>) -> Data {
    let mut buffer = Buffer::zeroed(elements.len() * size_of::<T>());
    for (place, element) in buffer.typed_mut::<T>().iter_mut().zip(elements) {
        *place = element;
    }
    Data::Shared(SharedBytes::new(Arc::new(buffer)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tensor<T: bytemuck::Pod>(dtype: DType, values: &[T]) -> Tensor {
        let data = held(values.iter().copied());
        Tensor { name: "y".into(), dtype, shape: vec![values.len()], data }
    }

    fn strings(values: &[&str]) -> Tensor {
        let strings = values.iter().map(|value| value.to_string().into()).collect();
        Tensor {
            name: "y".into(),
            dtype: DType::Bytes,
            shape: vec![values.len()],
            data: Data::Strings(strings),
        }
    }

    #[test]
    fn a_mean_is_weighted() {
        let tensors = [tensor(DType::Fp32, &[1.0_f32, 4.0]), tensor(DType::Fp32, &[4.0_f32, 1.0])];
        let mean = combine(Combine::Mean, &tensors, &[2, 1]).unwrap();
        assert_eq!(mean.typed::<f32>().unwrap(), [2.0, 3.0]);
        assert_eq!((mean.dtype, mean.shape), (DType::Fp32, vec![2]));
    }

    #[test]
    fn a_vote_is_what_most_say_and_the_first_of_those_that_are_even() {
        let votes = [[3_i64, 3, 1], [5, 5, 2], [5, 3, 3]].map(|v| tensor(DType::Int64, &v));
        let vote = combine(Combine::Vote, &votes, &[1, 1, 1]).unwrap();
        assert_eq!(vote.typed::<i64>().unwrap(), [5, 3, 1]);
        let vote = combine(Combine::Vote, &votes, &[1, 5, 1]).unwrap();
        assert_eq!(vote.typed::<i64>().unwrap(), [5, 5, 2]);
        let texts = [strings(&["cat"]), strings(&["dog"]), strings(&["dog"])];
        let vote = combine(Combine::Vote, &texts, &[1, 1, 1]).unwrap();
        assert_eq!(&*vote.strings().unwrap()[0], b"dog");
    }

    #[test]
    fn shapes_that_differ_are_refused_with_both() {
        let tensors = [tensor(DType::Fp32, &[1.0_f32]), tensor(DType::Fp32, &[1.0_f32, 2.0])];
        let failure = combine(Combine::Mean, &tensors, &[1, 1]).unwrap_err();
        assert_eq!(failure.code, ErrorCode::GraphMismatch);
        assert_eq!(failure.message, "it combines shape [1] with shape [2]");
    }

    proptest! {
        #[test]
        fn a_mean_lies_between_the_least_and_the_most(
            rows in proptest::collection::vec((-1e6_f64..1e6, -1e6_f64..1e6, -1e6_f64..1e6), 1..20),
            weights in proptest::array::uniform3(1_u64..100),
        ) {
            let column = |of: fn(&(f64, f64, f64)) -> f64| {
                tensor(DType::Fp64, &rows.iter().map(of).collect::<Vec<_>>())
            };
            let tensors = [column(|r| r.0), column(|r| r.1), column(|r| r.2)];
            let mean = combine(Combine::Mean, &tensors, &weights).unwrap();
            for (mean, row) in mean.typed::<f64>().unwrap().iter().zip(&rows) {
                let least = row.0.min(row.1).min(row.2);
                let most = row.0.max(row.1).max(row.2);
                prop_assert!((least - 1e-6..=most + 1e-6).contains(mean));
            }
        }

        #[test]
        fn nothing_has_more_votes_than_what_is_elected(
            votes in proptest::collection::vec(0_u64..3, 1..7),
        ) {
            let tensors: Vec<_> = votes.iter().map(|vote| tensor(DType::Uint64, &[*vote])).collect();
            let elected = combine(Combine::Vote, &tensors, &vec![1; votes.len()]).unwrap();
            let count = |value: u64| votes.iter().filter(|vote| **vote == value).count();
            let elected = elected.typed::<u64>().unwrap()[0];
            prop_assert!((0..3).all(|value| count(value) <= count(elected)));
        }
    }
}
