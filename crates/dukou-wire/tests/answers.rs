//! Answers, failures and golden samples: the text that is written, and what is read back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use dukou_types::{
    Buffer, DType, Data, ErrorCode, Failure, InferResponse, Param, Principal, RequestId,
    SharedBytes, Tensor,
};
use dukou_wire::{Carriage, EncodeContext, Encoded, v2};
use http::HeaderMap;
use support::{LIMITS, binary_headers, signature};

/// A tensor of these bytes.
fn tensor(name: &str, dtype: DType, shape: &[usize], bytes: &[u8]) -> Tensor {
    let data = Data::Shared(SharedBytes::new(Arc::new(bytes.to_vec())));
    Tensor { name: name.into(), dtype, shape: shape.to_vec(), data }
}

fn floats(name: &str, values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, DType::Fp32, &[1, values.len()], &bytes)
}

fn encode(outputs: Vec<Tensor>, carriage: &Carriage) -> Result<(Vec<u8>, Encoded), Failure> {
    let response = InferResponse { outputs: outputs.into(), parameters: vec![], served_by: None };
    let context =
        EncodeContext { model: "m", version: "3", client_id: None, carriage, labels: &[] };
    let mut out = b"before".to_vec();
    let encoded = v2::encode(&response, &context, &mut out);
    assert!(out.starts_with(b"before"));
    if encoded.is_err() {
        assert_eq!(out, b"before", "a refused answer leaves nothing behind");
    }
    encoded.map(|encoded| (out.split_off(6), encoded))
}

#[test]
fn keys_stand_in_tritons_order_and_data_is_flat() {
    let response = InferResponse {
        outputs: [
            floats("y", &[0.1, -0.0, 1e-7, 16_777_216.0]),
            tensor("t", DType::Bool, &[2, 1], &[1, 0]),
        ]
        .into_iter()
        .collect(),
        parameters: vec![("sequence".into(), Param::Int(-4)), ("last".into(), Param::Bool(true))],
        served_by: None,
    };
    let context = EncodeContext {
        model: "m\"",
        version: "3",
        client_id: Some("a\n\u{7f}渡"),
        carriage: &Carriage::Json,
        labels: &[],
    };
    let mut out = Vec::new();
    let encoded = v2::encode(&response, &context, &mut out).unwrap();
    assert_eq!(encoded.content_type(), "application/json");
    assert_eq!(
        String::from_utf8(out).unwrap(),
        concat!(
            r#"{"id":"a\n\u007f渡","model_name":"m\"","model_version":"3","parameters":{"sequence":-4,"last":true},"outputs":["#,
            r#"{"name":"y","datatype":"FP32","shape":[1,4],"data":[0.1,-0.0,1e-7,16777216.0]},"#,
            r#"{"name":"t","datatype":"BOOL","shape":[2,1],"data":[true,false]}]}"#
        )
    );
}

#[test]
fn what_json_cannot_hold() {
    let (body, _) = encode(
        vec![floats("y", &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0])],
        &Carriage::Json,
    )
    .unwrap();
    let text = String::from_utf8(body.clone()).unwrap();
    assert!(text.contains("[null,null,null,1.0]"), "{text}");
    // Our own client reads `null` as NaN.
    let answer =
        v2::decode_response(&[Bytes::from(body)], &HeaderMap::new(), None, &LIMITS).unwrap();
    let values = answer.outputs[0].typed::<f32>().unwrap();
    assert!(values[..3].iter().all(|value| value.is_nan()) && values[3] == 1.0);

    let blob = Data::Strings(vec![Bytes::from_static(b"a"), Bytes::from_static(b"\xff")]);
    let blob = Tensor { name: "b".into(), dtype: DType::Bytes, shape: vec![2], data: blob };
    for (output, sentence) in [
        (
            tensor("h", DType::Fp16, &[1], &[0, 0]),
            "output `h` is FP16, which does not travel as JSON; ask for it with the parameter `binary_data`: true",
        ),
        (
            blob,
            "output `b` holds bytes that are not UTF-8 (element 1), which JSON cannot carry; ask for it with the parameter `binary_data`: true",
        ),
    ] {
        let failure = encode(vec![floats("y", &[1.0]), output], &Carriage::Json).unwrap_err();
        assert_eq!((failure.code, &*failure.message), (ErrorCode::WireUnsupportedDtype, sentence));
    }
}

#[test]
fn raw_and_json_outputs_in_one_answer() {
    let outputs = vec![tensor("h", DType::Fp16, &[2], &[1, 2, 3, 4]), floats("y", &[1.5])];
    let carriage = Carriage::Each([true, false].into_iter().collect());
    let (body, encoded) = encode(outputs, &carriage).unwrap();
    let length = encoded.header_length.unwrap();
    assert_eq!(encoded.content_type(), "application/octet-stream");
    assert_eq!(
        std::str::from_utf8(&body[..length]).unwrap(),
        concat!(
            r#"{"model_name":"m","model_version":"3","outputs":[{"name":"h","datatype":"FP16","shape":[2],"parameters":{"binary_data_size":4}},"#,
            r#"{"name":"y","datatype":"FP32","shape":[1,1],"data":[1.5]}]}"#
        )
    );
    assert_eq!(body[length..], [1, 2, 3, 4]);
    let answer =
        v2::decode_response(&[Bytes::from(body)], &binary_headers(Some(length)), None, &LIMITS)
            .unwrap();
    assert_eq!(answer.outputs[0].bytes().unwrap(), [1, 2, 3, 4]);
}

#[test]
fn elements_may_lie_at_any_address() {
    let bytes: Vec<u8> =
        [0].into_iter().chain([7_i64, -8].iter().flat_map(|value| value.to_le_bytes())).collect();
    let odd = SharedBytes::new(Arc::new(bytes)).slice(1..17).unwrap();
    let odd =
        Tensor { name: "i".into(), dtype: DType::Int64, shape: vec![2], data: Data::Shared(odd) };
    let (body, _) = encode(vec![odd], &Carriage::Json).unwrap();
    assert!(String::from_utf8(body).unwrap().contains("[7,-8]"));
}

#[test]
fn a_request_as_a_client_writes_it() {
    let mut out = Vec::new();
    let parameters = [("priority".into(), Param::Int(1))];
    let options = v2::RequestOptions {
        client_id: Some("7"),
        parameters: &parameters,
        outputs: &["y"],
        binary: false,
    };
    v2::encode_request(&[floats("x", &[1.0, 2.5])], &options, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        concat!(
            r#"{"id":"7","parameters":{"priority":1},"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1.0,2.5]}],"#,
            r#""outputs":[{"name":"y"}]}"#
        )
    );
    let failure = v2::encode_request(
        &[floats("x", &[f32::NAN])],
        &v2::RequestOptions::default(),
        &mut Vec::new(),
    )
    .unwrap_err();
    assert_eq!(
        (failure.code, &*failure.message),
        (
            ErrorCode::WireNotANumber,
            "input `x` holds NaN or an infinity, which JSON does not have; send it as binary tensor data"
        )
    );
}

#[test]
fn an_answer_must_be_of_the_signature_where_one_is_given() {
    let read = |body: &str| {
        let signature = signature(&[]);
        v2::decode_response(
            &[Bytes::from(body.to_owned())],
            &HeaderMap::new(),
            Some(&signature),
            &LIMITS,
        )
        .unwrap_err()
    };
    for (output, code) in [
        (r#"{"name":"z","datatype":"FP32","shape":[1,2],"data":[1,2]}"#, "request.unknown-output"),
        (r#"{"name":"y","datatype":"FP64","shape":[1,2],"data":[1,2]}"#, "request.wrong-dtype"),
        (r#"{"name":"y","datatype":"FP32","shape":[1,3],"data":[1,2,3]}"#, "request.wrong-shape"),
    ] {
        let failure = read(&format!(r#"{{"model_name":"m","outputs":[{output}]}}"#));
        assert_eq!(failure.code.as_str(), code, "{failure}");
    }
    assert_eq!(read(r#"{"model_name":"m"}"#).message, "the answer lacks `outputs`");
}

#[test]
fn golden_samples_hold_what_json_does_not() {
    let text = r#"[
        {"name":"x","datatype":"FP32","shape":[4],"data":[NaN,Infinity,-Infinity,0.5]},
        {"data":[1.5,-0.25],"shape":[2],"datatype":"FP16","name":"h"},
        {"name":"b","datatype":"BF16","shape":[1],"data":[3.0]},
        {"name":"s","datatype":"BYTES","shape":[2,1],"data":[["a"],["渡"]]},
        {"name":"t","datatype":"BOOL","shape":[],"data":[true]}
    ]"#;
    let tensors = v2::parse_tensors(text.as_bytes(), true).unwrap();
    let x = tensors[0].typed::<f32>().unwrap();
    assert!(x[0].is_nan());
    assert_eq!(x[1..], [f32::INFINITY, f32::NEG_INFINITY, 0.5]);
    assert_eq!(tensors[1].bytes().unwrap(), [0x00, 0x3E, 0x00, 0xB4]);
    assert_eq!(tensors[2].bytes().unwrap(), [0x40, 0x40]);
    assert_eq!(tensors[3].strings().unwrap(), ["a", "渡"]);
    assert_eq!((&*tensors[4].shape, tensors[4].bytes().unwrap()), (&[][..], &[1][..]));
    let failure = v2::parse_tensors(text.as_bytes(), false).unwrap_err();
    assert_eq!(failure.code, ErrorCode::WireNotANumber, "{failure}");
    for (text, code) in [
        ("{}", "wire.invalid-field"),
        (r#"[{"name":"x","datatype":"FP32","shape":[2],"data":[1]}]"#, "wire.element-count"),
        (r#"[{"name":"h","datatype":"FP16","shape":[1],"data":[65520]}]"#, "wire.not-a-number"),
        (
            r#"[{"name":"x","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]"#,
            "wire.missing-field",
        ),
        ("[] []", "wire.invalid-json"),
    ] {
        assert_eq!(
            v2::parse_tensors(text.as_bytes(), true).unwrap_err().code.as_str(),
            code,
            "{text}"
        );
    }
}

#[test]
fn a_failure_is_json_whatever_it_says() {
    let failure = Failure::new(ErrorCode::WireElementCount, "say \"two\"\n");
    let body = v2::encode_error(&failure, RequestId(255));
    assert_eq!(
        String::from_utf8(body.clone()).unwrap(),
        concat!(
            r#"{"error":"say \"two\"\n","code":"wire.element-count","remedy":"Make `data` and `shape` agree.","#,
            r#""request_id":"00000000000000ff"}"#
        )
    );
    let (code, message) = v2::decode_error(&body).unwrap();
    assert_eq!((code.as_deref(), &*message), (Some("wire.element-count"), "say \"two\"\n"));
    assert_eq!(v2::decode_error(br#"{"error":"busy"}"#), Some((None, "busy".to_owned())));
    assert_eq!(v2::decode_error(b"busy"), None);
}

#[test]
fn a_lease_is_used_as_it_is() {
    let signature = signature(&[("x", DType::Fp32, "batch 2")]);
    let body = Bytes::from_static(
        br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]}"#,
    );
    let mut asked = Vec::new();
    // Longer than asked, and with bytes of an earlier request in it.
    let mut lease = |position, bytes| {
        asked.push((position, bytes));
        let mut buffer = Buffer::zeroed(4096);
        buffer.bytes_mut().fill(0xAA);
        buffer
    };
    let decoded = v2::decode(&[body], &HeaderMap::new(), &signature, &LIMITS, &mut lease).unwrap();
    assert_eq!(asked, [(0, 8)]);
    assert_eq!(decoded.inputs[0].bytes().unwrap(), [0, 0, 128, 63, 0, 0, 0, 64]);
    let request = dukou_types::InferRequest::new(RequestId(1), Principal::Loopback, decoded.inputs);
    assert_eq!((request.rows(), request.size()), (1, 8));
}
