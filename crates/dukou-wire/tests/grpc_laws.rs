//! What holds for every call: nothing panics, frames do not matter, what a client writes a server reads, and
//! the bytes of a tensor are copied once.

mod support;

use bytes::Bytes;
use dukou_types::{
    Buffer, DType, Data, Dim, ErrorCode, Failure, InferResponse, ModelName, Requested, SharedBytes,
    Signature, Tensor, TensorSpec,
};
use dukou_wire::{
    Carriage, Decoded, Dialect, EncodeContext, Encoded, Message, Operation, Sent, grpc,
    tensorflow_grpc, v2::RequestOptions, v2_grpc, woven,
};
use http::HeaderMap;
use proptest::prelude::*;
use support::{LIMITS, all_contents, contents, laws, signature};

const PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";
const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Any elements of a dtype: NaN and the infinities among them, for raw bytes carry all.
fn elements(dtype: DType, count: usize) -> BoxedStrategy<Data> {
    let Some(size) = dtype.size() else {
        let strings = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), count);
        return strings
            .prop_map(|strings| Data::Strings(strings.into_iter().map(Bytes::from).collect()))
            .boxed();
    };
    prop::collection::vec(any::<u8>(), count * size)
        .prop_map(move |mut bytes| {
            if dtype == DType::Bool {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            let mut buffer = Buffer::zeroed(bytes.len());
            buffer.bytes_mut().copy_from_slice(&bytes);
            Data::Owned(buffer)
        })
        .boxed()
}

fn tensor() -> impl Strategy<Value = Tensor> {
    (
        prop::sample::select(&DType::ALL[..]),
        prop::collection::vec(0_usize..40, 0..3),
        any::<String>(),
    )
        .prop_flat_map(|(dtype, shape, name)| {
            let count = shape.iter().product();
            elements(dtype, count).prop_map(move |data| Tensor {
                name: name.as_str().into(),
                dtype,
                shape: shape.clone(),
                data,
            })
        })
}

fn signature_of(tensor: &Tensor) -> Signature {
    let shape = tensor.shape.iter().map(|_| Dim::Any(())).collect();
    let spec = TensorSpec { name: tensor.name.clone(), dtype: tensor.dtype, shape };
    Signature { inputs: vec![spec.clone()], outputs: vec![spec], batchable: false }
}

/// Cuts a body into frames at these places.
fn frames(body: &[u8], cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut places: Vec<usize> =
        cuts.iter().map(|cut| cut.index(body.len() + 1)).chain([0, body.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| Bytes::copy_from_slice(&body[pair[0]..pair[1]])).collect()
}

fn joined(text: Vec<u8>, encoded: Encoded) -> Vec<u8> {
    let pieces: Message = woven(text, encoded.inserts);
    pieces.iter().flat_map(|piece| piece.to_vec()).collect()
}

fn decode(dialect: Dialect, message: &[Bytes], signature: &Signature) -> Result<Decoded, Failure> {
    let path = if dialect == Dialect::V2Grpc { INFER } else { PREDICT };
    let headers = HeaderMap::new();
    let sent = Sent { path, headers: &headers, rope: message };
    // A lease holds what was there before.
    let mut lease = |_, bytes| {
        let mut buffer = Buffer::zeroed(bytes);
        buffer.bytes_mut().fill(0xa5);
        buffer
    };
    dialect.decode(sent, signature, &LIMITS, &mut lease)
}

fn shared(tensor: &Tensor) -> Tensor {
    let data = match &tensor.data {
        Data::Owned(buffer) => {
            Data::Shared(SharedBytes::new(std::sync::Arc::new(buffer.bytes().to_vec())))
        }
        other => other.clone(),
    };
    Tensor { data, ..tensor.clone() }
}

/// A protobuf field with a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

/// A predict request that carries these entries of an answer as its inputs: both have one form.
fn as_request(answer: &[u8]) -> Vec<u8> {
    let mut request = field(1, &field(1, b"m"));
    let mut rest = answer;
    while let Some((&key, _)) = rest.split_first() {
        let mut length = 0_usize;
        let mut at = 1;
        for place in 0.. {
            let byte = rest[at];
            length |= usize::from(byte & 0x7f) << (7 * place);
            at += 1;
            if byte < 0x80 {
                break;
            }
        }
        if key == 10 {
            request.extend(field(2, &rest[at..at + length]));
        }
        rest = &rest[at + length..];
    }
    request
}

proptest! {
    #![proptest_config(laws(1000))]

    #[test]
    fn a_client_of_v2_is_understood(tensor in tensor(), id in any::<Option<String>>(), cuts in any::<Vec<prop::sample::Index>>()) {
        let id = id.filter(|id| !id.is_empty());
        let options = RequestOptions { client_id: id.as_deref(), outputs: &[&tensor.name], ..Default::default() };
        let mut text = Vec::new();
        let encoded = v2_grpc::encode_request(("m", "7"), &[shared(&tensor)], &options, &mut text);
        let message = frames(&joined(text, encoded), &cuts);
        let decoded = decode(Dialect::V2Grpc, &message, &signature_of(&tensor)).unwrap();
        prop_assert_eq!(decoded.client_id.as_deref(), id.as_deref());
        prop_assert_eq!(all_contents(&decoded.inputs), [contents(&tensor)]);
        prop_assert_eq!(decoded.outputs, Requested::Only([0].into_iter().collect()));
        prop_assert_eq!(decoded.carriage, Carriage::Message);
    }

    #[test]
    fn a_server_of_v2_is_understood(tensor in tensor(), cuts in any::<Vec<prop::sample::Index>>()) {
        let carriage = Carriage::Message;
        let context = EncodeContext { model: "m", version: "7", client_id: Some("1"), carriage: &carriage, labels: &[] };
        for tensor in [tensor.clone(), shared(&tensor)] {
            let response = InferResponse { outputs: [tensor.clone()].into_iter().collect(), ..Default::default() };
            let mut text = Vec::new();
            let encoded = Dialect::V2Grpc.encode(&response, &context, &mut text).unwrap();
            prop_assert_eq!(encoded.inserts.len(), usize::from(matches!(tensor.data, Data::Shared(_)) && tensor.size() >= 4096));
            let answer = v2_grpc::decode_response(&frames(&joined(text, encoded), &cuts)).unwrap();
            prop_assert_eq!((&*answer.model, &*answer.version, answer.client_id.as_deref()), ("m", "7", Some("1")));
            prop_assert_eq!(all_contents(&answer.outputs), [contents(&tensor)]);
        }
    }

    #[test]
    fn what_tensorflow_s_server_writes_its_client_s_form_carries(tensor in tensor(), cuts in any::<Vec<prop::sample::Index>>()) {
        let carriage = Carriage::Message;
        let context = EncodeContext { model: "m", version: "7", client_id: None, carriage: &carriage, labels: &[] };
        let response = InferResponse { outputs: [shared(&tensor)].into_iter().collect(), ..Default::default() };
        let mut text = Vec::new();
        let encoded = Dialect::TensorFlowGrpc.encode(&response, &context, &mut text).unwrap();
        let request = as_request(&joined(text, encoded));
        let decoded = decode(Dialect::TensorFlowGrpc, &frames(&request, &cuts), &signature_of(&tensor)).unwrap();
        prop_assert_eq!(all_contents(&decoded.inputs), [contents(&tensor)]);
    }

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200), cuts in any::<Vec<prop::sample::Index>>()) {
        let message = frames(&body, &cuts);
        for dialect in [Dialect::V2Grpc, Dialect::TensorFlowGrpc] {
            for path in [INFER, PREDICT, "/tensorflow.serving.PredictionService/GetModelMetadata"] {
                let _ = dialect.address_message(path, &message);
            }
            for inputs in [&[("x", DType::Fp32, "batch 2")][..], &[("x", DType::Bytes, "?")], &[("x", DType::Int8, "")]] {
                let _ = decode(dialect, &message, &signature(inputs));
            }
        }
        for method in ["Classify", "Regress", "MultiInference"] {
            let path = format!("/tensorflow.serving.PredictionService/{method}");
            let _ = Dialect::TensorFlowGrpc.address_message(&path, &message);
            let headers = HeaderMap::new();
            let sent = Sent { path: &path, headers: &headers, rope: &message };
            let mut lease = |_, bytes| Buffer::zeroed(bytes);
            let _ = Dialect::TensorFlowGrpc.decode(sent, &signature(&[("x", DType::Fp32, "batch 2")]), &LIMITS, &mut lease);
        }
        let _ = tensorflow_grpc::decode_change(&message);
        let _ = v2_grpc::decode_index(&message);
        let _ = v2_grpc::decode_change(Operation::Load, &ModelName::parse("m").unwrap(), &message);
        let _ = v2_grpc::decode_response(&message);
        for encoding in [None, Some("gzip"), Some("deflate")] {
            let headers: HeaderMap = encoding.map(|name| (http::HeaderName::from_static(grpc::ENCODING), http::HeaderValue::from_static(name))).into_iter().collect();
            let _ = grpc::open(message.iter().cloned().collect(), &headers, 1000);
        }
    }

    #[test]
    fn one_changed_byte_never_panics_and_frames_do_not_matter(tensor in tensor(), at in any::<prop::sample::Index>(), byte: u8, cuts in any::<Vec<prop::sample::Index>>()) {
        let mut text = Vec::new();
        let encoded = v2_grpc::encode_request(("m", ""), std::slice::from_ref(&tensor), &RequestOptions::default(), &mut text);
        let v2 = joined(text, encoded);
        let predict = as_request(&field(1, &[field(1, tensor.name.as_bytes()), field(2, &[])].concat()));
        for (dialect, mut message) in [(Dialect::V2Grpc, v2), (Dialect::TensorFlowGrpc, predict)] {
            let at = at.index(message.len());
            message[at] = byte;
            let whole = decode(dialect, &[Bytes::from(message.clone())], &signature_of(&tensor));
            let cut = decode(dialect, &frames(&message, &cuts), &signature_of(&tensor));
            match (whole, cut) {
                (Ok(whole), Ok(cut)) => prop_assert_eq!(all_contents(&whole.inputs), all_contents(&cut.inputs)),
                (Err(whole), Err(cut)) => prop_assert_eq!(whole, cut),
                (whole, cut) => prop_assert!(false, "{:?} and {:?}", whole, cut),
            }
        }
    }
}

/// One input `x` with these fields of `InferInputTensor` behind its name.
fn infer(dtype: &str, shape: &[u8], rest: &[u8]) -> Vec<Bytes> {
    let input = [field(1, b"x"), field(2, dtype.as_bytes()), field(3, shape), rest.to_vec()];
    vec![Bytes::from([field(1, b"m"), field(5, &input.concat())].concat())]
}

#[test]
fn typed_contents_are_read_by_their_dtype() {
    for (dtype, number, packed, expected) in [
        (DType::Bool, 1, &[1, 0][..], &[1_u8, 0][..]),
        (DType::Int8, 2, b"\x7f\x80\xff\xff\xff\xff\xff\xff\xff\xff\x01", &[0x7f, 0x80]),
        (DType::Int16, 2, &[1, 2], &[1, 0, 2, 0]),
        (DType::Int32, 2, &[1, 2], &[1, 0, 0, 0, 2, 0, 0, 0]),
        (DType::Uint8, 4, b"\xff\x01\x02", &[255, 2]),
        (DType::Uint16, 4, &[1, 2], &[1, 0, 2, 0]),
        (DType::Uint32, 4, &[1, 2], &[1, 0, 0, 0, 2, 0, 0, 0]),
        (DType::Fp32, 6, &[0, 0, 128, 63, 0, 0, 0, 64], &[0, 0, 128, 63, 0, 0, 0, 64]),
    ] {
        let signature = signature(&[("x", dtype, "?")]);
        let message = infer(dtype.name(), &[2], &field(5, &field(number, packed)));
        let decoded = decode(Dialect::V2Grpc, &message, &signature).unwrap();
        assert_eq!(decoded.inputs[0].bytes().unwrap(), expected, "{dtype}");
    }
    let texts = [field(8, b"a"), field(8, b"")].concat();
    let signature = signature(&[("x", DType::Bytes, "?")]);
    let decoded =
        decode(Dialect::V2Grpc, &infer("BYTES", &[2], &field(5, &texts)), &signature).unwrap();
    assert_eq!(decoded.inputs[0].strings().unwrap(), ["a", ""]);
}

#[test]
fn what_is_wrong_with_a_call_is_said_with_both_sides() {
    let floats = signature(&[("x", DType::Fp32, "batch 2")]);
    let int8 = signature(&[("x", DType::Int8, "?")]);
    let half = signature(&[("x", DType::Fp16, "?")]);
    let two = [0; 8];
    let contents = |number, packed: &[u8]| field(5, &field(number, packed));
    let raw = |mut message: Vec<Bytes>, raw: &[u8]| {
        message.push(Bytes::from(field(7, raw)));
        message
    };
    for (message, signature, code, words) in [
        (
            infer("FP32", &[1, 2], &contents(6, &two[..4])),
            &floats,
            ErrorCode::WireElementCount,
            "which is 2 elements; `fp32_contents` holds 1",
        ),
        (
            infer("FP32", &[1, 2], &contents(7, &two)),
            &floats,
            ErrorCode::WireInvalidField,
            "elements stand in `fp32_contents`; `fp64_contents` came",
        ),
        (
            infer("FP64", &[1, 2], &contents(7, &two)),
            &floats,
            ErrorCode::RequestWrongDtype,
            "is FP32, FP64 came",
        ),
        (infer("FP128", &[1, 2], &[]), &floats, ErrorCode::WireUnsupportedDtype, "`FP128` came"),
        (infer("", &[1, 2], &[]), &floats, ErrorCode::WireMissingField, "`datatype` is missing"),
        (
            infer("FP32", &[1, 3], &[]),
            &floats,
            ErrorCode::RequestWrongShape,
            "[batch, 2], [1, 3] came",
        ),
        (
            infer("INT8", &[1], &contents(2, b"\xac\x02")),
            &int8,
            ErrorCode::WireNotANumber,
            "holds 300, and INT8 does not",
        ),
        (
            infer("FP16", &[1], &contents(2, &[1])),
            &half,
            ErrorCode::WireUnsupportedDtype,
            "only as `raw_input_contents`",
        ),
        (
            raw(infer("FP32", &[1, 2], &contents(6, &two)), &two),
            &floats,
            ErrorCode::WireInvalidField,
            "and in `raw_input_contents`",
        ),
        (
            raw(infer("FP32", &[1, 2], &[]), &two[..7]),
            &floats,
            ErrorCode::WireElementCount,
            "which is 8 bytes; its `raw_input_contents` has 7",
        ),
        (
            raw(raw(infer("FP32", &[1, 2], &[]), &two), &two),
            &floats,
            ErrorCode::WireElementCount,
            "1 input and 2 of `raw_input_contents`",
        ),
        (
            infer("INT8", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", &[]),
            &int8,
            ErrorCode::WireInvalidField,
            "-1 came",
        ),
        (
            infer("INT8", b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f", &[]),
            &int8,
            ErrorCode::WireShapeOverflow,
            "larger than can be counted",
        ),
        (vec![Bytes::from(field(1, b"m"))], &floats, ErrorCode::RequestMissingInput, "lacks `x`"),
    ] {
        let failure = decode(Dialect::V2Grpc, &message, signature).unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
}

/// A predict request of one input `x`: these fields of a `TensorProto`.
fn predict(tensor: &[u8]) -> Vec<Bytes> {
    let entry = [field(1, b"x"), field(2, tensor)].concat();
    vec![Bytes::from([field(1, &field(1, b"m")), field(2, &entry)].concat())]
}

/// A shape of one dimension.
fn shape_of(extent: u8) -> Vec<u8> {
    field(2, &field(2, &[8, extent]))
}

#[test]
fn the_last_value_stands_for_those_that_are_missing() {
    let cases: [(DType, u8, Vec<u8>, &[u8]); 7] = [
        (DType::Int16, 5, field(7, &[7]), &[7, 0, 7, 0, 7, 0]),
        (DType::Int16, 5, field(7, &[1, 2]), &[1, 0, 2, 0, 2, 0]),
        (DType::Int16, 5, field(7, &[1, 2, 3, 4]), &[1, 0, 2, 0, 3, 0]),
        (DType::Int16, 5, vec![], &[0; 6]),
        (DType::Int16, 5, field(4, &[1, 0, 2, 0, 3, 0]), &[1, 0, 2, 0, 3, 0]),
        (DType::Bool, 10, field(11, &[1]), &[1, 1, 1]),
        (DType::Fp16, 19, vec![13 << 3, 0x80, 0x78], &[0, 60, 0, 60, 0, 60]),
    ];
    for (dtype, number, values, expected) in cases {
        let tensor = [vec![8, number], shape_of(3), values].concat();
        let signature = signature(&[("x", dtype, "?")]);
        let decoded = decode(Dialect::TensorFlowGrpc, &predict(&tensor), &signature).unwrap();
        assert_eq!(decoded.inputs[0].bytes().unwrap(), expected, "{dtype}");
    }
    let texts = signature(&[("x", DType::Bytes, "?")]);
    for (values, expected) in [
        (field(8, b"a"), ["a", "a", "a"]),
        (vec![], ["", "", ""]),
        (field(4, b"\x01\x00\x02abc"), ["a", "", "bc"]),
    ] {
        let tensor = [vec![8, 7], shape_of(3), values].concat();
        let decoded = decode(Dialect::TensorFlowGrpc, &predict(&tensor), &texts).unwrap();
        assert_eq!(decoded.inputs[0].strings().unwrap(), expected);
    }
}

#[test]
fn a_claim_of_a_shape_is_not_believed() {
    let huge = field(2, &field(2, b"\x08\xff\xff\xff\xff\x7f"));
    let tensor = [vec![8, 1], huge, field(5, &[0; 4])].concat();
    let floats = signature(&[("x", DType::Fp32, "?")]);
    let failure = decode(Dialect::TensorFlowGrpc, &predict(&tensor), &floats).unwrap_err();
    assert_eq!(failure.code, ErrorCode::WireShapeOverflow);
    assert!(failure.message.contains("`limits.body_bytes`"), "{failure}");
    for (tensor, code, words) in [
        (
            [vec![8, 1], shape_of(2), field(4, &[0; 7])].concat(),
            ErrorCode::WireElementCount,
            "which is 8 bytes; `tensor_content` has 7",
        ),
        (
            [vec![8, 3], shape_of(2), field(7, &[0; 2])].concat(),
            ErrorCode::RequestWrongDtype,
            "is FP32, INT32 came",
        ),
        ([vec![8, 8], shape_of(2)].concat(), ErrorCode::RequestWrongDtype, "DataType 8 came"),
        ([vec![8, 1], field(2, &[24, 1])].concat(), ErrorCode::WireInvalidMessage, "has no shape"),
    ] {
        let failure = decode(Dialect::TensorFlowGrpc, &predict(&tensor), &floats).unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn a_tensor_over_many_frames_is_copied_once() {
    let floats = signature(&[("x", DType::Fp32, "?")]);
    let tensor = Tensor {
        name: "x".into(),
        dtype: DType::Fp32,
        shape: vec![150_000],
        data: Data::Owned(Buffer::zeroed(600_000)),
    };
    let mut text = Vec::new();
    let encoded = v2_grpc::encode_request(
        ("m", ""),
        &[shared(&tensor)],
        &RequestOptions::default(),
        &mut text,
    );
    assert_eq!(encoded.inserts.len(), 1);
    assert!(text.len() < 64, "the tensor stands beside the text and not in it");
    let whole = Bytes::from(joined(text, encoded));
    let message: Vec<Bytes> = (0..whole.len())
        .step_by(16_384)
        .map(|at| whole.slice(at..whole.len().min(at + 16_384)))
        .collect();
    // One lease of the tensor's own size is all that is written to.
    let mut leased = Vec::new();
    let headers = HeaderMap::new();
    let sent = Sent { path: INFER, headers: &headers, rope: &message };
    let mut lease = |input, bytes| {
        leased.push((input, bytes));
        Buffer::zeroed(bytes)
    };
    let decoded = Dialect::V2Grpc.decode(sent, &floats, &LIMITS, &mut lease).unwrap();
    assert_eq!(leased, [(0, 600_000)]);
    assert_eq!(all_contents(&decoded.inputs), [contents(&tensor)]);
}
