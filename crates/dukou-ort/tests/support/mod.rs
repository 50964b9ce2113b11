//! What every test of this crate needs: the library, the models, requests and a sink.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{path::PathBuf, sync::Arc};

use dukou_exec::{Batch, Execute, Sink};
use dukou_ort::{GraphSource, OpenSpec, OrtModel, Provider, Runtime};
use dukou_types::{
    Buffer, DType, Data, Failure, InferRequest, InferResponse, Principal, RequestId, Requested,
    Tensor,
};

/// The library. Its absence is a failure, never a reason to skip.
pub fn runtime() -> Runtime {
    Runtime::load(None).unwrap_or_else(|error| {
        panic!("these tests run real models: set ORT_DYLIB_PATH to libonnxruntime.so (`make test` does): {error}")
    })
}

pub fn model_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/models").join(name)
}

pub fn spec(path: PathBuf) -> OpenSpec {
    OpenSpec {
        source: GraphSource::File(path),
        instances: 2,
        threads: 1,
        providers: vec![provider("CPUExecutionProvider")],
        share_weights: false,
        compiled_dir: None,
        encrypted: false,
    }
}

/// A provider without options.
pub fn provider(name: &str) -> Provider {
    Provider { name: name.into(), options: Vec::new() }
}

pub fn open(name: &str) -> OrtModel {
    runtime().open(spec(model_path(&format!("{name}.onnx")))).unwrap()
}

/// Elements in an owned, aligned buffer.
pub fn data<T: bytemuck::Pod>(elements: &[T]) -> Data {
    let bytes: &[u8] = bytemuck::cast_slice(elements);
    let mut buffer = Buffer::zeroed(bytes.len());
    buffer.bytes_mut().copy_from_slice(bytes);
    Data::Owned(buffer)
}

pub fn tensor(name: &str, dtype: DType, shape: &[usize], data: Data) -> Tensor {
    Tensor { name: name.into(), dtype, shape: shape.to_vec(), data }
}

pub fn floats(name: &str, shape: &[usize], elements: &[f32]) -> Tensor {
    tensor(name, DType::Fp32, shape, data(elements))
}

pub fn request(inputs: impl IntoIterator<Item = Tensor>) -> InferRequest {
    InferRequest::new(RequestId(1), Principal::Loopback, inputs.into_iter().collect())
}

pub fn only(mut request: InferRequest, outputs: &[usize]) -> InferRequest {
    request.outputs = Requested::Only(outputs.iter().copied().collect());
    request
}

/// What a batch was answered, by slot.
#[derive(Default)]
pub struct Answers {
    pub given: Vec<(usize, Result<InferResponse, Failure>)>,
    pub handed_back: Vec<usize>,
}

impl Sink for Answers {
    fn respond(&mut self, slot: usize, answer: Result<InferResponse, Failure>) {
        self.given.push((slot, answer));
    }

    fn hand_back(&mut self, slot: usize, _request: InferRequest) {
        self.handed_back.push(slot);
    }
}

pub fn run_all(model: &dyn Execute, requests: Vec<InferRequest>) -> Answers {
    let mut answers = Answers::default();
    model.run(0, Batch { requests }, &mut answers);
    answers
}

pub fn run(model: &dyn Execute, request: InferRequest) -> Result<InferResponse, Failure> {
    let mut answers = run_all(model, vec![request]).given;
    assert_eq!(answers.len(), 1, "one answer a request");
    answers.pop().unwrap().1
}

pub fn f32s(tensor: &Tensor) -> Vec<f32> {
    tensor.typed::<f32>().unwrap().to_vec()
}

/// Numbers in [-0.5, 0.5), the same for the same seed.
pub fn noise(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1_u32 << 24) as f32 - 0.5
        })
        .collect()
}

pub fn names(model: &dyn Execute) -> (Vec<Arc<str>>, Vec<Arc<str>>) {
    let signature = model.signature();
    let of = |specs: &[dukou_types::TensorSpec]| specs.iter().map(|s| s.name.clone()).collect();
    (of(&signature.inputs), of(&signature.outputs))
}
