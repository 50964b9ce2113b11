//! What holds for every kind of server that is asked: it understands what we ask it, and we understand
//! what it answers, refuses and says of itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use bytes::Bytes;
use dukou_types::{
    Buffer, DType, Data, Dim, ErrorCode, Failure, InferResponse, Signature, Tensor, TensorSpec,
};
use dukou_wire::{
    Dialect, EncodeContext, Named, Peer, Question, Reply, Sent, grpc, tensorflow, tensorflow_grpc,
    torchserve, torchserve_grpc, v2, v2_grpc, woven,
};
use half::{bf16, f16};
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use proptest::prelude::*;
use support::{LIMITS, all_contents, binary_headers, laws};

const MODEL: Named<'static> = Named { model: "m", version: None };

/// The server's half.
const fn served(peer: Peer) -> Dialect {
    match peer {
        Peer::V2 => Dialect::V2,
        Peer::V2Grpc => Dialect::V2Grpc,
        Peer::TensorFlow | Peer::KserveV1 => Dialect::TensorFlow,
        Peer::TensorFlowGrpc => Dialect::TensorFlowGrpc,
        Peer::TorchServe => Dialect::TorchServe,
        Peer::TorchServeGrpc => Dialect::TorchServeGrpc,
        Peer::Keras => Dialect::Keras,
    }
}

/// Elements that every dialect carries: JSON of plain values has one NaN only.
fn elements(dtype: DType, count: usize) -> BoxedStrategy<Data> {
    let Some(size) = dtype.size() else {
        let strings = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6), count);
        return strings
            .prop_map(|strings| Data::Strings(strings.into_iter().map(Bytes::from).collect()))
            .boxed();
    };
    prop::collection::vec(any::<u8>(), count * size)
        .prop_map(move |mut bytes| {
            let finite = |element: &mut [u8]| match dtype {
                DType::Bool => element[0] &= 1,
                DType::Fp16 if !f16::from_le_bytes([element[0], element[1]]).is_finite() => {
                    element.copy_from_slice(&f16::INFINITY.to_le_bytes());
                }
                DType::Bf16 if !bf16::from_le_bytes([element[0], element[1]]).is_finite() => {
                    element.copy_from_slice(&bf16::NEG_INFINITY.to_le_bytes());
                }
                DType::Fp32 | DType::Fp64 if dtype.number(element).is_some_and(f64::is_nan) => {
                    element.fill(0);
                }
                _ => {}
            };
            bytes.chunks_exact_mut(size).for_each(finite);
            let mut buffer = Buffer::zeroed(bytes.len());
            buffer.bytes_mut().copy_from_slice(&bytes);
            Data::Owned(buffer)
        })
        .boxed()
}

/// Tensors of so many rows, under names of this kind.
fn tensors(kind: &'static str, rows: usize) -> impl Strategy<Value = Vec<Tensor>> {
    let one = (prop::sample::select(&DType::ALL[..]), prop::collection::vec(1_usize..4, 0..3))
        .prop_flat_map(move |(dtype, row)| {
            let shape = [&[rows], &*row].concat();
            let data = elements(dtype, shape.iter().product());
            data.prop_map(move |data| Tensor { name: "".into(), dtype, shape: shape.clone(), data })
        });
    prop::collection::vec(one, 1..4).prop_map(move |mut tensors| {
        for (place, tensor) in tensors.iter_mut().enumerate() {
            tensor.name = format!("{kind}{place}").into();
        }
        tensors
    })
}

/// The signature that takes and gives these, with free extents or exactly so.
fn signature_of(inputs: &[Tensor], outputs: &[Tensor], free: bool) -> Signature {
    let dim = |&extent: &usize| if free { Dim::Any(()) } else { Dim::Fixed(extent) };
    let spec = |tensor: &Tensor| TensorSpec {
        name: tensor.name.clone(),
        dtype: tensor.dtype,
        shape: tensor.shape.iter().map(dim).collect(),
    };
    Signature {
        inputs: inputs.iter().map(spec).collect(),
        outputs: outputs.iter().map(spec).collect(),
        batchable: false,
    }
}

/// Cuts a body into frames at these places.
fn frames(body: &[u8], cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut places: Vec<usize> =
        cuts.iter().map(|cut| cut.index(body.len() + 1)).chain([0, body.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| Bytes::copy_from_slice(&body[pair[0]..pair[1]])).collect()
}

fn headers(pairs: &[(HeaderName, String)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn named(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

/// A server's answer as it comes, of frames cut anywhere.
struct Came {
    headers: HeaderMap,
    trailers: HeaderMap,
    body: Vec<Bytes>,
}

impl Came {
    /// `body` is a message where calls carry it.
    fn well(peer: Peer, mut body: Vec<u8>, cuts: &[prop::sample::Index]) -> Self {
        let trailers = headers(&[(named("grpc-status"), "0".into())]);
        if peer.is_grpc() {
            body.splice(0..0, grpc::prefix(0, body.len()));
        }
        Self { headers: HeaderMap::new(), trailers, body: frames(&body, cuts) }
    }

    fn reply(&self) -> Reply<'_> {
        let Self { headers, trailers, body } = self;
        Reply { status: 200, headers, trailers: Some(trailers), body }
    }
}

/// A page that a server writes behind room for the envelope, where it is a call's.
fn page(peer: Peer, body: &[u8]) -> Vec<Bytes> {
    let body = if peer.is_grpc() { &body[grpc::PREFIX..] } else { body };
    vec![Bytes::copy_from_slice(body)]
}

proptest! {
    #![proptest_config(laws(1500))]

    #[test]
    fn what_is_asked_is_understood_and_what_is_answered_too(
        peer in prop::sample::select(Peer::ALL),
        (inputs, outputs) in (1_usize..4).prop_flat_map(|rows| (tensors("x", rows), tensors("y", rows))),
        free: bool,
        cuts in any::<Vec<prop::sample::Index>>(),
    ) {
        let signature = signature_of(&inputs, &outputs, free);
        let question = Question { inputs: &inputs, signature: &signature, outputs: &[], parameters: &[] };
        let written = peer.encode(MODEL, &question).unwrap();
        let body = if peer.is_grpc() { &written.body[grpc::PREFIX..] } else { &written.body[..] };
        let mut said = binary_headers(written.header_length);
        said.insert(CONTENT_TYPE, HeaderValue::from_static(written.content_type));
        let path = peer.infer_path(MODEL).unwrap();
        let (dialect, rope) = (served(peer), frames(body, &cuts));
        let sent = Sent { path: &path, headers: &said, rope: &rope };
        let decoded = dialect.decode(sent, &signature, &LIMITS, &mut |_, bytes| Buffer::zeroed(bytes)).unwrap();
        prop_assert_eq!(all_contents(&decoded.inputs), all_contents(&inputs));

        let response = InferResponse { outputs: outputs.clone().into(), parameters: vec![], served_by: None };
        let context = EncodeContext { model: "m", version: "7", client_id: None, carriage: &decoded.carriage, labels: &[] };
        let mut body = Vec::new();
        let encoded = dialect.encode(&response, &context, &mut body).unwrap();
        let length = encoded.header_length;
        let body = woven(body, encoded.inserts).concat();
        let mut came = Came::well(peer, body, &cuts);
        came.headers = binary_headers(length);
        let message = peer.open(&came.reply(), &LIMITS).unwrap();
        let mut answer = peer.decode(&message, &came.headers, &signature, &LIMITS).unwrap();
        answer.outputs.sort_by(|a, b| a.name.cmp(&b.name));
        prop_assert_eq!(all_contents(&answer.outputs), all_contents(&outputs));
        if peer == Peer::TensorFlowGrpc {
            prop_assert_eq!(answer.version, "7");
        }
    }

    #[test]
    fn a_version_is_asked_by_its_name(
        peer in prop::sample::select(&[Peer::V2Grpc, Peer::TensorFlowGrpc, Peer::TorchServeGrpc][..]),
        version in "0|[1-9][0-9]{0,5}|[a-z][a-z.-]{0,6}",
    ) {
        let named = Named { model: "m", version: Some(&version) };
        let question = Question { inputs: &[], signature: &Signature::default(), outputs: &[], parameters: &[] };
        let written = peer.encode(named, &question).unwrap();
        let path = peer.infer_path(named).unwrap();
        let target = served(peer).address_message(&path, &[written.body.slice(grpc::PREFIX..)]).unwrap();
        let said = format!("{target:?}");
        prop_assert!(said.contains(&format!("{version:?}")), "{}", said);
    }

    #[test]
    fn no_answer_panics(
        peer in prop::sample::select(Peer::ALL),
        body in prop::collection::vec(any::<u8>(), 0..200),
        outputs in tensors("y", 1),
        cuts in any::<Vec<prop::sample::Index>>(),
    ) {
        let signature = signature_of(&[], &outputs, true);
        let came = Came::well(peer, body.clone(), &cuts);
        if let Ok(message) = peer.open(&came.reply(), &LIMITS) {
            let _any = peer.decode(&message, &came.headers, &signature, &LIMITS);
        }
        let _any = peer.check_ready(&came.reply(), &LIMITS);
        let _any = peer.read_signature(&frames(&body, &cuts));
    }

    #[test]
    fn a_signature_is_told(
        peer in prop::sample::select(Peer::ALL).prop_filter("tells", |peer| peer.tells_signatures()),
        inputs in tensors("x", 2), outputs in tensors("y", 2), free: bool,
    ) {
        let signature = signature_of(&inputs, &outputs, free);
        let model = v2::ModelDescription {
            name: "m", versions: &["7"], platform: "p", provider: None, batchable: false, signature: &signature,
        };
        let body = match peer {
            Peer::V2 => v2::encode_model_metadata(&model),
            Peer::V2Grpc => v2_grpc::encode_model_metadata(&model),
            Peer::TensorFlow => tensorflow::encode_metadata("m", "7", &signature),
            _ => tensorflow_grpc::encode_metadata("m", "7", &signature),
        };
        prop_assert_eq!(peer.read_signature(&page(peer, &body)).unwrap(), signature);
    }
}

#[test]
fn a_refusal_keeps_its_code_whoever_spoke() {
    for &peer in Peer::ALL {
        for &code in ErrorCode::ALL {
            let failure = Failure::new(code, "what is wrong");
            let dialect = served(peer);
            let status = dialect.status(&failure, None);
            let body = dialect.encode_error(&failure, None, "id");
            let refused = headers(&[
                (named("grpc-status"), status.to_string()),
                (named("grpc-message"), String::from_utf8_lossy(&body).into_owned()),
                (named("dukou-code"), code.as_str().to_owned()),
            ]);
            let (headers, body) = (HeaderMap::new(), [Bytes::from(body)]);
            let refusal = if peer.is_grpc() {
                let reply = Reply { status: 200, headers: &refused, trailers: None, body: &[] };
                peer.open(&reply, &LIMITS)
            } else {
                let reply = Reply { status, headers: &headers, trailers: None, body: &body };
                peer.open(&reply, &LIMITS)
            };
            let refusal = refusal.unwrap_err();
            assert_eq!(refusal.code, Some(code), "{peer:?}: {refusal}");
            assert!(!refusal.words.is_empty() && refusal.status >= 400, "{peer:?}: {refusal}");
        }
    }
}

#[test]
fn who_answers_says_so_and_who_does_not_says_why() {
    let state = |available| tensorflow::VersionState { version: "7", available };
    let bodies = |peer, well| match peer {
        Peer::V2 => v2::encode_ready(well),
        Peer::V2Grpc => v2_grpc::encode_model_ready(well),
        Peer::TensorFlow | Peer::KserveV1 => tensorflow::encode_status("m", &[state(well)]),
        Peer::TensorFlowGrpc => tensorflow_grpc::encode_status(&[state(well)]),
        Peer::TorchServe if well => torchserve::encode_healthy(),
        Peer::TorchServe => br#"{"status":"Unhealthy"}"#.to_vec(),
        Peer::TorchServeGrpc => torchserve_grpc::encode_health(well),
        Peer::Keras => Vec::new(),
    };
    for &peer in Peer::ALL {
        let came = |well| {
            let body = page(peer, &bodies(peer, well)).concat();
            Came::well(peer, body, &[])
        };
        assert_eq!(peer.check_ready(&came(true).reply(), &LIMITS), Ok(()), "{peer:?}");
        let unwell = came(false);
        let reply = match peer {
            // Their statuses say it.
            Peer::V2 | Peer::Keras => Reply { status: 503, ..unwell.reply() },
            _ => unwell.reply(),
        };
        let why = peer.check_ready(&reply, &LIMITS).unwrap_err();
        assert!(!why.is_empty(), "{peer:?}");
        let missing = Reply { status: 404, ..unwell.reply() };
        assert_eq!(peer.check_ready(&missing, &LIMITS).is_ok(), peer == Peer::Keras, "{peer:?}");
    }
}

/// A model of floats in rows, and of names.
fn floats_and_names() -> Signature {
    let spec = |name: &str, dtype, shape: &[Option<usize>]| TensorSpec {
        name: name.into(),
        dtype,
        shape: shape.iter().map(|extent| extent.map_or(Dim::Any(()), Dim::Fixed)).collect(),
    };
    Signature {
        inputs: vec![spec("x", DType::Fp32, &[None, Some(2)])],
        outputs: vec![spec("y", DType::Fp32, &[None, Some(2)])],
        batchable: false,
    }
}

#[test]
fn answers_of_other_servers_are_read_however_they_stand() {
    let signature = floats_and_names();
    let read = |peer: Peer, body: &str| {
        let rope = [Bytes::copy_from_slice(body.as_bytes())];
        peer.decode(&rope, &HeaderMap::new(), &signature, &LIMITS).map(|answer| {
            let y = &answer.outputs[0];
            (y.shape.clone(), y.typed::<f32>().unwrap().to_vec())
        })
    };
    let one = Ok((vec![1, 2], vec![1.0, 2.5]));
    for (peer, body) in [
        (Peer::TensorFlow, r#"{"outputs": [[1.0, 2.5]]}"#),
        (Peer::TensorFlow, r#"{"outputs": {"y": [[1, 2.5]], "more": "x"}}"#),
        (Peer::KserveV1, r#"{"predictions": [[1.0, 2.5]], "explanations": null}"#),
        (Peer::KserveV1, r#"{"predictions": [{"label": "a", "y": [1, 2.5]}]}"#),
        (Peer::Keras, r#"{"model": "m", "predictions": [[1.0, 2.5]], "classes": ["a"]}"#),
        (Peer::Keras, "[[1.0, 2.5]]"),
        (Peer::TorchServe, "[1.0, 2.5]"),
        (Peer::TorchServe, " [[1.0, 2.5]] "),
        (Peer::TorchServe, r#"{"y": [1.0, 2.5]}"#),
        (Peer::TorchServe, r#"{"predictions": [[1.0, 2.5]]}"#),
    ] {
        assert_eq!(read(peer, body), one, "{peer:?}: {body}");
    }
    for (peer, body, words) in [
        (Peer::TensorFlow, r#"{"result": 1}"#, "neither `predictions` nor `outputs`"),
        (
            Peer::TensorFlow,
            r#"{"outputs": {"z": [[1, 2]]}}"#,
            "none of the outputs `y` FP32 [-1, 2]",
        ),
        (Peer::TensorFlow, r#"{"outputs": [1.0, 2.5]}"#, "has shape [-1, 2], [2] came"),
        (Peer::TensorFlow, r#"{"outputs": [["a", "b"]]}"#, "output `y` is FP32"),
        (Peer::TensorFlow, r#"{"outputs": [[1, 2], [3]]}"#, "output `y`: Encountered list"),
        (Peer::TensorFlow, r#"{"outputs": [[1, 2]]} x"#, "the end of the body"),
        (Peer::TensorFlow, "<html>", "not JSON"),
        (
            Peer::KserveV1,
            r#"{"predictions": [{"y": [1, 2]}, {}]}"#,
            "row 1 of the answer has other outputs",
        ),
        (Peer::TorchServe, r#"{"tabby": 0.9}"#, "neither `predictions` nor `outputs`"),
        (Peer::TorchServe, "a tabby", "not JSON"),
        (Peer::TorchServe, "[1, 2] [3]", "the end of the body"),
    ] {
        let failure = read(peer, body).unwrap_err();
        assert!(failure.message.contains(words), "{peer:?}: {body}: {failure}");
    }
}

#[test]
fn a_handlers_failure_is_no_want_of_workers() {
    let refusal = |body: &str| {
        let (headers, body) = (HeaderMap::new(), [Bytes::copy_from_slice(body.as_bytes())]);
        let reply = Reply { status: 503, headers: &headers, trailers: None, body: &body };
        Peer::TorchServe.open(&reply, &LIMITS).unwrap_err()
    };
    let failed = refusal(
        r#"{"code": 503, "type": "InternalServerException", "message": "Prediction failed"}"#,
    );
    assert_eq!((failed.status, &*failed.words), (500, "Prediction failed"));
    let without = refusal(
        r#"{"code": 503, "type": "ServiceUnavailableException", "message": "Model \"m\" has no worker"}"#,
    );
    assert_eq!((without.status, without.code), (503, None));
    assert_eq!(refusal("gone").to_string(), "answered 503: gone");
}

#[test]
fn a_text_that_a_handler_gives_bare_is_an_answer() {
    let mut signature = floats_and_names();
    signature.outputs[0].dtype = DType::Bytes;
    signature.outputs[0].shape = vec![Dim::Any(())];
    for (body, text) in [("a tabby", "a tabby"), (r#""a tabby""#, "a tabby"), (r#"["渡"]"#, "渡")]
    {
        let rope = [Bytes::copy_from_slice(body.as_bytes())];
        let answer =
            Peer::TorchServe.decode(&rope, &HeaderMap::new(), &signature, &LIMITS).unwrap();
        assert_eq!(answer.outputs[0].strings().unwrap(), [text.as_bytes()]);
        assert_eq!(answer.outputs[0].shape, [1]);
    }
}

#[test]
fn a_signature_that_cannot_be_asked_is_refused_with_a_word() {
    let of = |body: &str| {
        let rope = [Bytes::copy_from_slice(body.as_bytes())];
        Peer::TensorFlow.read_signature(&rope).unwrap_err()
    };
    let page = |name: &str, dtype: &str, shape: &str| {
        let x = format!(r#"{{"x":{{"dtype":"{dtype}","tensor_shape":{shape},"name":"x:0"}}}}"#);
        format!(
            r#"{{"metadata":{{"signature_def":{{"signature_def":{{"{name}":{{"inputs":{x},"outputs":{{}}}}}}}}}}}}"#
        )
    };
    let free = r#"{"dim":[],"unknown_rank":true}"#;
    for (body, words) in [
        (page("serving_default", "DT_FLOAT", free), "`x` has no shape there: declare"),
        (page("classify", "DT_FLOAT", free), "no signature `serving_default`; it has `classify`"),
        (page("serving_default", "DT_COMPLEX64", free), "the dtype `DT_COMPLEX64`"),
        ("{}".to_owned(), "not TensorFlow Serving's"),
    ] {
        assert!(of(&body).contains(words), "{body}: {}", of(&body));
    }
}
