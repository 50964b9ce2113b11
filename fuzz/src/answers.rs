//! What is held against a decoder's answer: an inference that it took fits its signature and can be answered,
//! and one that it refused is refused in a sentence.

use std::sync::LazyLock;

use bytes::Bytes;
use dukou_types::{
    Buffer, DType, Data, Dim, Failure, InferResponse, Requested, Signature, Tensor, TensorSpec,
};
use dukou_wire::{DecodeLimits, Decoded, Dialect, EncodeContext, Sent, v2};
use http::HeaderMap;

use crate::{
    BODY_BYTES,
    pieces::{cut, whole},
};

/// Limits such as a deployment sets, but for a body that is soon too large.
pub(crate) const LIMITS: DecodeLimits = DecodeLimits { json_depth: 100, body_bytes: BODY_BYTES };

/// Characters of a refusal: what came is quoted in it, never as long as it came.
const SENTENCE: usize = 4096;

/// The models that are asked: of one input and of two, of numbers and of texts, of any shape and of one.
pub(crate) static SIGNATURES: LazyLock<[Signature; 9]> = LazyLock::new(|| {
    [
        signature(&[("x", DType::Fp32, "batch 2")]),
        signature(&[("x", DType::Bytes, "?")]),
        signature(&[("x", DType::Int8, "")]),
        signature(&[("x", DType::Fp32, "batch 2"), ("z", DType::Int64, "batch")]),
        signature(&[("x", DType::Bool, "batch 2")]),
        signature(&[("x", DType::Fp16, "?")]),
        signature(&[("x", DType::Uint64, "batch")]),
        signature(&[("x", DType::Fp16, "batch 2 ? 3")]),
        signature(&[("x", DType::Bf16, "?"), ("z", DType::Bytes, "? 1")]),
    ]
});

/// Models that take pictures: in colour and in grey, of any size and of one.
pub(crate) static PICTURES: LazyLock<[Signature; 3]> = LazyLock::new(|| {
    [
        signature(&[("x", DType::Fp32, "batch ? ? 3")]),
        signature(&[("x", DType::Uint8, "batch 3 6 5")]),
        signature(&[("x", DType::Fp16, "batch 16")]),
    ]
});

fn spec((name, dtype, shape): (&str, DType, &str)) -> TensorSpec {
    let dim = |text: &str| match text.parse() {
        Ok(extent) => Dim::Fixed(extent),
        Err(_) if text == "?" => Dim::Any(()),
        Err(_) => Dim::Symbol(text.into()),
    };
    TensorSpec { name: name.into(), dtype, shape: shape.split_whitespace().map(dim).collect() }
}

fn signature(inputs: &[(&str, DType, &str)]) -> Signature {
    Signature {
        inputs: inputs.iter().copied().map(spec).collect(),
        outputs: vec![spec(("y", DType::Fp32, "batch 2")), spec(("label", DType::Int64, "batch"))],
        batchable: false,
    }
}

/// Has an inference decoded for every model, in one frame and in several.
pub(crate) fn infer(dialect: Dialect, path: &str, headers: &HeaderMap, body: &[u8]) {
    infer_of(&*SIGNATURES, dialect, (path, headers), body);
}

/// The same for these models.
pub(crate) fn infer_of(
    models: &[Signature],
    dialect: Dialect,
    (path, headers): (&str, &HeaderMap),
    body: &[u8],
) {
    for signature in models {
        let decode = |rope: &[Bytes]| {
            let sent = Sent { path, headers, rope };
            dialect.decode(sent, signature, &LIMITS, &mut lease)
        };
        match (decode(&whole(body)), decode(&cut(body))) {
            (Ok(decoded), Ok(in_frames)) => {
                assert!(same(&decoded.inputs, &in_frames.inputs), "frames matter");
                assert_eq!(decoded.outputs, in_frames.outputs, "frames matter");
                fits(&decoded, signature);
                answer(dialect, &decoded, signature);
            }
            (Err(failure), Err(in_frames)) => {
                assert_eq!(failure, in_frames, "frames matter");
                refusal(dialect, &failure);
            }
            (one, other) => panic!("frames matter: {one:?} and {other:?}"),
        }
    }
}

/// A buffer that holds what was there before.
fn lease(_input: usize, bytes: usize) -> Buffer {
    let mut buffer = Buffer::zeroed(bytes);
    buffer.bytes_mut().fill(0xa5);
    buffer
}

/// Whether these are the same tensors.
pub(crate) fn same(some: &[Tensor], others: &[Tensor]) -> bool {
    some.len() == others.len()
        && some.iter().zip(others).all(|(one, other)| {
            (&one.name, one.dtype, &one.shape) == (&other.name, other.dtype, &other.shape)
                && (one.bytes(), one.strings()) == (other.bytes(), other.strings())
        })
}

/// Demands of a tensor that it holds as much as its shape says.
pub(crate) fn is_whole(tensor: &Tensor) {
    let elements = Tensor::elements(&tensor.shape).expect("a shape that can be counted");
    match tensor.dtype.size() {
        Some(size) => {
            let bytes = tensor.bytes().expect("numbers");
            assert_eq!(Some(bytes.len()), elements.checked_mul(size), "{}", tensor.name);
            let truth = tensor.dtype != DType::Bool || bytes.iter().all(|&byte| byte <= 1);
            assert!(truth, "a truth value that is neither");
        }
        None => assert_eq!(tensor.strings().map(<[Bytes]>::len), Some(elements)),
    }
}

fn fits(decoded: &Decoded, signature: &Signature) {
    assert_eq!(decoded.inputs.len(), signature.inputs.len());
    let mut known: Vec<(&str, usize)> = Vec::new();
    for (tensor, spec) in decoded.inputs.iter().zip(&signature.inputs) {
        assert_eq!((&tensor.name, tensor.dtype), (&spec.name, spec.dtype));
        assert!(spec.admits(&tensor.shape), "{:?} for {:?}", tensor.shape, spec.shape);
        is_whole(tensor);
        for (dim, &extent) in spec.shape.iter().zip(&tensor.shape) {
            if let Dim::Symbol(symbol) = dim {
                let before = known.iter().find(|(name, _)| **name == **symbol);
                assert!(before.is_none_or(|(_, before)| *before == extent), "`{symbol}` twice");
                known.push((symbol, extent));
            }
        }
    }
    if let Requested::Only(positions) = &decoded.outputs {
        assert!(positions.iter().all(|&position| position < signature.outputs.len()));
    }
}

/// Answers what was asked, as a model would that gives zeros.
fn answer(dialect: Dialect, decoded: &Decoded, signature: &Signature) {
    let rows = decoded.inputs.first().map_or(1, Tensor::rows).min(64);
    let output = |position: usize| {
        let spec = &signature.outputs[position];
        let extent = |(place, dim): (usize, &Dim)| match dim {
            Dim::Fixed(extent) => *extent,
            _ if place == 0 => rows,
            _ => 1,
        };
        let shape: Vec<usize> = spec.shape.iter().enumerate().map(extent).collect();
        let bytes = shape.iter().product::<usize>() * spec.dtype.size().unwrap_or(0);
        let data = Data::Owned(Buffer::zeroed(bytes));
        Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data }
    };
    let outputs = match &decoded.outputs {
        Requested::All => (0..signature.outputs.len()).map(output).collect(),
        Requested::Only(positions) => positions.iter().copied().map(output).collect(),
    };
    let response = InferResponse { outputs, ..InferResponse::default() };
    let context = EncodeContext {
        model: "m",
        version: "1",
        client_id: decoded.client_id.as_deref(),
        carriage: &decoded.carriage,
        labels: &["no".into(), "yes".into()],
    };
    let classified = match decoded.top.is_empty() {
        true => Ok(response),
        false => v2::classified(&response, &decoded.top, context.labels),
    };
    let mut out = Vec::new();
    let encoded = classified.and_then(|response| dialect.encode(&response, &context, &mut out));
    match encoded {
        Ok(_) => assert!(!out.is_empty(), "an answer without a word"),
        Err(failure) => refusal(dialect, &failure),
    }
}

/// Demands of a refusal that it says something, and not too much.
pub(crate) fn refusal(dialect: Dialect, failure: &Failure) {
    assert!(!failure.message.is_empty());
    assert!(failure.message.len() <= SENTENCE, "{} bytes of words", failure.message.len());
    let body = dialect.encode_error(failure, None, "0");
    assert!(body.len() <= 2 * SENTENCE, "{} bytes of refusal", body.len());
    assert!(dialect.status(failure, None) != 0 || !dialect.is_grpc(), "refused, and all is well");
}
