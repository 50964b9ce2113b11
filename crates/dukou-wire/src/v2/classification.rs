//! The classification extension: of an output's scores the highest, each as `score:index` or
//! `score:index:label`.

use std::cmp::Ordering;

use bytes::Bytes;
use dukou_types::{DType, Data, ErrorCode, Failure, InferResponse, Tensor};
use smallvec::SmallVec;

use crate::sentence::quoted;

/// An answer whose outputs are the classes with the highest scores, so many as `top` says of each; 0 leaves
/// it as it is. An output of two dimensions and more has a list of scores a row.
///
/// # Errors
/// `wire.unsupported-dtype` for an output that holds no numbers.
pub fn classified(
    response: &InferResponse,
    top: &[usize],
    labels: &[Box<str>],
) -> Result<InferResponse, Failure> {
    let outputs = response.outputs.iter().enumerate().map(|(position, output)| {
        match top.get(position).copied().unwrap_or(0) {
            0 => Ok(output.clone()),
            most => of_output(output, most, labels),
        }
    });
    Ok(InferResponse {
        outputs: outputs.collect::<Result<SmallVec<_>, _>>()?,
        parameters: response.parameters.clone(),
        served_by: response.served_by.clone(),
    })
}

fn of_output(output: &Tensor, most: usize, labels: &[Box<str>]) -> Result<Tensor, Failure> {
    if matches!(output.dtype, DType::Bool | DType::Bytes) {
        let message = format!(
            "output {} is {}, which has no order: classes are of numbers",
            quoted(&output.name),
            output.dtype
        );
        return Err(Failure::new(ErrorCode::WireUnsupportedDtype, message));
    }
    let is_float = matches!(output.dtype, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64);
    let (rows, width) = match &*output.shape {
        [] => (1, 1),
        [all] => (1, *all),
        [rows, inner @ ..] => (*rows, inner.iter().product()),
    };
    let kept = most.min(width);
    let mut classes = Vec::with_capacity(rows * kept);
    for row in 0..rows {
        let score = |class: usize| output.number(row * width + class).unwrap_or(f64::NAN);
        let scores: Vec<f64> = (0..width).map(score).collect();
        let mut order: Vec<usize> = (0..width).collect();
        // NaN is no score: it stands last.
        order.sort_by(|&a, &b| {
            let (x, y) = (scores[a], scores[b]);
            y.partial_cmp(&x).unwrap_or_else(|| match (x.is_nan(), y.is_nan()) {
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                _ => Ordering::Equal,
            })
        });
        for &class in &order[..kept] {
            let score = scores[class];
            let score = if is_float { format!("{score:.6}") } else { format!("{score:.0}") };
            let text = match labels.get(class) {
                Some(label) => format!("{score}:{class}:{label}"),
                None => format!("{score}:{class}"),
            };
            classes.push(Bytes::from(text));
        }
    }
    let shape = if output.shape.len() > 1 { vec![rows, kept] } else { vec![kept] };
    let data = Data::Strings(classes);
    Ok(Tensor { name: output.name.clone(), dtype: DType::Bytes, shape, data })
}

#[cfg(test)]
mod tests {
    use dukou_types::Buffer;

    use super::*;

    fn scores(shape: &[usize], numbers: &[f32]) -> InferResponse {
        let mut buffer = Buffer::zeroed(numbers.len() * 4);
        buffer.typed_mut::<f32>().copy_from_slice(numbers);
        let data = Data::Owned(buffer);
        let output = Tensor { name: "y".into(), dtype: DType::Fp32, shape: shape.to_vec(), data };
        InferResponse { outputs: [output].into_iter().collect(), ..InferResponse::default() }
    }

    fn said(response: &InferResponse, top: usize, labels: &[&str]) -> (Vec<usize>, Vec<String>) {
        let labels: Vec<Box<str>> = labels.iter().map(|&label| label.into()).collect();
        let answer = classified(response, &[top], &labels).unwrap();
        let output = &answer.outputs[0];
        let classes = output.strings().unwrap().iter();
        let texts = classes.map(|text| String::from_utf8(text.to_vec()).unwrap()).collect();
        (output.shape.clone(), texts)
    }

    #[test]
    fn the_highest_come_first_in_every_row() {
        let response = scores(&[2, 3], &[0.5, 3.3, -1.0, f32::NAN, 1.0, 2.0]);
        let (shape, texts) = said(&response, 2, &["cat", "dog"]);
        assert_eq!(shape, [2, 2]);
        assert_eq!(texts, ["3.300000:1:dog", "0.500000:0:cat", "2.000000:2", "1.000000:1:dog"]);
        let (shape, texts) = said(&response, 9, &[]);
        assert_eq!((shape, texts.len()), (vec![2, 3], 6));
        assert_eq!(texts[5], "NaN:0");
    }

    #[test]
    fn one_list_of_scores_has_no_rows() {
        let (shape, texts) = said(&scores(&[3], &[1.0, 2.0, 2.0]), 1, &[]);
        assert_eq!((shape, texts), (vec![1], vec!["2.000000:1".to_owned()]));
        assert_eq!(said(&scores(&[2, 0], &[]), 3, &[]).0, [2, 0]);
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        let response = scores(&[1, 2], &[1.0, 2.0]);
        let same = classified(&response, &[0], &[]).unwrap();
        assert_eq!(same.outputs[0].bytes(), response.outputs[0].bytes());
        let words = Tensor {
            name: "word".into(),
            dtype: DType::Bytes,
            shape: vec![1],
            data: Data::Strings(vec![Bytes::from_static(b"a")]),
        };
        let words = InferResponse { outputs: [words].into_iter().collect(), ..response };
        let failure = classified(&words, &[1], &[]).unwrap_err();
        assert_eq!(failure.code, ErrorCode::WireUnsupportedDtype);
    }
}
