//! Fields that the protocol does not allow so, parameters, outputs and raw data: what is said.

mod support;

use bytes::Bytes;
use dukou_types::DType;
use dukou_wire::v2;
use http::HeaderMap;
use support::{binary_headers, decode_rope, floats, refused, signature, x};

#[test]
fn fields_of_another_kind() {
    let field = "wire.invalid-field";
    refused("^[]", &floats(), field, "the body must be an object; `[` came at byte ^");
    refused("^3", &floats(), field, "the body must be an object; `3` came at byte ^");
    refused(r#"{"id":^7}"#, &floats(), field, "`id` must be a string; `7` came at byte ^");
    refused(r#"{"inputs":^{}}"#, &floats(), field, "`inputs` must be a list; `{` came at byte ^");
    refused(
        r#"{"inputs":[^7]}"#,
        &floats(),
        field,
        "every input of the list must be an object; `7` came at byte ^",
    );
    refused(
        r#"{"inputs":[{"name":^7}]}"#,
        &floats(),
        field,
        "`name` of one input must be a string; `7` came at byte ^",
    );
    refused(
        r#"{"parameters":^[]}"#,
        &floats(),
        field,
        "`parameters` must be an object; `[` came at byte ^",
    );
    refused(
        &x("FP32", "[1,2]", "^7"),
        &floats(),
        field,
        "`data` of input `x` must be a list; `7` came at byte ^",
    );
    refused(
        &x("FP32", "[1,2]", r#"^{"b64":""}"#),
        &floats(),
        field,
        "`data` of input `x` must be a list; `{` came at byte ^",
    );
    refused(r#"{"id":"a","id":"b"}"#, &floats(), field, "`id` stands twice in one object");
    refused(
        r#"{"inputs":[{"name":"x","name":"x"}]}"#,
        &floats(),
        field,
        "`name` stands twice in one object",
    );
    refused(r#"{"parameters":{"a":1,"a":2}}"#, &floats(), field, "`a` stands twice in one object");
    refused(
        r#"{"parameters":{"a":^[1]}}"#,
        &floats(),
        field,
        "parameter `a` must be a string, a truth value or a number of 64 bits; `[` came at byte ^",
    );
    let missing = "wire.missing-field";
    refused(
        "{}",
        &floats(),
        missing,
        "the body lacks `inputs`; the model takes `x` FP32 [batch, 2]",
    );
    refused(r#"{"inputs":[{"datatype":"FP32"}]}"#, &floats(), missing, "one input lacks `name`");
    refused(r#"{"inputs":[{"name":"x"}]}"#, &floats(), missing, "input `x` lacks `datatype`");
    refused(
        r#"{"inputs":[{"name":"x","datatype":"FP32"}]}"#,
        &floats(),
        missing,
        "input `x` lacks `shape`",
    );
    refused(
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2]}]}"#,
        &floats(),
        missing,
        "input `x` lacks `data`",
    );
}

#[test]
fn parameters_and_outputs() {
    let input = r#"{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}"#;
    let case = |rest: &str, code: &str, sentence: &str| {
        refused(&format!(r#"{{"inputs":[{input}],{rest}}}"#), &floats(), code, sentence);
    };
    let field = "wire.invalid-field";
    case(
        r#""parameters":{"priority":-1}"#,
        field,
        "parameter `priority` must be a whole number from 0 to 4294967295; -1 came",
    );
    case(
        r#""parameters":{"timeout":"5s"}"#,
        field,
        "parameter `timeout` must be a whole number from 0 to 9223372036854775807; the string `5s` came",
    );
    case(
        r#""parameters":{"binary_data_output":1}"#,
        field,
        "parameter `binary_data_output` must be `true` or `false`; 1 came",
    );
    case(
        r#""outputs":[{"name":"z"}]"#,
        "request.unknown-output",
        "the model has no output `z`; its outputs are `y` FP32 [batch, 2], `label` INT64 [batch]",
    );
    case(r#""outputs":[{"name":"y"},{"name":"y"}]"#, field, "output `y` is asked for twice");
    case(r#""outputs":[{}]"#, "wire.missing-field", "one output lacks `name`");
    case(
        r#""outputs":[^"y"]"#,
        field,
        "every element of `outputs` must be an object; `\"y\"` came at byte ^",
    );
    case(
        r#""outputs":[{"name":"y","parameters":{"classification":0.5}}]"#,
        field,
        "parameter `classification` must be a whole number from 0 to 4294967295; 0.5 came",
    );
    let shared = "which dukou does not have; send it in the body, as JSON or as binary tensor data";
    case(
        r#""outputs":[{"name":"y","parameters":{"shared_memory_region":"r"}}]"#,
        "wire.unsupported",
        &format!("output `y` asks for shared memory, {shared}"),
    );
    refused(
        r#"{"inputs":[{"name":"x","parameters":{"shared_memory_region":"r"}}]}"#,
        &floats(),
        "wire.unsupported",
        &format!("input `x` asks for shared memory, {shared}"),
    );
}

#[test]
fn raw_data_that_does_not_fit() {
    let raw = |shape: &str, datatype: &str, size: &str, tail: &[u8], sentence: &str, code: &str| {
        let json = format!(
            r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"parameters":{{"binary_data_size":{size}}}}}]}}"#
        );
        let rope = [Bytes::from(json.clone()), Bytes::copy_from_slice(tail)];
        let signature = signature(&[("x", DType::parse(datatype).unwrap(), "n")]);
        let failure =
            decode_rope(&rope, &binary_headers(Some(json.len())), &signature).unwrap_err();
        assert_eq!((failure.code.as_str(), &*failure.message), (code, sentence));
    };
    let count = "wire.element-count";
    raw(
        "[2]",
        "FP32",
        "8",
        &[0; 4],
        "input `x` says that it has 8 raw bytes; 4 of the body are left",
        count,
    );
    raw(
        "[2]",
        "FP32",
        "4",
        &[0; 4],
        "input `x` has shape [2] of FP32, which is 8 bytes; `binary_data_size` says 4",
        count,
    );
    raw("[1]", "FP32", "4", &[0; 7], "3 bytes are left behind the last tensor's raw data", count);
    raw(
        "[9000000000000000000]",
        "FP32",
        "4",
        &[0; 4],
        "input `x` has shape [9000000000000000000], whose product is larger than can be counted",
        "wire.shape-overflow",
    );
    raw(
        "[2]",
        "BOOL",
        "2",
        &[1, 2],
        "input `x` is BOOL, whose bytes are 0 and 1; others came",
        "wire.invalid-field",
    );
    raw(
        "[1]",
        "BYTES",
        "5",
        &[2, 0, 0, 0, 65],
        "input `x`: an element's length reaches past the end of its raw data",
        count,
    );
    raw(
        "[1]",
        "BYTES",
        "3",
        &[0; 3],
        "input `x`: an element's length reaches past the end of its raw data",
        count,
    );
    raw(
        "[1]",
        "BYTES",
        "4",
        &[255; 4],
        "input `x`: an element's length reaches past the end of its raw data",
        count,
    );
    raw(
        "[1]",
        "BYTES",
        "8",
        &[0; 8],
        "input `x`: its shape is 1 element; its raw data holds more",
        count,
    );
    raw(
        "[3]",
        "BYTES",
        "8",
        &[0; 8],
        "input `x`: its shape is 3 elements; its raw data holds 2",
        count,
    );
    raw(
        "[1]",
        "FP32",
        "-4",
        &[0; 4],
        "parameter `binary_data_size` must be a whole number from 0 to 9223372036854775807; -4 came",
        "wire.invalid-field",
    );
    refused(
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]}"#,
        &floats(),
        "wire.missing-field",
        "input `x` says that its data stands behind the JSON; the header `Inference-Header-Content-Length` is missing",
    );
    refused(
        r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2],"parameters":{"binary_data_size":8}}]}"#,
        &floats(),
        "wire.invalid-field",
        "input `x` has both `data` and `binary_data_size`; one of them carries the elements",
    );
    let body = [Bytes::from(x("FP32", "[1,2]", "[1,2]"))];
    for (length, code) in [
        ("71", "wire.invalid-field"),
        ("-1", "wire.invalid-field"),
        ("", "wire.invalid-field"),
        // No JSON at all: these 70 bytes are no rows.
        ("0", "wire.element-count"),
    ] {
        let headers: HeaderMap =
            [(v2::HEADER_LENGTH.parse().unwrap(), length.parse().unwrap())].into_iter().collect();
        let failure = decode_rope(&body, &headers, &floats()).unwrap_err();
        assert_eq!(failure.code.as_str(), code, "{failure}");
    }
}
