//! How right answers are: accuracy and cross-entropy of classes, squared and absolute error of numbers.

use dukou_types::{DType, ErrorCode, Failure, Tensor};

use crate::Truth;

/// Probabilities below this count as this: one sure mistake must not make the mean infinite.
const LEAST: f64 = 1e-7;

/// The metrics of these rows, by name.
pub(super) fn score(
    outputs: &[Tensor],
    names: &[Box<str>],
    truth: &Truth,
    rows: usize,
) -> Result<Vec<(&'static str, f64)>, Failure> {
    if truth.len() != rows {
        let message = format!("{} labels came for {rows} rows", truth.len());
        return Err(Failure::new(ErrorCode::RequestWrongShape, message));
    }
    let mean = |sum: f64| if rows == 0 { f64::NAN } else { sum / rows as f64 };
    let label = outputs.iter().find(|tensor| !is_floating(tensor) && width(tensor, rows) == 1);
    let scores = outputs.iter().find(|tensor| is_floating(tensor) && width(tensor, rows) > 1);
    let mut metrics = Vec::new();
    if label.is_some() || scores.is_some() {
        let right = (0..rows).filter(|&row| {
            let said = match (label, scores) {
                (Some(label), _) => text(label, row),
                (None, Some(scores)) => argmax(scores, row, rows).to_string(),
                (None, None) => String::new(),
            };
            truth.is(row, &said) || name_of(names, &said).is_some_and(|name| truth.is(row, name))
        });
        metrics.push(("accuracy", mean(right.count() as f64)));
        if let Some(loss) = scores.and_then(|scores| cross_entropy(scores, names, truth, rows)) {
            metrics.push(("loss", mean(loss)));
        }
        return Ok(metrics);
    }
    let Some(numbers) = outputs.iter().find(|tensor| is_floating(tensor)) else {
        let message = "no output is a class or a number a row: there is nothing to score";
        return Err(Failure::new(ErrorCode::RequestWrongShape, message));
    };
    let pairs: Vec<(f64, f64)> =
        (0..rows).filter_map(|row| Some((number(numbers, row), truth.number(row)?))).collect();
    if pairs.len() != rows {
        let message = "the model answers numbers, and some labels are texts";
        return Err(Failure::new(ErrorCode::RequestWrongDtype, message));
    }
    let sum =
        |of: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|&(said, true_)| of(said, true_)).sum();
    let binary = pairs
        .iter()
        .all(|&(said, true_)| (0.0..=1.0).contains(&said) && (true_ == 0.0 || true_ == 1.0));
    if binary {
        let right = |said: f64, true_: f64| f64::from(u8::from((said > 0.5) == (true_ == 1.0)));
        let loss = |said: f64, true_: f64| {
            let chance = if true_ == 1.0 { said } else { 1.0 - said };
            -chance.clamp(LEAST, 1.0).ln()
        };
        return Ok(vec![("accuracy", mean(sum(&right))), ("loss", mean(sum(&loss)))]);
    }
    let squared = |said: f64, true_: f64| (said - true_) * (said - true_);
    let absolute = |said: f64, true_: f64| (said - true_).abs();
    Ok(vec![("mse", mean(sum(&squared))), ("mae", mean(sum(&absolute)))])
}

/// The name of each row's class, where the model's classes have names.
pub(super) fn classes<'n>(
    outputs: &[Tensor],
    names: &'n [Box<str>],
    rows: usize,
) -> Option<Vec<&'n str>> {
    let scores = outputs.iter().find(|tensor| {
        is_floating(tensor) && width(tensor, rows) == names.len() && names.len() > 1
    });
    if let Some(scores) = scores {
        return (0..rows).map(|row| Some(&**names.get(argmax(scores, row, rows))?)).collect();
    }
    let label = outputs.iter().find(|tensor| !is_floating(tensor) && width(tensor, rows) == 1)?;
    (0..rows).map(|row| name_of(names, &text(label, row))).collect()
}

/// Sum of the negative logarithms of the true classes' probabilities; `None` where the numbers are no
/// probabilities or a true class is not among them.
fn cross_entropy(scores: &Tensor, names: &[Box<str>], truth: &Truth, rows: usize) -> Option<f64> {
    let width = width(scores, rows);
    let mut sum = 0.0;
    for row in 0..rows {
        let chances: Vec<f64> = (0..width).map(|at| number(scores, row * width + at)).collect();
        let total: f64 = chances.iter().sum();
        if (total - 1.0).abs() > 1e-3 || chances.iter().any(|&chance| chance < 0.0) {
            return None;
        }
        let class = match truth.number(row) {
            Some(number) if number >= 0.0 && number.fract() == 0.0 => number as usize,
            _ => names.iter().position(|name| truth.is(row, name))?,
        };
        sum -= chances.get(class)?.clamp(LEAST, 1.0).ln();
    }
    Some(sum)
}

fn name_of<'n>(names: &'n [Box<str>], said: &str) -> Option<&'n str> {
    let place = said.parse::<usize>().ok()?;
    names.get(place).map(|name| &**name)
}

fn is_floating(tensor: &Tensor) -> bool {
    matches!(tensor.dtype, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64)
}

/// Elements of one row.
fn width(tensor: &Tensor, rows: usize) -> usize {
    Tensor::elements(&tensor.shape).unwrap_or(0).checked_div(rows).unwrap_or(0)
}

fn argmax(tensor: &Tensor, row: usize, rows: usize) -> usize {
    let width = width(tensor, rows);
    let mut best = 0;
    for at in 1..width {
        if number(tensor, row * width + at) > number(tensor, row * width + best) {
            best = at;
        }
    }
    best
}

/// An element as a number; NaN for a text.
fn number(tensor: &Tensor, at: usize) -> f64 {
    tensor.number(at).unwrap_or(f64::NAN)
}

/// A class as text.
fn text(tensor: &Tensor, row: usize) -> String {
    match tensor.strings().and_then(|strings| strings.get(row)) {
        Some(string) => String::from_utf8_lossy(string).into_owned(),
        None => number(tensor, row).to_string(),
    }
}
