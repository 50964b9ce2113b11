use dukou_types::Dim;

use super::*;

fn signature() -> Signature {
    let spec = |name: &str, dtype, shape: &[Option<usize>]| TensorSpec {
        name: name.into(),
        dtype,
        shape: shape.iter().map(|d| d.map_or(Dim::Any(()), Dim::Fixed)).collect(),
    };
    Signature {
        inputs: vec![spec("x", DType::Fp32, &[None, Some(2)])],
        outputs: vec![
            spec("p", DType::Fp32, &[None, Some(2)]),
            spec("label", DType::Int64, &[None]),
        ],
        batchable: false,
    }
}

fn blob(p: &str, label: &str) -> String {
    format!(
        r#"{{"format":1,"tolerance":{{"absolute":0.01,"relative":0.1}},"classes":"p","samples":[{{
        "inputs":[{{"name":"x","datatype":"FP32","shape":[1,2],"data":[1.5,-Infinity]}}],
        "outputs":[{{"name":"p","datatype":"FP32","shape":[1,2],"data":{p}}},
                   {{"name":"label","datatype":"INT64","shape":[1],"data":{label}}}]}}]}}"#
    )
}

/// Replays against a version that always gives these outputs.
fn replay(golden: &Golden, p: [f32; 2], label: i64) -> Result<usize, String> {
    let tensor = |name: &str, dtype, shape: &[usize], bytes: &[u8]| {
        let mut buffer = Buffer::zeroed(bytes.len());
        buffer.bytes_mut().copy_from_slice(bytes);
        Tensor { name: name.into(), dtype, shape: shape.to_vec(), data: Data::Owned(buffer) }
    };
    let run = |request: InferRequest| {
        assert_eq!(request.inputs[0].typed::<f32>().unwrap(), [1.5, f32::NEG_INFINITY]);
        let p = tensor("p", DType::Fp32, &[1, 2], bytemuck::cast_slice(&p));
        let label = tensor("label", DType::Int64, &[1], bytemuck::cast_slice(&[label]));
        Ok(InferResponse {
            outputs: [p, label].into_iter().collect(),
            parameters: Vec::new(),
            served_by: None,
        })
    };
    golden.replay(run).map_err(|failure| {
        assert_eq!(failure.code, ErrorCode::TableGoldenMismatch);
        failure.message.into_owned()
    })
}

#[test]
fn another_provider_is_held_to_fewer_digits_and_to_the_same_class() {
    let parse = |p: &str| Golden::parse(blob(p, "[1]").as_bytes(), &signature()).unwrap();
    let (cpu, cuda) = (dukou_ort::CPU.to_owned(), "CUDAExecutionProvider".to_owned());
    let own = parse("[0.25,0.75]");
    assert_eq!(parse("[0.25,0.75]").on(Some(&cpu)).tolerance, own.tolerance);
    let mut strict = own.clone();
    strict.tolerance = Tolerance { absolute: 1e-6, relative: 0.5 };
    let loose = strict.on(Some(&cuda));
    assert_eq!(loose.tolerance, Tolerance { absolute: 1e-3, relative: 0.5 });
    assert_eq!(loose.classes, own.classes);
}

#[test]
fn an_answer_within_the_tolerance_is_the_same() {
    let golden = Golden::parse(blob("[0.25,0.75]", "[1]").as_bytes(), &signature()).unwrap();
    assert_eq!(replay(&golden, [0.25, 0.75], 1), Ok(1));
    assert_eq!(replay(&golden, [0.284, 0.751], 1), Ok(1), "0.01 + 0.1 * 0.25 apart at most");
}

#[test]
fn what_differs_is_named_with_both_sides() {
    let golden = Golden::parse(blob("[0.25,0.75]", "[1]").as_bytes(), &signature()).unwrap();
    let message = replay(&golden, [0.3, 0.75], 1).unwrap_err();
    assert!(
        message.starts_with("golden sample 0: output `p` element [0, 0]: expected 0.25, came 0.3"),
        "{message}"
    );
    let message = replay(&golden, [0.25, 0.75], 2).unwrap_err();
    assert_eq!(message, "golden sample 0: output `label` element [0]: expected 1, came 2");
    let message = replay(&golden, [f32::NAN, 0.75], 1).unwrap_err();
    assert!(message.contains("expected 0.25, came NaN"), "{message}");
}

#[test]
fn a_class_must_agree_even_where_the_numbers_do() {
    let golden = Golden::parse(blob("[0.49,0.5]", "[1]").as_bytes(), &signature()).unwrap();
    let message = replay(&golden, [0.5, 0.49], 1).unwrap_err();
    assert_eq!(message, "golden sample 0: output `p` row 0: expected class 1, came class 0");
}

#[test]
fn what_is_not_a_number_equals_itself() {
    let golden = Golden::parse(blob("[NaN,Infinity]", "[1]").as_bytes(), &signature()).unwrap();
    assert_eq!(replay(&golden, [f32::NAN, f32::INFINITY], 1), Ok(1));
    assert!(replay(&golden, [f32::NAN, f32::NEG_INFINITY], 1).is_err());
    assert!(replay(&golden, [0.0, f32::INFINITY], 1).is_err());
}

#[test]
fn a_blob_that_does_not_fit_is_refused_with_its_reason() {
    let cases = [
        ("[]", "[1]", "has 0 elements of `p`"),
        ("[0.1,0.9]", "[1.5]", "an element of `label` that is no INT64"),
        ("[0.1,\"much\"]", "[1]", "an element of `p` that is no FP32"),
        ("[0.1,0.9", "[1]", "cannot be read"),
    ];
    for (p, label, reason) in cases {
        let failure = Golden::parse(blob(p, label).as_bytes(), &signature()).unwrap_err();
        assert_eq!(failure.code, ErrorCode::FormatsCorrupt);
        assert!(failure.message.contains(reason), "{}", failure.message);
    }
    let stray = blob("[0.1,0.9]", "[1]").replace("\"x\"", "\"y\"");
    let failure = Golden::parse(stray.as_bytes(), &signature()).unwrap_err();
    assert!(
        failure.message.contains("has `y`, which the signature has not"),
        "{}",
        failure.message
    );
}

#[test]
fn words_inside_strings_are_left_alone() {
    let text = br#"{"a":"NaN \" -Infinity","b":[NaN,-Infinity,Infinity,-1]}"#;
    let quoted = quote_non_finite(text);
    assert_eq!(
        std::str::from_utf8(&quoted).unwrap(),
        r#"{"a":"NaN \" -Infinity","b":["NaN","-Infinity","Infinity",-1]}"#
    );
}

#[test]
fn every_dtype_is_read_and_compared() {
    for dtype in DType::ALL {
        let data = match dtype {
            DType::Bool => "[true,false]",
            DType::Bytes => "[\"a\",\"b\"]",
            DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64 => "[0.5,NaN]",
            _ => "[1,2]",
        };
        let spec = TensorSpec { name: "x".into(), dtype, shape: vec![Dim::Fixed(2)] };
        let raw = format!(r#"{{"name":"x","datatype":"{dtype}","shape":[2],"data":{data}}}"#);
        let raw: RawTensor = serde_json::from_slice(&quote_non_finite(raw.as_bytes())).unwrap();
        let tensor = raw.read(&spec).unwrap();
        assert_eq!(agree(&tensor, &tensor.clone(), Tolerance::default()), Ok(()), "{dtype}");
        let swapped = RawTensor { data: raw.data.iter().rev().cloned().collect(), ..raw };
        let other = swapped.read(&spec).unwrap();
        assert!(agree(&tensor, &other, Tolerance::default()).is_err(), "{dtype}");
    }
}
