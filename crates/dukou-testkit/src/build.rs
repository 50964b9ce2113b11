//! Signatures and requests for the fake backend: one input `x` and one output `y`, FP32.

use dukou_types::{
    Buffer, DType, Data, Dim, InferRequest, InferResponse, Principal, RequestId, Signature, Tensor,
    TensorSpec,
};
use smallvec::smallvec;

/// `x` and `y` of FP32 `[rows, width]`, both free.
pub fn signature(batchable: bool) -> Signature {
    let spec = |name: &str| TensorSpec {
        name: name.into(),
        dtype: DType::Fp32,
        shape: vec![Dim::Symbol("rows".into()), Dim::Symbol("width".into())],
    };
    Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], batchable }
}

/// A request whose `x` is `[rows, width]`, every element `value`.
pub fn request(id: u64, rows: usize, width: usize, value: f32) -> InferRequest {
    let mut buffer = Buffer::zeroed(rows * width * 4);
    buffer.typed_mut::<f32>().fill(value);
    let x = Tensor {
        name: "x".into(),
        dtype: DType::Fp32,
        shape: vec![rows, width],
        data: Data::Owned(buffer),
    };
    InferRequest::new(RequestId(id), Principal::Loopback, smallvec![x])
}

/// The elements of an answer's first output; none where it has none.
pub fn values(response: &InferResponse) -> Option<Vec<f32>> {
    Some(response.outputs.first()?.typed::<f32>()?.to_vec())
}
