//! The cases in `conformance/wire/v2`, each whole and in frames of one byte.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on stops")]

mod support;

use bytes::Bytes;
use dukou_types::{DType, Failure, Param, Requested, Signature, Tensor};
use dukou_wire::{Decoded, Head, Selector, address, open_body};
use http::{HeaderMap, HeaderName, Method};
use serde_json::Value;
use support::decode_rope;

/// The cases of a file.
fn cases(text: &str, at_least: usize) -> Vec<Value> {
    let document: Value = serde_json::from_str(text).unwrap();
    let cases = document["cases"].as_array().unwrap().clone();
    assert!(cases.len() >= at_least, "only {} cases", cases.len());
    cases
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn unhex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2));
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// A body, put together from its parts.
fn body(value: &Value) -> Vec<u8> {
    match value {
        Value::String(text) => text.clone().into_bytes(),
        Value::Array(parts) => parts.iter().flat_map(body).collect(),
        part if part.get("hex").is_some() => unhex(text(&part["hex"])),
        part => text(&part["repeat"])
            .repeat(usize::try_from(part["times"].as_u64().unwrap()).unwrap())
            .into_bytes(),
    }
}

fn headers(case: &Value) -> HeaderMap {
    let pairs = case.get("headers").and_then(Value::as_object).into_iter().flatten();
    pairs
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), text(value).parse().unwrap()))
        .collect()
}

/// Decodes a case's body whole, then in many frames, and demands that both say the same.
fn decode(case: &Value) -> Result<Decoded, Failure> {
    let signature: Signature = serde_json::from_value(case["signature"].clone()).unwrap();
    let (body, headers) = (body(&case["body"]), headers(case));
    let frames: Vec<Bytes> =
        body.chunks(if body.len() < 4096 { 1 } else { 4093 }).map(Bytes::copy_from_slice).collect();
    // As a door does: what is compressed is opened first.
    let decode = |frames: &[Bytes]| {
        let opened = open_body(frames.iter().cloned().collect(), &headers, 64 << 20)?;
        decode_rope(&opened, &headers, &signature)
    };
    let whole = decode(&[Bytes::from(body)]);
    let cut = decode(&frames);
    let contents = |decoded: &Decoded| support::all_contents(&decoded.inputs);
    assert_eq!(whole.as_ref().map(contents), cut.as_ref().map(contents), "{}", case["name"]);
    whole
}

fn check_tensor(tensor: &Tensor, expected: &Value) {
    assert_eq!(*tensor.name, *text(&expected["name"]));
    assert_eq!(Some(tensor.dtype), DType::parse(text(&expected["datatype"])));
    assert_eq!(serde_json::to_value(&tensor.shape).unwrap(), expected["shape"]);
    if let Some(hex) = expected.get("hex") {
        assert_eq!(tensor.bytes().unwrap(), unhex(text(hex)));
    } else {
        let elements =
            expected["elements_hex"].as_array().unwrap().iter().map(|hex| unhex(text(hex)));
        assert_eq!(tensor.strings().unwrap(), elements.collect::<Vec<_>>());
    }
}

fn parameter(parameter: &Param) -> Value {
    match parameter {
        Param::Bool(truth) => (*truth).into(),
        Param::Int(number) => (*number).into(),
        Param::Double(number) => (*number).into(),
        Param::String(text) => (&**text).into(),
    }
}

fn check_refusal(failure: &Failure, expected: &Value, what: &Value) {
    assert_eq!(failure.code.as_str(), text(&expected["code"]), "{what}: {failure}");
    assert_eq!(
        u64::from(failure.code.http_status()),
        expected["status"].as_u64().unwrap(),
        "{what}"
    );
    for part in expected["message"].as_array().unwrap() {
        assert!(failure.message.contains(text(part)), "{what}: {failure} lacks {part}");
    }
}

#[test]
fn accepted() {
    for case in cases(include_str!("../../../conformance/wire/v2/accepted.json"), 20) {
        let expected = &case["expect"];
        let decoded = decode(&case).unwrap_or_else(|failure| panic!("{}: {failure}", case["name"]));
        let inputs = expected["inputs"].as_array().unwrap();
        assert_eq!(decoded.inputs.len(), inputs.len(), "{}", case["name"]);
        decoded
            .inputs
            .iter()
            .zip(inputs)
            .for_each(|(tensor, expected)| check_tensor(tensor, expected));
        assert_eq!(decoded.client_id.as_deref(), expected["id"].as_str(), "{}", case["name"]);
        assert_eq!(u64::from(decoded.priority), expected["priority"].as_u64().unwrap_or(0));
        let timeout = decoded.timeout.map(|timeout| u64::try_from(timeout.as_micros()).unwrap());
        assert_eq!(timeout, expected["timeout_us"].as_u64());
        let parameters: serde_json::Map<_, _> = decoded
            .parameters
            .iter()
            .map(|(name, value)| (name.to_string(), parameter(value)))
            .collect();
        assert_eq!(
            parameters,
            expected.get("parameters").and_then(Value::as_object).cloned().unwrap_or_default()
        );
        let names = match &decoded.outputs {
            Requested::All => Value::Null,
            Requested::Only(positions) => positions
                .iter()
                .map(|&position| case["signature"]["outputs"][position]["name"].clone())
                .collect(),
        };
        assert_eq!(&names, expected.get("outputs").unwrap_or(&Value::Null), "{}", case["name"]);
    }
}

#[test]
fn refused() {
    for case in cases(include_str!("../../../conformance/wire/v2/refused.json"), 40) {
        match decode(&case) {
            Ok(_) => panic!("{} was taken", case["name"]),
            Err(failure) => check_refusal(&failure, &case["expect"], &case["name"]),
        }
    }
}

#[test]
fn addresses() {
    for case in cases(include_str!("../../../conformance/wire/v2/addresses.json"), 20) {
        let (method, path) =
            (Method::from_bytes(text(&case["method"]).as_bytes()).unwrap(), text(&case["path"]));
        let head = Head { method: &method, path, query: None, headers: &HeaderMap::new() };
        let expected = &case["expect"];
        match address(&head) {
            Err(failure) => check_refusal(&failure, expected, &case["path"]),
            Ok(addressed) => {
                assert_eq!(addressed.target.operation(), text(&expected["operation"]), "{path}");
                let model = addressed.target.model();
                assert_eq!(
                    model.map(|(name, _)| name.as_str()),
                    expected["model"].as_str(),
                    "{path}"
                );
                let (version, alias) = match model {
                    Some((_, Selector::Version(version))) => (Some(version.as_str()), None),
                    Some((_, Selector::Alias(alias))) => (None, Some(&**alias)),
                    _ => (None, None),
                };
                assert_eq!(
                    (version, alias),
                    (expected["version"].as_str(), expected["alias"].as_str()),
                    "{path}"
                );
            }
        }
    }
}
