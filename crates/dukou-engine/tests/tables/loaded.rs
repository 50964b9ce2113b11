//! The load generator against an engine, in every dialect: what it sends is answered, and what is wrong is
//! counted.

use std::{
    path::Path,
    process::{Command, Output},
};

use dukou_wire::Peer;
use serde_json::{Value, json};

use crate::{
    peers::{declared, replica},
    support::{Running, adds, plain},
};

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dukou-load")).args(arguments).output().unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = load(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn write(folder: &Path, name: &str, document: &Value) -> String {
    let path = folder.join(name);
    std::fs::write(&path, document.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The line that asks this engine for a model; what its server does not tell is said.
fn line(engine: &Running, peer: Peer, model: &str) -> Vec<String> {
    let mut line = vec![engine.url(), "--model".into(), model.into()];
    line.extend(
        ["--dialect", peer.name(), "--requests", "40", "--connections", "4"].map(Into::into),
    );
    if !peer.tells_signatures() {
        let file = write(engine.folder.path(), "signature.json", &declared(engine, model));
        line.extend(["--signature".into(), file]);
    }
    line
}

fn with<'l>(line: &'l [String], more: &[&'l str]) -> Vec<&'l str> {
    line.iter().map(String::as_str).chain(more.iter().copied()).collect()
}

#[test]
fn random_inputs_are_answered_in_every_dialect() {
    let engine = replica(&[plain("two", "two_inputs")]);
    for &peer in Peer::ALL {
        let said = report(&with(&line(&engine, peer, "two"), &["--rows", "3", "--header-version"]));
        let measured = &said["measured"];
        assert_eq!(measured["ok"], 40, "{peer:?}: {measured}");
        assert_eq!(measured["statuses"], json!({ "200": 40 }), "{peer:?}");
        assert_eq!(measured["versions"], json!({ "1": 40 }), "{peer:?}");
        assert_eq!(said["connections_made"], 4, "{peer:?}");
        assert_eq!(said["requests"], 16, "{peer:?}");
    }
}

#[test]
fn given_inputs_have_the_expected_answer_and_no_other() {
    let engine = replica(&[adds(1)]);
    let folder = engine.folder.path();
    let x = json!({ "name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6] });
    let y = |last: f64| json!({ "outputs": [{ "name": "y", "shape": [2, 3], "data": [2, 3, 4, 5, 6, last] }] });
    let inputs = write(folder, "inputs.json", &json!({ "inputs": [x] }));
    let (right, wrong) =
        (write(folder, "right.json", &y(7.0)), write(folder, "wrong.json", &y(8.0)));
    for &peer in Peer::ALL {
        let asked = line(&engine, peer, "adds");
        let good = report(&with(&asked, &["--inputs", &inputs, "--expect", &right]));
        assert_eq!(good["measured"]["ok"], 40, "{peer:?}: {}", good["measured"]);
        let bad = report(&with(&asked, &["--inputs", &inputs, "--expect", &wrong]));
        assert_eq!(bad["measured"]["errors"], json!({ "wrong-answer": 40 }), "{peer:?}");
        let either = report(&with(
            &asked,
            &["--inputs", &inputs, "--expect", &wrong, "--or-expect", &right],
        ));
        assert_eq!(either["measured"]["ok"], 40, "{peer:?}");
    }
}

#[test]
fn an_array_of_numpys_is_asked_too() {
    let engine = replica(&[adds(1)]);
    let mut array = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3), }";
    array.extend_from_slice(format!("{header:<117}\n").as_bytes());
    array.extend([1.0_f32, 2.0, 3.0].iter().flat_map(|number| number.to_le_bytes()));
    let path = engine.folder.path().join("x.npy");
    std::fs::write(&path, array).unwrap();
    let right = json!({ "outputs": [{ "name": "y", "data": [2, 3, 4] }] });
    let right = write(engine.folder.path(), "y.json", &right);
    let asked = line(&engine, Peer::TensorFlowGrpc, "adds");
    let said = report(&with(&asked, &["--inputs", path.to_str().unwrap(), "--expect", &right]));
    assert_eq!(said["measured"]["ok"], 40, "{}", said["measured"]);
}

#[test]
fn what_a_server_refuses_is_counted_by_its_status() {
    let engine = replica(&[adds(1)]);
    // The server knows better what it takes.
    let mut other = declared(&engine, "adds");
    other["inputs"][0]["shape"] = json!([-1, 4]);
    let other = write(engine.folder.path(), "other.json", &other);
    for &peer in Peer::ALL {
        let mut asked = line(&engine, peer, "adds");
        asked.truncate(9);
        let said = report(&with(&asked, &["--signature", &other]));
        let measured = &said["measured"];
        assert_eq!(measured["errors"], json!({ "status": 40 }), "{peer:?}: {measured}");
        assert_eq!(measured["statuses"], json!({ "400": 40 }), "{peer:?}");
    }
}

#[test]
fn an_answer_that_is_none_of_the_model_is_wrong() {
    let engine = replica(&[adds(1)]);
    let mut other = declared(&engine, "adds");
    other["outputs"][0]["dtype"] = json!("BYTES");
    let other = write(engine.folder.path(), "other.json", &other);
    for &peer in Peer::ALL {
        let mut asked = line(&engine, peer, "adds");
        asked.truncate(9);
        let said = report(&with(&asked, &["--signature", &other]));
        assert_eq!(said["measured"]["errors"], json!({ "wrong-answer": 40 }), "{peer:?}");
    }
}

#[test]
fn what_cannot_be_asked_is_one_sentence() {
    let engine = replica(&[adds(1)]);
    let url = engine.url();
    let folder = engine.folder.path();
    let x = json!([{ "name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4] }]);
    let wide = write(folder, "wide.json", &x);
    let asked = |more: &[&str]| {
        let output = load(&[&[&*url, "--model"][..], more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (more, words) in [
        (&["adds", "--dialect", "torchserve"][..], "`torchserve` does not tell what a model takes"),
        (&["nobody", "--dialect", "tensorflow"], "answered 404: Could not find any versions"),
        (&["nobody", "--dialect", "tensorflow-grpc"], "answered 404: Could not find any versions"),
        (&["adds", "--dialect", "keras", "--model-version", "3"], "`keras` has no versions"),
        (&["adds", "--inputs", &wide], "is FP32 [1, 4], and the model takes FP32 [-1, 3]"),
    ] {
        let said = asked(more);
        assert!(said.contains(words), "{more:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
