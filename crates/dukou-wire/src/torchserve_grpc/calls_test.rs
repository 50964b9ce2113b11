//! TorchServe's calls: which model and what of it, predictions, and changes.

use bytes::Bytes;
use dukou_types::{
    Buffer, DType, Data, Dim, ErrorCode, Failure, InferResponse, ModelName, Signature, Tensor,
    TensorSpec, Version,
};
use http::{HeaderMap, Method, header::CONTENT_TYPE};

use super::*;
use crate::{
    Carriage, Change, DecodeLimits, Decoded, EncodeContext, Head, Operation, Outcome, Registration,
    Selector, Target,
    grpc::{PREFIX, number, push_bytes, push_message, push_number},
    torchserve::{self, WorkersOf},
};

/// A text or a number of a field.
enum Said<'s> {
    Text(&'s str),
    Number(u64),
}

use Said::{Number, Text};

/// int32's -1 on the wire.
const MINUS_ONE: Said<'static> = Number(u64::MAX);

fn message(fields: &[(u32, Said<'_>)]) -> Vec<Bytes> {
    let mut out = Vec::new();
    for (number, said) in fields {
        match said {
            Text(text) => push_bytes(&mut out, *number, text.as_bytes()),
            Number(value) => push_number(&mut out, *number, *value),
        }
    }
    vec![Bytes::from(out)]
}

fn model(name: &str) -> ModelName {
    ModelName::parse(name).unwrap()
}

fn version(label: &str) -> Version {
    Version::parse(label).unwrap()
}

fn path(method: &str) -> String {
    let inference = ["Ping", "Predictions", "StreamPredictions", "StreamPredictions2"];
    let service = if inference.contains(&method) { INFERENCE } else { MANAGEMENT };
    format!("/{service}/{method}")
}

fn asked(method: &str, fields: &[(u32, Said<'_>)]) -> Result<Target, (ErrorCode, String)> {
    address_message(&path(method), &message(fields)).map_err(said)
}

fn said(failure: Failure) -> (ErrorCode, String) {
    (failure.code, failure.message.into_owned())
}

#[test]
fn a_method_is_known_by_its_path() {
    let ask = |path: &str, kind: &'static str| {
        let headers: HeaderMap = [(CONTENT_TYPE, kind.parse().unwrap())].into_iter().collect();
        let head = Head { method: &Method::POST, path, query: None, headers: &headers };
        recognize(&head).map(|found| found.map_err(|failure| failure.code))
    };
    let message = |operation| Some(Ok(Target::Message { operation }));
    for (method, expected) in [
        ("Ping", Some(Ok(Target::Ready))),
        ("Predictions", message("infer")),
        ("StreamPredictions", message("infer")),
        ("ListModels", message("model-list")),
        ("DescribeModel", message("model-workers")),
        ("RegisterModel", message("register")),
        ("ScaleWorker", message("scale")),
        ("SetDefault", message("set-default")),
        ("UnregisterModel", message("unregister")),
        // A stream of requests, and whatever else is none of them.
        ("StreamPredictions2", Some(Err(ErrorCode::WireUnknownPath))),
    ] {
        assert_eq!(ask(&path(method), "application/grpc"), expected, "{method}");
    }
    let json = ask(&path("Predictions"), "application/grpc+json");
    assert_eq!(json, Some(Err(ErrorCode::WireUnsupported)), "messages are protobuf");
    assert_eq!(ask("/inference.GRPCInferenceService/ModelInfer", "application/grpc"), None);
    let prefix = format!("/{INFERENCE}2/Predictions");
    assert_eq!(ask(&prefix, "application/grpc"), None, "another service");
}

#[test]
fn a_message_names_the_model_and_what_of_it() {
    let m = || model("m");
    let one = || version("1.0");
    let infer = |selector| Ok(Target::Infer { model: m(), selector });
    for method in ["Predictions", "StreamPredictions"] {
        assert_eq!(asked(method, &[(1, Text("m"))]), infer(Selector::Default));
        let versioned = asked(method, &[(1, Text("m")), (2, Text("1.0"))]);
        assert_eq!(versioned, infer(Selector::Version(one())));
    }
    let workers = |selector| Ok(Target::ModelWorkers { model: m(), selector });
    let describe = |label: &str| asked("DescribeModel", &[(1, Text("m")), (2, Text(label))]);
    assert_eq!(describe(""), workers(Some(Selector::Default)));
    assert_eq!(describe("1.0"), workers(Some(Selector::Version(one()))));
    assert_eq!(describe("all"), workers(None));
    let change =
        |operation, model, version| Ok(Target::Change { operation, model: Some(model), version });
    let named = [(1, Text("m")), (2, Text("1.0"))];
    assert_eq!(asked("ScaleWorker", &named), change(Operation::Scale, m(), Some(one())));
    assert_eq!(asked("SetDefault", &named), change(Operation::SetDefault, m(), Some(one())));
    assert_eq!(asked("UnregisterModel", &named[..1]), change(Operation::Unregister, m(), None));
    // A model without a name is called as its file is.
    let register = asked("RegisterModel", &[(9, Text("https://a/b/dense net.onnx"))]);
    assert_eq!(register, change(Operation::Register, model("dense_net"), None));
}

#[test]
fn a_page_of_models_has_a_hundred_at_most() {
    let page = |fields: &[(u32, Said<'_>)]| match asked("ListModels", fields) {
        Ok(Target::ModelPage { limit, after }) => (limit, after),
        other => panic!("{other:?}"),
    };
    assert_eq!(page(&[]), (100, 0));
    assert_eq!(page(&[(1, Number(7)), (2, Number(14))]), (7, 14));
    assert_eq!(page(&[(1, Number(101))]), (100, 0));
    assert_eq!(page(&[(1, MINUS_ONE), (2, MINUS_ONE)]), (100, 0));
}

#[test]
fn what_names_nothing_is_refused() {
    use ErrorCode as C;
    let m = (1, Text("m"));
    for (method, fields, code, words) in [
        ("Predictions", &[][..], C::WireMissingField, "Parameter model_name is required."),
        (
            "Predictions",
            &[(1, Text("a/b"))],
            C::RequestUnknownModel,
            "no model can be called `a/b`",
        ),
        ("DescribeModel", &[], C::WireMissingField, "Parameter model_name is required."),
        (
            "SetDefault",
            &[(1, Text("m"))],
            C::WireMissingField,
            "Parameter model_version is required.",
        ),
        ("RegisterModel", &[(5, Text("m"))], C::WireMissingField, "Parameter url is required."),
        ("Ping", &[], C::WireUnknownPath, "there is no method"),
    ] {
        let (came, sentence) = asked(method, fields).unwrap_err();
        assert_eq!(came, code, "{method}: {sentence}");
        assert!(sentence.contains(words), "{sentence}");
    }
    let (code, sentence) = asked("ScaleWorker", &[m, (2, Text(" "))]).unwrap_err();
    assert_eq!((code, &*sentence), (C::RequestUnknownVersion, "no version can be called ` `"));
    let cut_off = [Bytes::from_static(b"\x0a\x05m")];
    let failure = address_message(&path("Predictions"), &cut_off).unwrap_err();
    assert_eq!(failure.code, C::WireInvalidMessage);
}

/// A model of `x`, two numbers a row, and of `z`, one a row, where it has two inputs.
fn signature(two: bool) -> Signature {
    let rows = || Dim::Symbol("n".into());
    let spec = |name: &str, dtype, shape| TensorSpec { name: name.into(), dtype, shape };
    let mut inputs = vec![spec("x", DType::Fp32, vec![rows(), Dim::Fixed(2)])];
    if two {
        inputs.push(spec("z", DType::Int64, vec![rows()]));
    }
    let outputs = vec![spec("y", DType::Fp32, vec![rows(), Dim::Fixed(2)])];
    Signature { inputs, outputs, batchable: false }
}

fn predict(entries: &[(&str, &[u8])], two: bool) -> Result<Decoded, (ErrorCode, String)> {
    let mut out = Vec::new();
    push_bytes(&mut out, 1, b"m");
    for (name, value) in entries {
        push_message(&mut out, 3, |entry| {
            push_bytes(entry, 1, name.as_bytes());
            push_bytes(entry, 2, value);
        });
    }
    let limits = DecodeLimits { json_depth: 100, body_bytes: 1 << 20 };
    let mut lease = |_, bytes| Buffer::zeroed(bytes);
    decode(&[Bytes::from(out)], &signature(two), &limits, &mut lease).map_err(said)
}

#[test]
fn an_entry_is_an_input_or_the_body() {
    let rows = [1.0_f32, 2.0, 3.0, 4.0];
    let raw: Vec<u8> = rows.iter().flat_map(|row| row.to_le_bytes()).collect();
    // The numbers as JSON under any of the names that clients use, and as they lie in memory.
    for (name, value) in [
        ("x", &b"[[1,2],[3,4]]"[..]),
        ("data", b"[[1,2],[3,4]]"),
        ("body", b" [[1,2],[3,4]] "),
        ("data", b"{\"x\":[[1,2],[3,4]]}"),
    ] {
        let decoded = predict(&[(name, value)], false).unwrap();
        assert_eq!(decoded.inputs[0].typed::<f32>().unwrap(), rows, "{name}");
        assert_eq!(
            (&*decoded.inputs[0].shape, decoded.carriage),
            (&[2, 2][..], Carriage::BareRows)
        );
    }
    let one_row = predict(&[("data", &raw[..8])], false).unwrap();
    assert_eq!(one_row.inputs[0].shape, [1, 2]);
    let rows_by_name = b"{\"instances\":[{\"x\":[1,2],\"z\":7}]}";
    let decoded = predict(&[("data", rows_by_name)], true).unwrap();
    assert_eq!(decoded.carriage, Carriage::Rows);
    assert_eq!(decoded.inputs[1].typed::<i64>().unwrap(), [7]);
    // What is no input is a handler's own.
    let decoded = predict(&[("x", b"[[1,2]]"), ("other", b"?"), ("z", b"[7]")], true).unwrap();
    assert_eq!(decoded.inputs[1].typed::<i64>().unwrap(), [7]);
}

#[test]
fn a_prediction_that_is_none_says_why() {
    use ErrorCode as C;
    for (entries, two, code, words) in [
        (&[][..], false, C::RequestMissingInput, "`x` is missing"),
        (&[("x", &b"[[1,2]]"[..])], true, C::RequestMissingInput, "`z` is missing"),
        (&[("data", b"[[1,2]]")], true, C::RequestMissingInput, "2 inputs"),
        (&[("x", b"[[1,2]]"), ("x", b"[[1,2]]")], false, C::RequestDuplicateInput, "came twice"),
        (&[("x", b"[[1,2,3]]")], false, C::RequestWrongShape, "[n, 2]"),
        (&[("x", b"[[1,true]]")], false, C::WireNotANumber, "FP32"),
    ] {
        let (came, sentence) = predict(entries, two).unwrap_err();
        assert_eq!(came, code, "{sentence}");
        assert!(sentence.contains(words), "{sentence}");
    }
}

/// The text of a message that has one.
fn text(written: &[u8]) -> String {
    let (key, rest) = written.split_first().unwrap();
    assert_eq!(*key, 0x0a);
    let length = rest.iter().position(|byte| *byte < 0x80).unwrap() + 1;
    String::from_utf8(rest[length..].to_vec()).unwrap()
}

#[test]
fn a_prediction_s_answer_is_the_body_that_rest_has() {
    let mut buffer = Buffer::zeroed(16);
    buffer.typed_mut().copy_from_slice(&[0.5_f32, 1.0, -2.0, 4.0]);
    let data = Data::Owned(buffer);
    let output = Tensor { name: "y".into(), dtype: DType::Fp32, shape: vec![2, 2], data };
    let response = InferResponse { outputs: [output].into_iter().collect(), ..Default::default() };
    for carriage in [Carriage::BareRows, Carriage::Rows] {
        let context = EncodeContext {
            model: "m",
            version: "1",
            client_id: None,
            carriage: &carriage,
            labels: &[],
        };
        let (mut written, mut rest) = (Vec::new(), Vec::new());
        encode(&response, &context, &mut written).unwrap();
        torchserve::encode(&response, &context, &mut rest).unwrap();
        assert_eq!(text(&written).as_bytes(), rest);
    }
}

fn change(operation: Operation, fields: &[(u32, Said<'_>)]) -> Result<Change, (ErrorCode, String)> {
    let versioned = matches!(operation, Operation::SetDefault).then(|| version("2"));
    let target = Target::Change { operation, model: Some(model("m")), version: versioned };
    decode_change(&target, &message(fields)).map_err(said)
}

#[test]
fn a_registration_says_what_it_wants() {
    let whole = [
        (1, Number(8)),
        (3, Number(2)),
        (4, Number(50)),
        (5, Text("m")),
        (8, Number(1)),
        (9, Text("a/b.onnx")),
    ];
    let wanted = Registration {
        model: Some(model("m")),
        location: "a/b.onnx".to_owned(),
        workers: Some(2),
        batch_rows: Some(8),
        batch_delay_ms: Some(50),
        wait: true,
    };
    assert_eq!(change(Operation::Register, &whole), Ok(Change::Register(wanted)));
    // Zero and a negative number are as good as nothing.
    for none in [Number(0), MINUS_ONE] {
        let bare = [(9, Text("b.onnx")), (1, none), (3, MINUS_ONE), (4, MINUS_ONE)];
        let registered = change(Operation::Register, &bare).unwrap();
        let Change::Register(said) = registered else { panic!("{registered:?}") };
        assert_eq!((said.workers, said.batch_rows, said.batch_delay_ms), (None, None, None));
        assert_eq!((said.model, said.wait), (Some(model("b")), false));
    }
    let wrong = change(Operation::Register, &[(9, Number(1))]).unwrap_err();
    assert_eq!(wrong.0, ErrorCode::WireInvalidMessage, "a number for a text");
}

#[test]
fn what_is_to_be_changed_of_a_model() {
    let scale =
        |workers, wait| Ok(Change::Scale { model: model("m"), version: None, workers, wait });
    let m = || (1, Text("m"));
    assert_eq!(change(Operation::Scale, &[m()]), scale(1, false));
    let all = [m(), (3, Number(4)), (4, Number(3)), (6, Number(1))];
    assert_eq!(change(Operation::Scale, &all), scale(3, true));
    assert_eq!(change(Operation::Scale, &[m(), (4, MINUS_ONE)]), scale(1, false));
    let (code, words) =
        change(Operation::Scale, &[m(), (3, Number(1)), (4, Number(2))]).unwrap_err();
    assert_eq!(code, ErrorCode::WireInvalidField);
    assert!(words.contains("max_worker"), "{words}");
    let default = Change::SetDefault { model: model("m"), version: version("2") };
    assert_eq!(change(Operation::SetDefault, &[m()]), Ok(default));
    let unregister = Change::Unregister { model: model("m"), version: None };
    assert_eq!(change(Operation::Unregister, &[m()]), Ok(unregister));
    let other = change(Operation::Load, &[m()]).unwrap_err();
    assert_eq!(other.0, ErrorCode::WireUnsupported);
}

#[test]
fn management_answers_in_the_sentences_of_rest() {
    let outcome = Outcome::Scaled { model: model("m"), version: None, workers: 2 };
    let written = encode_outcome(&outcome);
    assert_eq!(written[..PREFIX], [0; PREFIX], "room for the envelope");
    assert_eq!(text(&written[PREFIX..]), "Workers scaled to 2 for model: m");
    let page = encode_page([("m", "m.onnx".to_owned())], Some(7));
    let rest = torchserve::encode_model_page([("m", "m.onnx".to_owned())], Some(7));
    assert_eq!(text(&page[PREFIX..]).as_bytes(), rest);
    let workers = [WorkersOf {
        model: "m",
        version: "1.0",
        url: "m.onnx".to_owned(),
        workers: 1,
        batch_rows: 4,
        batch_delay_ms: 10,
        response_timeout_s: 120,
        since: None,
        on_a_device: false,
        pid: 7,
        queue: 100,
        queued: 0,
    }];
    let described = encode_workers(&workers);
    assert_eq!(text(&described[PREFIX..]).as_bytes(), torchserve::encode_workers(&workers));
    for (answers, word) in [(true, "Healthy"), (false, "Unhealthy")] {
        assert!(text(&encode_health(answers)[PREFIX..]).contains(&format!("\"{word}\"")));
    }
}

#[test]
fn a_refusal_has_torchserve_s_number_and_class() {
    use ErrorCode as C;
    let infer = Target::Infer { model: model("m"), selector: Selector::Default };
    let describe = Target::ModelWorkers { model: model("m"), selector: None };
    for (code, target, expected) in [
        // Its clients hear of a prediction that nobody gives as of a fault inside.
        (C::RequestUnknownModel, &infer, number::INTERNAL),
        (C::RequestUnknownVersion, &infer, number::INTERNAL),
        (C::ServerNoWorker, &infer, number::INTERNAL),
        (C::RequestUnknownModel, &describe, number::NOT_FOUND),
        (C::RequestWrongShape, &infer, number::INVALID_ARGUMENT),
        (C::AccessNoKey, &infer, number::PERMISSION_DENIED),
        (C::AccessForbidden, &describe, number::PERMISSION_DENIED),
    ] {
        assert_eq!(status(&Failure::new(code, "why"), Some(target)), expected, "{code}");
    }
    let words = encode_words(&Failure::new(C::RequestUnknownModel, "why"), Some(&infer));
    assert_eq!(words, "Model not found: m%0AModelNotFoundException");
}
