use dukou_types::{Buffer, DType, Dim, Tensor, TensorSpec};
use proptest::prelude::*;

use super::*;

fn spec(name: &str, dtype: DType, rest: &[usize]) -> TensorSpec {
    let rows = [Dim::Symbol("n".into())];
    let shape = rows.into_iter().chain(rest.iter().map(|&extent| Dim::Fixed(extent))).collect();
    TensorSpec { name: name.into(), dtype, shape }
}

fn model(inputs: Vec<TensorSpec>) -> Signature {
    Signature { inputs, outputs: vec![], batchable: false }
}

fn one() -> Signature {
    model(vec![spec("x", DType::Fp32, &[2])])
}

fn two() -> Signature {
    model(vec![spec("a", DType::Fp32, &[2]), spec("b", DType::Int64, &[])])
}

fn text() -> Signature {
    model(vec![spec("t", DType::Bytes, &[])])
}

/// Shapes, numbers and how the answer goes.
type Read = (Vec<(Vec<usize>, Vec<f64>)>, Carriage);

fn numbers(tensor: &Tensor) -> Vec<f64> {
    match tensor.dtype {
        DType::Fp32 => tensor.typed::<f32>().unwrap().iter().map(|&x| f64::from(x)).collect(),
        _ => tensor.typed::<i64>().unwrap().iter().map(|&x| x as f64).collect(),
    }
}

fn raw(kind: Option<&str>, body: &[u8], signature: &Signature) -> Result<Decoded, Failure> {
    let mut headers = HeaderMap::new();
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
    }
    let limits = DecodeLimits { json_depth: 16, body_bytes: 4096 };
    let frames = [Bytes::copy_from_slice(body)];
    decode(&frames, &headers, signature, &limits, &mut |_, bytes| Buffer::zeroed(bytes))
}

fn ask(kind: Option<&str>, body: &[u8], signature: &Signature) -> Result<Read, String> {
    let decoded = raw(kind, body, signature).map_err(|f| format!("{}: {}", f.code, f.message))?;
    let read = decoded.inputs.iter().map(|t| (t.shape.clone(), numbers(t))).collect();
    Ok((read, decoded.carriage))
}

const JSON: Option<&str> = Some("application/json");

#[test]
fn a_row_rows_and_instances_of_one_input() {
    let row = || Ok((vec![(vec![1, 2], vec![1.0, 2.5])], Carriage::BareRow));
    let rows = |carriage| Ok((vec![(vec![2, 2], vec![1.0, 2.5, 3.0, 4.0])], carriage));
    for body in ["[1,2.5]", r#"{"data":[1,2.5]}"#, r#"{"body":[1,2.5]}"#, r#"{"x":[1,2.5],"k":3}"#]
    {
        assert_eq!(ask(JSON, body.as_bytes(), &one()), row(), "{body}");
        assert_eq!(ask(None, body.as_bytes(), &one()), row(), "{body} without a content type");
        let form = Some("application/x-www-form-urlencoded");
        assert_eq!(ask(form, body.as_bytes(), &one()), row(), "{body} by `curl -d`");
        let text = Some("text/plain; charset=utf-8");
        assert_eq!(ask(text, body.as_bytes(), &one()), row(), "{body} as a text");
    }
    for body in
        ["[[1,2.5],[3,4]]", r#"{"inputs":{"x":[[1,2.5],[3,4]]}}"#, r#"{"inputs":[[1,2.5],[3,4]]}"#]
    {
        assert_eq!(ask(JSON, body.as_bytes(), &one()), rows(Carriage::BareRows), "{body}");
    }
    let instances = r#"{"instances":[[1,2.5],{"x":[3,4]}]}"#;
    assert!(ask(JSON, instances.as_bytes(), &one()).is_err(), "bare or by name, not both");
    let instances = r#"{"instances":[[1,2.5],[3,4]]}"#;
    assert_eq!(ask(JSON, instances.as_bytes(), &one()), rows(Carriage::Rows));
}

#[test]
fn raw_elements_and_arrays() {
    let bytes: Vec<u8> = [1.0_f32, 2.5, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let octets = Some("application/octet-stream");
    let rows = Ok((vec![(vec![2, 2], vec![1.0, 2.5, 3.0, 4.0])], Carriage::BareRows));
    assert_eq!(ask(octets, &bytes, &one()), rows);
    assert_eq!(ask(None, &bytes, &one()), rows, "`curl -T` says nothing");
    let row = Ok((vec![(vec![1, 2], vec![1.0, 2.5])], Carriage::BareRow));
    assert_eq!(ask(octets, &bytes[..8], &one()), row);
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    let header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }\n";
    file.extend_from_slice(&u16::try_from(header.len()).unwrap().to_le_bytes());
    file.extend_from_slice(header);
    file.extend([1.0_f64, 2.5].iter().flat_map(|x| x.to_le_bytes()));
    for kind in [None, octets, Some("application/x-npy")] {
        let rows = Ok((vec![(vec![1, 2], vec![1.0, 2.5])], Carriage::BareRows));
        assert_eq!(ask(kind, &file, &one()), rows, "{kind:?}");
    }
}

#[test]
fn inputs_by_name() {
    let row = || Ok((vec![(vec![1, 2], vec![1.0, 2.0]), (vec![1], vec![3.0])], Carriage::BareRow));
    assert_eq!(ask(JSON, br#"{"a":[1,2],"b":3}"#, &two()), row());
    assert_eq!(ask(JSON, br#"{"inputs":{"a":[1,2],"b":3}}"#, &two()), row());
    assert_eq!(
        ask(Some("application/x-www-form-urlencoded"), b"a=%5B1,2%5D&b=3&c=d", &two()),
        row()
    );
    let form = "--X\r\nContent-Disposition: form-data; name=\"a\"; filename=\"a.json\"\r\n\
                Content-Type: application/octet-stream\r\n\r\n[1,2]\r\n--X\r\n\
                Content-Disposition: form-data; name=\"b\"\r\n\r\n3\r\n--X\r\n\
                Content-Disposition: form-data; name=\"other\"\r\n\r\n?\r\n--X--\r\n";
    assert_eq!(ask(Some("multipart/form-data; boundary=X"), form.as_bytes(), &two()), row());
    let rows = br#"[{"a":[1,2],"b":3},{"a":[3,4],"b":5}]"#;
    let read = vec![(vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]), (vec![2], vec![3.0, 5.0])];
    assert_eq!(ask(JSON, rows, &two()), Ok((read, Carriage::BareRows)));
}

#[test]
fn a_text_is_one_row_of_a_model_that_takes_texts() {
    let strings = |kind, body: &[u8]| {
        let decoded = raw(kind, body, &text()).unwrap();
        let tensor = &decoded.inputs[0];
        let texts: Vec<Bytes> = tensor.strings().unwrap().to_vec();
        (tensor.shape.clone(), texts, decoded.carriage)
    };
    let hello = || (vec![1], vec![Bytes::from_static(b"hello [1]")], Carriage::BareRow);
    assert_eq!(strings(Some("text/plain"), b"hello [1]"), hello());
    assert_eq!(strings(None, b"hello [1]"), hello());
    assert_eq!(strings(Some("application/octet-stream"), b"hello [1]"), hello());
    assert_eq!(strings(Some("application/x-www-form-urlencoded"), b"data=hello+%5B1%5D"), hello());
    assert_eq!(strings(JSON, br#""hello [1]""#), hello());
    let two =
        (vec![2], vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")], Carriage::BareRows);
    assert_eq!(strings(JSON, br#"["a","b"]"#), two);
}

#[test]
fn what_does_not_fit_is_said_with_both_sides() {
    for (kind, body, signature, words) in [
        (
            JSON,
            &b""[..],
            one(),
            "request.missing-input: the body is empty; the model takes `x` FP32 [n, 2]",
        ),
        (
            JSON,
            b"[1]",
            one(),
            "request.wrong-shape: input `x` has shape [1], and the model takes [n, 2]",
        ),
        (JSON, b"[1,", one(), "wire.invalid-json: "),
        (JSON, br#"["a","b"]"#, one(), "wire.not-a-number: "),
        (JSON, b"{}", one(), "request.missing-input: input `x` is missing"),
        (JSON, br#"{"a":[1,2]}"#, two(), "request.missing-input: input `b` is missing"),
        (JSON, b"[1,2]", two(), "request.missing-input: `the body` holds bare values"),
        (
            JSON,
            br#"{"x":[1,2],"data":[1,2]}"#,
            one(),
            "request.duplicate-input: input `x` came twice",
        ),
        (
            JSON,
            br#"{"instances":[[1,2]],"instances":[[1,2]]}"#,
            one(),
            "wire.invalid-field: `instances` stands twice",
        ),
        (
            None,
            b"\xff\xd8\xff\xe0",
            one(),
            "wire.element-count: input `x`: 4 bytes came (a JPEG image",
        ),
        (None, b"PK\x03\x04", one(), "wire.element-count: input `x`: 4 bytes came (a zip"),
        (
            Some("application/octet-stream"),
            b"123",
            one(),
            "wire.element-count: input `x`: 3 bytes came, ",
        ),
        (Some("image/png"), b"[1,2]", two(), "request.missing-input: the body is one value"),
        (Some("multipart/form-data"), b"", two(), "request.missing-input: the body is empty"),
        (
            Some("multipart/form-data"),
            b"--X--",
            two(),
            "wire.invalid-field: `multipart/form-data` names no `boundary`",
        ),
        (
            Some("application/x-www-form-urlencoded"),
            b"\xff=1",
            one(),
            "wire.invalid-field: the body is no form",
        ),
    ] {
        let said = ask(kind, body, &signature).unwrap_err();
        assert!(said.starts_with(words), "{body:?}: {said}");
    }
    let large = raw(None, &[0; 5000], &one()).unwrap_err();
    assert_eq!(large.code, ErrorCode::RequestBodyTooLarge);
}

proptest! {
    #[test]
    fn no_body_makes_it_panic(
        body in prop::collection::vec(any::<u8>(), 0..64),
        text in r#"[\[\]\{\}":,0-9abinstcex. -]{0,48}"#,
        kind in 0..5_usize,
    ) {
        let kinds = [None, JSON, Some("text/plain"), Some("multipart/form-data; boundary=X"),
            Some("application/x-www-form-urlencoded")];
        for body in [&body[..], text.as_bytes()] {
            for signature in [one(), two(), self::text()] {
                if let Ok(decoded) = raw(kinds[kind], body, &signature) {
                    prop_assert_eq!(decoded.inputs.len(), signature.inputs.len());
                }
            }
        }
    }
}
