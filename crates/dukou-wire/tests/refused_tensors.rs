//! Tensors that do not fit: names, dtypes, shapes, elements. Each refusal has its code, and a sentence with
//! both sides.

mod support;

use bytes::Bytes;
use dukou_types::{Buffer, DType};
use dukou_wire::v2;
use http::HeaderMap;
use support::{LIMITS, floats, refused, signature, x};

#[test]
fn inputs_that_do_not_fit_the_signature() {
    let two = signature(&[("a", DType::Fp32, "batch 2"), ("b", DType::Int64, "batch ?")]);
    let a = r#"{"name":"a","datatype":"FP32","shape":[1,2],"data":[1,2]}"#;
    let b = r#"{"name":"b","datatype":"INT64","shape":[2,1],"data":[1,2]}"#;
    refused(
        &format!(r#"{{"inputs":[{a}]}}"#),
        &two,
        "request.missing-input",
        "the request lacks `b`; the model takes `a` FP32 [batch, 2], `b` INT64 [batch, -1]",
    );
    refused(
        &format!(r#"{{"inputs":[{a},{a}]}}"#),
        &two,
        "request.duplicate-input",
        "input `a` came twice",
    );
    refused(
        &format!(r#"{{"inputs":[{a},{b}]}}"#),
        &two,
        "request.wrong-shape",
        "`batch` is 1 in input `a` and 2 in input `b`; it must be the same throughout a request",
    );
    refused(
        r#"{"inputs":[{"name":"z","datatype":"FP32","shape":[1],"data":[1]}]}"#,
        &floats(),
        "request.unknown-input",
        "the model has no input `z`; its inputs are `x` FP32 [batch, 2]",
    );
    refused(
        &x("INT64", "[1,2]", "[1,2]"),
        &floats(),
        "request.wrong-dtype",
        "input `x` is FP32, INT64 came",
    );
    refused(
        &x("FP32", "[1,3]", "[1,2,3]"),
        &floats(),
        "request.wrong-shape",
        "input `x` has shape [batch, 2], [1, 3] came",
    );
    refused(
        &x("FP32", "[2]", "[1,2]"),
        &floats(),
        "request.wrong-shape",
        "input `x` has shape [batch, 2], [2] came",
    );
    let square = signature(&[("x", DType::Fp32, "n n")]);
    refused(
        &x("FP32", "[1,2]", "[1,2]"),
        &square,
        "request.wrong-shape",
        "`n` is 1 in input `x` and 2 in input `x`; it must be the same throughout a request",
    );
}

#[test]
fn the_better_reason_wins_where_data_comes_first() {
    let body = |rest: &str| format!(r#"{{"inputs":[{{"name":"x","data":[1.5,^"a"],{rest}}}]}}"#);
    refused(
        &body(r#""datatype":"BYTES","shape":[1,2]"#),
        &floats(),
        "request.wrong-dtype",
        "input `x` is FP32, BYTES came",
    );
    refused(
        &body(r#""datatype":"FP32","shape":[2]"#),
        &floats(),
        "request.wrong-shape",
        "input `x` has shape [batch, 2], [2] came",
    );
    refused(
        &body(r#""datatype":"FP32","shape":[1,2]"#),
        &floats(),
        "wire.invalid-field",
        "input `x` is FP32, whose elements are numbers; `\"a\"` came at byte ^",
    );
    refused(
        r#"{"inputs":[{"data":[1,2],"shape":[1,2],"datatype":"FP32","name":"z"}]}"#,
        &floats(),
        "request.unknown-input",
        "the model has no input `z`; its inputs are `x` FP32 [batch, 2]",
    );
}

#[test]
fn elements_that_are_not_as_many_as_the_shape_says() {
    let sentence = |came: &str| {
        format!("input `x` has shape [2, 2], which is 4 elements; `data` holds {came}")
    };
    for (data, came) in
        [("[1,2,3]", "3"), ("[[1,2],[3]]", "3"), ("[]", "0"), ("[1,2,3,4,5]", "more")]
    {
        refused(&x("FP32", "[2,2]", data), &floats(), "wire.element-count", &sentence(came));
    }
    // The same where `data` stood first and was read without knowing how many there would be.
    refused(
        r#"{"inputs":[{"name":"x","data":[1,2,3],"shape":[2,2],"datatype":"FP32"}]}"#,
        &floats(),
        "wire.element-count",
        &sentence("3"),
    );
    // A signature without symbols says it alone, and reading stops at once.
    refused(
        r#"{"inputs":[{"name":"x","data":[1,2,3],"shape":[2],"datatype":"FP32"}]}"#,
        &signature(&[("x", DType::Fp32, "2")]),
        "wire.element-count",
        "input `x` has shape [2], which is 2 elements; `data` holds more",
    );
    refused(
        &x("FP32", "[]", "[1,2]"),
        &signature(&[("x", DType::Fp32, "")]),
        "wire.element-count",
        "input `x` has shape [], which is 1 element; `data` holds more",
    );
}

#[test]
fn shapes_that_are_none() {
    let shape_sentence = |came: &str| {
        format!(
            "`shape` of input `x` must be a list of whole numbers from 0 up; `{came}` came at byte ^"
        )
    };
    for came in ["-1", "1.5", "1e2", "\"1\"", "99999999999999999999", "true"] {
        refused(
            &x("FP32", &format!("[1,^{came}]"), "[1]"),
            &floats(),
            "wire.invalid-field",
            &shape_sentence(came),
        );
    }
    refused(
        &x("FP32", "^2", "[1,2]"),
        &floats(),
        "wire.invalid-field",
        "`shape` of input `x` must be a list of whole numbers; `2` came at byte ^",
    );
    refused(
        &x("FP32", "[4,1152921504606846978]", "[1]"),
        &floats(),
        "wire.shape-overflow",
        "input `x` has shape [4, 1152921504606846978], whose product is larger than can be counted",
    );
    let many = format!("[{}1]", "1,".repeat(64));
    refused(
        &x("FP32", &many, "[1]"),
        &floats(),
        "wire.invalid-field",
        "`shape` of input `x` has more than 64 dimensions",
    );
}

#[test]
fn a_claimed_shape_allocates_no_more_than_the_body_could_fill() {
    let signature = signature(&[("x", DType::Fp64, "batch ?")]);
    let body = x("FP64", "[1000000,1000000]", "[1,2,3]");
    let mut leased = 0;
    let failure = v2::decode(
        &[Bytes::from(body.clone())],
        &HeaderMap::new(),
        &signature,
        &LIMITS,
        &mut |_, bytes| {
            leased += bytes;
            Buffer::zeroed(bytes)
        },
    );
    assert_eq!(
        failure.unwrap_err().message,
        "input `x` has shape [1000000, 1000000], which is 1000000000000 elements; `data` holds 3"
    );
    assert!(leased <= body.len() * 8, "{leased}");
}

#[test]
fn numbers_that_do_not_fit() {
    let case = |dtype: DType, came: &str, code: &str, rule: &str| {
        let name = dtype.name();
        let body = x(name, "[1]", &format!("[^{came}]"));
        let signature = signature(&[("x", dtype, "n")]);
        refused(
            &body,
            &signature,
            code,
            &format!("input `x` is {name}{rule}; `{came}` came at byte ^"),
        );
    };
    let nan = "wire.not-a-number";
    case(DType::Fp32, "null", nan, " and JSON has only finite numbers");
    case(DType::Int32, "NaN", nan, " and JSON has only finite numbers");
    case(DType::Fp32, "3.5e38", nan, ", which holds magnitudes up to 3.4e38");
    case(DType::Fp32, "-1e999999999999999999999", nan, ", which holds magnitudes up to 3.4e38");
    case(DType::Fp64, "1.8e308", nan, ", which holds magnitudes up to 1.8e308");
    case(DType::Uint8, "256", nan, ", which holds 0 to 255");
    case(DType::Uint8, "-1", nan, ", which holds 0 to 255");
    case(DType::Int8, "-129", nan, ", which holds -128 to 127");
    case(DType::Uint16, "65536", nan, ", which holds 0 to 65535");
    case(DType::Int16, "32768", nan, ", which holds -32768 to 32767");
    case(DType::Uint32, "4294967296", nan, ", which holds 0 to 4294967295");
    case(DType::Int32, "2147483648", nan, ", which holds -2147483648 to 2147483647");
    case(DType::Uint64, "18446744073709551616", nan, ", which holds 0 to 18446744073709551615");
    case(
        DType::Int64,
        "9223372036854775808",
        nan,
        ", which holds -9223372036854775808 to 9223372036854775807",
    );
    case(
        DType::Int64,
        "-9223372036854775809",
        nan,
        ", which holds -9223372036854775808 to 9223372036854775807",
    );
    for came in ["1.0", "1e2", "-0.5", "1E+2"] {
        case(DType::Int64, came, nan, ", whose elements are written without fraction or exponent");
    }
    let field = "wire.invalid-field";
    case(DType::Bool, "1", field, ", whose elements are `true` and `false`");
    case(DType::Bool, "\"true\"", field, ", whose elements are `true` and `false`");
    case(DType::Fp32, "true", field, ", whose elements are numbers");
    case(DType::Int8, "\"1\"", field, ", whose elements are numbers");
    case(DType::Fp64, "{", field, ", whose elements are numbers");
    case(DType::Bytes, "1", field, ", whose elements are strings");
    case(DType::Bytes, "null", field, ", whose elements are strings");
}

#[test]
fn half_width_numbers_travel_raw() {
    for dtype in [DType::Fp16, DType::Bf16] {
        refused(
            &x(dtype.name(), "[1]", "[1.5]"),
            &signature(&[("x", dtype, "n")]),
            "wire.unsupported-dtype",
            &format!(
                "input `x` is {dtype}, which does not travel as JSON; send it as binary tensor data"
            ),
        );
    }
    refused(
        &x("FP8", "[1,2]", "[1,2]"),
        &floats(),
        "wire.unsupported-dtype",
        "input `x` has the datatype `FP8`; the protocol has BOOL, UINT8, UINT16, UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, BF16, FP32, FP64, BYTES",
    );
}
