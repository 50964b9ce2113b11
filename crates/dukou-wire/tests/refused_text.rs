//! Bodies that are not JSON, too deep, too long or encoded: what is said, and that it costs little.

mod support;

use bytes::Bytes;
use dukou_types::{Buffer, DType};
use dukou_wire::{DecodeLimits, v2};
use http::HeaderMap;
use support::{decode, floats, refused, signature, x};

#[test]
fn what_is_not_json() {
    let whole = x("FP32", "[1,2]", "[1,2]");
    let invalid = |body: &str, words: &str| {
        let failure = decode(body.as_bytes(), &floats()).expect_err(body);
        assert_eq!(failure.code.as_str(), "wire.invalid-json", "{body}: {failure}");
        assert!(failure.message.contains(words), "{body}: {failure}");
    };
    // Cut off anywhere, it is refused as what it is.
    for end in 0..whole.len() {
        let failure = decode(&whole.as_bytes()[..end], &floats()).unwrap_err();
        assert!(
            matches!(failure.code.as_str(), "wire.invalid-json" | "wire.invalid-field"),
            "{end}: {failure}"
        );
        assert!(failure.message.contains("the end of the body came"), "{end}: {failure}");
    }
    invalid(&format!("{whole}x"), "expected the end of the body at byte 70, `x` came");
    invalid(&format!("{whole}{whole}"), "expected the end of the body at byte 70, `{` came");
    invalid("{'inputs':[]}", "expected a key in quotes at byte 1, `'` came");
    invalid("{\"inputs\":[],}", "expected a key in quotes");
    invalid("{\"inputs\" []}", "expected `:`");
    for (data, words) in [
        ("[1,,2]", "expected a number"),
        ("[1,2,]", "expected a number"),
        ("[,1,2]", "expected a number"),
        ("[1 2]", "expected `,` or `]`"),
        ("[01,2]", "without leading zeros"),
        ("[+1,2]", "expected a number at byte 63, `+` came"),
        ("[.5,2]", "expected a number"),
        ("[1.,2]", "expected a digit behind the point"),
        ("[1e,2]", "expected a digit in the exponent"),
        ("[-,2]", "expected a number"),
        ("[0x1,2]", "expected `,` or `]`"),
        ("[1,2", "expected `,` or `]`"),
        ("[1,2;", "expected `,` or `]`"),
        ("[tru,2]", "expected a value"),
    ] {
        let body =
            format!(r#"{{"inputs":[{{"name":"x","datatype":"FP32","shape":[1,2],"data":{data}"#);
        invalid(&format!("{body}}}]}}"), words);
    }
    for (body, words) in [
        (&b"{\"a\xff\":1}"[..], "not UTF-8"),
        (b"{\"id\":\"\xc3\"}", "not UTF-8"),
        (b"{\"id\":\"a\nb\"}", "the byte 0x0a stands bare in a string at byte 8"),
        (b"{\"id\":\"\\x41\"}", "no escape"),
        (b"{\"id\":\"\\ud800\"}", "no escape"),
        (b"{\"id\":\"\\ud800\\u0041\"}", "no escape"),
        (b"{\"id\":\"\\udc00\\ud800\"}", "no escape"),
        (b"{\"id\":\"\\u12g4\"}", "no escape"),
        (b"\xef\xbb\xbf{}", "expected a value"),
        (b"{\"id\":\"a\0\"}", "bare"),
    ] {
        let failure = decode(body, &floats()).unwrap_err();
        assert_eq!(failure.code.as_str(), "wire.invalid-json", "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn nesting_beyond_the_limit() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(200_000), close.repeat(200_000));
        refused(
            &format!(r#"{{"a":{deep}}}"#),
            &floats(),
            "wire.too-deep",
            &format!("the body nests deeper than 100 levels at byte {}", 5 + 99 * open.len()),
        );
    }
    let deep = format!("{}1{}", "[".repeat(98), "]".repeat(98));
    refused(
        &x("FP32", "[1,2]", &deep),
        &floats(),
        "wire.too-deep",
        "the body nests deeper than 100 levels at byte 159",
    );
    // One level less is data like any other.
    let deep = format!("{}1,2{}", "[".repeat(97), "]".repeat(97));
    assert!(decode(x("FP32", "[1,2]", &deep).as_bytes(), &floats()).is_ok());
    // However high a limit is set, the stack is safe.
    let limits = DecodeLimits { json_depth: usize::MAX, body_bytes: 64 << 20 };
    let body = Bytes::from(format!(r#"{{"a":{}"#, "[".repeat(1_000_000)));
    let failure =
        v2::decode(&[body], &HeaderMap::new(), &floats(), &limits, &mut |_, _| Buffer::default());
    assert_eq!(failure.unwrap_err().message, "the body nests deeper than 512 levels at byte 516");
}

#[test]
fn bodies_over_the_limit() {
    let limits = DecodeLimits { json_depth: 100, body_bytes: 10 };
    let rope = [Bytes::from_static(b"{\"inputs\":"), Bytes::from_static(b"[]}")];
    let failure =
        v2::decode(&rope, &HeaderMap::new(), &floats(), &limits, &mut |_, _| Buffer::default())
            .unwrap_err();
    assert_eq!(
        (failure.code.as_str(), &*failure.message),
        ("request.body-too-large", "the body has 13 bytes; the limit is 10")
    );
}

#[test]
fn a_refusal_never_repeats_a_body() {
    let long = "9".repeat(10_000_000);
    for body in [
        x("FP32", "[1,2]", &format!("[{long}]")),
        x("FP32", "[1,2]", &format!("[0.{long}e{long},1]")),
        x("FP32", "[1,2]", &format!("[\"{long}\"]")),
        x(&long, "[1,2]", "[]"),
        format!(r#"{{"id":{long}}}"#),
        format!(r#"{{"inputs":[{{"name":"{long}"}}]}}"#),
        format!(r#"{{"parameters":{{"{long}":[]}}}}"#),
    ] {
        let failure = decode(body.as_bytes(), &floats()).unwrap_err();
        assert!(failure.message.len() < 400, "{}", failure.message.len());
    }
    // As a floating number, and within the range, it is read to the end.
    let body = x("FP64", "[1]", &format!("[0.{long}]"));
    let decoded = decode(body.as_bytes(), &signature(&[("x", DType::Fp64, "n")])).unwrap();
    assert_eq!(decoded.inputs[0].typed::<f64>().unwrap(), [1.0]);
}
