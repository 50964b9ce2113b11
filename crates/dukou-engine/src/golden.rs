//! Golden samples: requests with the answers that a version must reproduce wherever it is loaded.
//!
//! They are answers of *this* variant, with a tolerance (`spec/artifact.md`). What differs is named to
//! the element, with what was expected and what came: that is what somebody will look for.

use std::fmt;

use dukou_types::{
    Buffer, DType, Data, ErrorCode, Failure, InferRequest, InferResponse, Principal, RequestId,
    Signature, Tensor, TensorSpec,
};
use half::{bf16, f16};
use serde::Deserialize;
use serde_json::Value;
use smallvec::SmallVec;

use crate::agree::{Difference, Tolerance, agree, same_classes};

/// The samples of one version.
#[derive(Clone, Debug)]
pub struct Golden {
    /// For floating outputs; everything else must be equal.
    pub tolerance: Tolerance,
    /// The output whose argmax along the last axis must agree too.
    pub classes: Option<String>,
    /// Inputs and expected outputs, each in the signature's order.
    pub samples: Vec<Sample>,
}

/// One request with its answer.
#[derive(Clone, Debug)]
pub struct Sample {
    /// In the signature's order.
    pub inputs: SmallVec<[Tensor; 2]>,
    /// In the signature's order.
    pub outputs: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Document {
    format: u64,
    tolerance: Tolerance,
    classes: Option<String>,
    samples: Vec<RawSample>,
}

#[derive(Deserialize)]
struct RawSample {
    inputs: Vec<RawTensor>,
    outputs: Vec<RawTensor>,
}

#[derive(Deserialize)]
struct RawTensor {
    name: String,
    datatype: DType,
    shape: Vec<usize>,
    data: Vec<Value>,
}

impl Golden {
    /// Reads `golden.json` against the signature of its version.
    ///
    /// # Errors
    /// `formats.corrupt`: it is not what `spec/artifact.md` says, or does not fit the signature.
    pub fn parse(text: &[u8], signature: &Signature) -> Result<Self, Failure> {
        let document: Document = serde_json::from_slice(&quote_non_finite(text))
            .map_err(|error| corrupt(format_args!("cannot be read: {error}")))?;
        if document.format != 1 {
            return Err(corrupt(format_args!("has format {}, must be 1", document.format)));
        }
        if let Some(classes) = &document.classes
            && signature.output(classes).is_none()
        {
            return Err(corrupt(format_args!("names `{classes}` as classes, which is no output")));
        }
        let samples = document.samples.iter().map(|sample| {
            Ok(Sample {
                inputs: arrange(&sample.inputs, &signature.inputs)?.into(),
                outputs: arrange(&sample.outputs, &signature.outputs)?,
            })
        });
        Ok(Self {
            tolerance: document.tolerance,
            classes: document.classes,
            samples: samples.collect::<Result<_, Failure>>()?,
        })
    }

    /// The same, for a version that runs on this provider first. Answers were packaged from the CPU; another
    /// provider computes in another order and often in fewer bits (TF32, FP16, BF16), and is held to no
    /// less than this. The class that an answer names must be the same everywhere.
    #[must_use]
    pub fn on(mut self, provider: Option<&String>) -> Self {
        if provider.is_some_and(|provider| provider != dukou_ort::CPU) {
            let Tolerance { absolute, relative } = &mut self.tolerance;
            (*absolute, *relative) = (absolute.max(1e-3), relative.max(1e-2));
        }
        self
    }

    /// Runs every sample and compares. Gives how many were reproduced.
    ///
    /// # Errors
    /// `table.golden-mismatch` naming the first element that differs, or the failure of a run.
    pub fn replay(
        &self,
        mut run: impl FnMut(InferRequest) -> Result<InferResponse, Failure>,
    ) -> Result<usize, Failure> {
        for (index, sample) in self.samples.iter().enumerate() {
            let request = InferRequest::new(RequestId(0), Principal::Engine, sample.inputs.clone());
            let answer = run(request).map_err(|failure| {
                differs(format_args!("golden sample {index} was not answered: {}", failure.message))
            })?;
            self.compare(&sample.outputs, &answer).map_err(|difference| {
                differs(format_args!("golden sample {index}: {difference}"))
            })?;
        }
        Ok(self.samples.len())
    }

    fn compare(&self, expected: &[Tensor], answer: &InferResponse) -> Result<(), Difference> {
        for expected in expected {
            let name = &*expected.name;
            let Some(came) = answer.outputs.iter().find(|tensor| *tensor.name == *name) else {
                return Err(Difference(format!("output `{name}` is missing")));
            };
            agree(expected, came, self.tolerance)?;
            if self.classes.as_deref() == Some(name) {
                same_classes(expected, came)?;
            }
        }
        Ok(())
    }
}

fn arrange(tensors: &[RawTensor], specs: &[TensorSpec]) -> Result<Vec<Tensor>, Failure> {
    if let Some(stray) = tensors.iter().find(|t| specs.iter().all(|spec| *spec.name != *t.name)) {
        return Err(corrupt(format_args!("has `{}`, which the signature has not", stray.name)));
    }
    specs
        .iter()
        .map(|spec| {
            let tensor = tensors
                .iter()
                .find(|tensor| *tensor.name == *spec.name)
                .ok_or_else(|| corrupt(format_args!("lacks `{}`", spec.name)))?;
            tensor.read(spec)
        })
        .collect()
}

impl RawTensor {
    fn read(&self, spec: &TensorSpec) -> Result<Tensor, Failure> {
        let name = &spec.name;
        if self.datatype != spec.dtype || !spec.admits(&self.shape) {
            return Err(corrupt(format_args!(
                "has `{name}` as {} {:?}, the signature as {} {:?}",
                self.datatype,
                self.shape,
                spec.dtype,
                spec.wire_shape()
            )));
        }
        let count = Tensor::elements(&self.shape);
        if count != Some(self.data.len()) {
            return Err(corrupt(format_args!(
                "has {} elements of `{name}`, its shape {:?}",
                self.data.len(),
                self.shape
            )));
        }
        let data = self.elements().ok_or_else(|| {
            corrupt(format_args!("has an element of `{name}` that is no {}", self.datatype))
        })?;
        Ok(Tensor { name: name.clone(), dtype: self.datatype, shape: self.shape.clone(), data })
    }

    /// The elements in the dtype; none where one of them is not of it.
    fn elements(&self) -> Option<Data> {
        fn fill<T: bytemuck::Pod>(
            values: &[Value],
            read: impl Fn(&Value) -> Option<T>,
        ) -> Option<Data> {
            let mut buffer = Buffer::zeroed(values.len() * size_of::<T>());
            for (slot, value) in buffer.typed_mut::<T>().iter_mut().zip(values) {
                *slot = read(value)?;
            }
            Some(Data::Owned(buffer))
        }
        fn signed<T: bytemuck::Pod + TryFrom<i64>>(values: &[Value]) -> Option<Data> {
            fill(values, |value| T::try_from(value.as_i64()?).ok())
        }
        fn unsigned<T: bytemuck::Pod + TryFrom<u64>>(values: &[Value]) -> Option<Data> {
            fill(values, |value| T::try_from(value.as_u64()?).ok())
        }
        let values = &self.data;
        match self.datatype {
            DType::Bool => fill(values, |value| value.as_bool().map(u8::from)),
            DType::Uint8 => unsigned::<u8>(values),
            DType::Uint16 => unsigned::<u16>(values),
            DType::Uint32 => unsigned::<u32>(values),
            DType::Uint64 => unsigned::<u64>(values),
            DType::Int8 => signed::<i8>(values),
            DType::Int16 => signed::<i16>(values),
            DType::Int32 => signed::<i32>(values),
            DType::Int64 => signed::<i64>(values),
            DType::Fp16 => fill(values, |value| number(value).map(f16::from_f64)),
            DType::Bf16 => fill(values, |value| number(value).map(bf16::from_f64)),
            DType::Fp32 => fill(values, |value| number(value).map(|wide| wide as f32)),
            DType::Fp64 => fill(values, number),
            DType::Bytes => {
                let texts = values.iter().map(|value| Some(value.as_str()?.to_owned().into()));
                Some(Data::Strings(texts.collect::<Option<_>>()?))
            }
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => value.as_f64(),
    }
}

/// Puts quotes round bare `NaN`, `Infinity` and `-Infinity`, which golden samples may have and JSON
/// may not; strings are left alone.
fn quote_non_finite(text: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 64);
    let mut rest = text;
    let mut inside = false;
    while let Some(&byte) = rest.first() {
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|word| {
            !inside && matches!(byte, b'-' | b'I' | b'N') && rest.starts_with(word.as_bytes())
        });
        let taken = if let Some(word) = word {
            quoted.push(b'"');
            quoted.extend_from_slice(word.as_bytes());
            quoted.push(b'"');
            word.len()
        } else {
            // A backslash inside a string takes the next byte with it, so that `\"` does not end it.
            let taken = if inside && byte == b'\\' { 2.min(rest.len()) } else { 1 };
            quoted.extend_from_slice(&rest[..taken]);
            inside ^= byte == b'"';
            taken
        };
        rest = &rest[taken..];
    }
    quoted
}

fn corrupt(problem: fmt::Arguments<'_>) -> Failure {
    Failure::new(
        ErrorCode::FormatsCorrupt,
        format!("the version's golden samples: the blob {problem}"),
    )
}

fn differs(problem: fmt::Arguments<'_>) -> Failure {
    Failure::new(ErrorCode::TableGoldenMismatch, problem.to_string())
}

#[cfg(test)]
#[path = "golden_test.rs"]
mod tests;
