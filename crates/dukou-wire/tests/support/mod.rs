//! What the tests of the codec share.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on stops")]

use bytes::Bytes;
use dukou_types::{Buffer, DType, Dim, Failure, Signature, Tensor, TensorSpec};
use dukou_wire::{DecodeLimits, Decoded, v2};
use http::HeaderMap;
use proptest::{prelude::ProptestConfig, test_runner::RngSeed};

/// Limits such as a deployment sets.
pub const LIMITS: DecodeLimits = DecodeLimits { json_depth: 100, body_bytes: 64 << 20 };

/// A seed that does not change, so that a failure comes again.
pub fn laws(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(20_261_123),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// A dimension: a number, `?` for any, or a symbol.
fn dim(text: &str) -> Dim {
    match text.parse() {
        Ok(extent) => Dim::Fixed(extent),
        Err(_) if text == "?" => Dim::Any(()),
        Err(_) => Dim::Symbol(text.into()),
    }
}

/// `("x", FP32, "batch 64")`.
pub fn spec((name, dtype, shape): (&str, DType, &str)) -> TensorSpec {
    TensorSpec { name: name.into(), dtype, shape: shape.split_whitespace().map(dim).collect() }
}

/// A signature of inputs, with one output `y`.
pub fn signature(inputs: &[(&str, DType, &str)]) -> Signature {
    Signature {
        inputs: inputs.iter().copied().map(spec).collect(),
        outputs: vec![spec(("y", DType::Fp32, "batch 2")), spec(("label", DType::Int64, "batch"))],
        batchable: false,
    }
}

/// Decodes a body of one frame.
pub fn decode(body: &[u8], signature: &Signature) -> Result<Decoded, Failure> {
    let rope = [Bytes::copy_from_slice(body)];
    decode_rope(&rope, &HeaderMap::new(), signature)
}

/// Decodes a body of any frames.
pub fn decode_rope(
    rope: &[Bytes],
    headers: &HeaderMap,
    signature: &Signature,
) -> Result<Decoded, Failure> {
    v2::decode(rope, headers, signature, &LIMITS, &mut |_, bytes| Buffer::zeroed(bytes))
}

/// The header that says how much of a body is JSON.
pub fn binary_headers(length: Option<usize>) -> HeaderMap {
    length.map(|length| (v2::HEADER_LENGTH.parse().unwrap(), length.into())).into_iter().collect()
}

/// All there is in a tensor, to compare.
pub fn contents(tensor: &Tensor) -> (String, DType, Vec<usize>, Vec<Vec<u8>>) {
    let data = match (tensor.bytes(), tensor.strings()) {
        (Some(bytes), _) => vec![bytes.to_vec()],
        (None, strings) => {
            strings.unwrap_or_default().iter().map(|string| string.to_vec()).collect()
        }
    };
    (tensor.name.to_string(), tensor.dtype, tensor.shape.clone(), data)
}

/// All there is in tensors, to compare.
pub fn all_contents(tensors: &[Tensor]) -> Vec<(String, DType, Vec<usize>, Vec<Vec<u8>>)> {
    tensors.iter().map(contents).collect()
}

/// A signature of one input `x`, two floats a row.
pub fn floats() -> Signature {
    signature(&[("x", DType::Fp32, "batch 2")])
}

/// The body of one input `x`.
pub fn x(datatype: &str, shape: &str, data: &str) -> String {
    format!(
        r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#
    )
}

/// Demands a code and a sentence. `^` marks a place in the body, and stands for its byte in the
/// sentence.
#[track_caller]
pub fn refused(body: &str, signature: &Signature, code: &str, sentence: &str) {
    let sentence = match body.find('^') {
        Some(at) => sentence.replace('^', &at.to_string()),
        None => sentence.to_owned(),
    };
    let body = body.replacen('^', "", 1);
    let failure = decode(body.as_bytes(), signature).expect_err(&sentence);
    assert_eq!((failure.code.as_str(), &*failure.message), (code, &*sentence));
}
