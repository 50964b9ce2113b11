//! What loading finds out about a version.

use serde_json::{Value, json};

use crate::support::{Running, bare, model, served, table};

/// What `GET /models` says of a model of `conformance/models`.
fn loaded(engine: &Running, sequence: u64, name: &str) -> Value {
    engine.put(&table(sequence, &[served(name, &[bare("1", &model(name))])])).unwrap();
    let (status, models) = engine.local("GET", "/models", "");
    assert_eq!(status, 200);
    assert_eq!(models["models"][0]["name"], name);
    models["models"][0]["versions"][0].clone()
}

#[test]
fn rows_ride_together_only_where_it_was_proved() {
    let engine = Running::new();
    let cases = [
        ("digits_mlp", true),
        ("two_inputs", true),
        ("sequence", true),
        ("identity_bytes", true),
        // A row's answer has something of its neighbours.
        ("rows_meet", false),
        // Quantized as it runs: one scale for all rows of a batch.
        ("digits_int8", false),
        // The rows of the output are not those of the input.
        ("takes_one_row", false),
        ("one_row_out", false),
        // More than two rows are refused, whatever the signature says.
        ("takes_two_rows", false),
        // What the signature allows is refused: nothing could be proved.
        ("takes_fives", false),
        // There are no rows.
        ("scalar", false),
    ];
    for (sequence, (name, batchable)) in (1..).zip(cases) {
        let version = loaded(&engine, sequence, name);
        assert_eq!(version["batchable"], batchable, "{name}");
        assert_eq!(version["golden"], "absent");
        assert_eq!(version["digest"], Value::Null);
        if name == "takes_fives" {
            assert_eq!((&version["run_us"], &version["inline"]), (&Value::Null, &json!(false)));
        } else {
            assert!(version["run_us"].is_u64(), "{name}: {version}");
        }
    }
}

#[test]
fn a_model_that_could_not_be_rehearsed_is_served_all_the_same() {
    let engine = Running::new();
    loaded(&engine, 1, "takes_fives");
    let body = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 5], "data": [1, 2, 3, 4, 5] }] });
    let answer = engine.connect().post("/v2/models/takes_fives/infer", &body.to_string());
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.json()["outputs"][0]["shape"], json!([1, 1, 5]));
}

#[test]
fn a_signature_is_the_models_own() {
    let engine = Running::new();
    let version = loaded(&engine, 1, "sequence");
    assert_eq!(
        version["signature"]["inputs"],
        json!([{ "name": "tokens", "dtype": "INT64", "shape": ["batch", "seq"] }])
    );
    assert_eq!(
        version["signature"]["outputs"],
        json!([{ "name": "mean", "dtype": "FP32", "shape": ["batch", 4] }])
    );
}
