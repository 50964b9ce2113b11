//! The local API, as the control plane sees it.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, net::UnixStream},
};

use dukou_engine::local_api::LocalApi;
use serde_json::{Value, json};

use crate::support::{Running, adds, bare, model, served, table};

#[test]
fn a_table_is_put_and_read_back() {
    let engine = Running::new();
    let (status, answer) = engine.local("GET", "/table", "");
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("server.not-ready")));
    let document = table(7, &[adds(1)]);
    let (status, receipt) = engine.local("PUT", "/table", &document.to_string());
    assert_eq!(status, 200, "{receipt}");
    assert_eq!(
        (&receipt["revision"], &receipt["sequence"], &receipt["retired"]),
        (&json!("r7"), &json!(7), &json!(0))
    );
    let loaded = &receipt["loaded"][0];
    assert_eq!((&loaded["model"], &loaded["version"]), (&json!("adds"), &json!("1")));
    assert!(loaded["load_ms"].is_u64() && loaded["residency"].is_string(), "{loaded}");
    assert_eq!(engine.local("GET", "/table", ""), (200, document));
}

#[test]
fn refusals_say_what_and_where() {
    let engine = Running::new();
    engine.local("PUT", "/table", &table(7, &[adds(1)]).to_string());
    let error = |method, path, body: &str| {
        let (status, answer) = engine.local(method, path, body);
        let error = answer["error"].clone();
        assert!(error["remedy"].is_string() && error["message"].is_string(), "{answer}");
        (status, error)
    };
    let (status, stale) = error("PUT", "/table", &table(6, &[adds(1)]).to_string());
    assert_eq!((status, &stale["code"]), (409, &json!("table.stale")));

    let mut invalid = table(8, &[adds(1)]);
    invalid["models"][0]["batching"]["max_rows"] = json!(0);
    let (status, refused) = error("PUT", "/table", &invalid.to_string());
    assert_eq!((status, &refused["code"]), (400, &json!("deploy.invalid")));
    assert!(
        refused["message"].as_str().unwrap().contains("models[0].batching.max_rows"),
        "{refused}"
    );

    let broken = table(8, &[adds(1), served("broken", &[bare("3", &model("truncated"))])]);
    let (status, refused) = error("PUT", "/table", &broken.to_string());
    assert_eq!((status, &refused["code"]), (422, &json!("formats.corrupt")));
    assert_eq!((&refused["model"], &refused["version"]), (&json!("broken"), &json!("3")));

    let mut nowhere = table(8, &[adds(1)]);
    nowhere["observability"]["access_log"] = json!(engine.folder.path().join("state"));
    let (status, refused) = error("PUT", "/table", &nowhere.to_string());
    assert_eq!((status, &refused["code"]), (400, &json!("deploy.invalid")));
    assert!(refused["message"].as_str().unwrap().contains("observability.access_log"), "{refused}");

    assert_eq!(error("PUT", "/table", "{").1["code"], "deploy.invalid");
    assert_eq!(error("GET", "/tables", "").0, 404);
    let (status, wrong) = error("DELETE", "/table", "");
    assert_eq!((status, &wrong["code"]), (405, &json!("wire.wrong-method")));
    assert_eq!(engine.local("GET", "/table", "").1["revision"], "r7", "the old one serves on");
}

#[test]
fn the_state_is_as_the_spec_says() {
    let engine = Running::new();
    engine.put(&table(7, &[adds(1)])).unwrap();
    let mut client = engine.connect();
    for _ in 0..3 {
        client.infer("adds", [0.0; 3]);
    }
    let wrong =
        json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2] }] });
    assert_eq!(client.post("/v2/models/adds/infer", &wrong.to_string()).status, 400);
    assert_eq!(client.infer("nobody", [0.0; 3]).status, 404);
    assert_eq!(client.get("/nowhere").status, 404);

    let (status, state) = engine.local("GET", "/state", "");
    assert_eq!(status, 200);
    assert_eq!(
        (&state["format"], &state["revision"], &state["sequence"]),
        (&json!(1), &json!("r7"), &json!(7))
    );
    assert_eq!(state["epoch"], engine.swap.engine().state.epoch);
    assert_eq!(state["pid"], std::process::id());
    let bounds: Vec<u64> = (0..18).map(|power| 50 << power).collect();
    assert_eq!(state["bounds_us"], json!(bounds));
    assert_eq!(state["gauges"]["connections"], 1);
    assert_eq!(state["gauges"]["in_flight"], 0);
    assert!(state["gauges"]["rss_bytes"].as_u64().unwrap() > 1_000_000);
    assert_eq!(state["refused"], json!({ "request.unknown-model": 1, "wire.unknown-path": 1 }));
    assert_eq!(state["table_unsaved"], Value::Null);

    let arm = engine.arm("1", "main", "r7");
    assert_eq!((&arm["model"], &arm["digest"]), (&json!("adds"), &Value::Null));
    assert_eq!(
        (&arm["requests"], &arm["rows"], &arm["batches"]),
        (&json!(4), &json!(3), &json!(3))
    );
    assert_eq!(arm["codes"], json!({ "ok": 3, "request.wrong-shape": 1 }));
    assert_eq!(arm["batch_rows"], json!({ "1": 3 }));
    for (histogram, count) in [("request_us", 4), ("queue_us", 3), ("compute_us", 3)] {
        let counts = arm[histogram]["counts"].as_array().unwrap();
        assert_eq!(counts.len(), bounds.len() + 1);
        assert_eq!(counts.iter().map(|c| c.as_u64().unwrap()).sum::<u64>(), count, "{histogram}");
        assert!(arm[histogram]["sum"].is_u64());
    }
}

#[test]
fn only_its_own_user_may_use_the_socket() {
    let engine = Running::new();
    assert_eq!(fs::metadata(&engine.socket).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_stale_socket_is_replaced_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("engine.sock");
    drop(LocalApi::bind(&path).unwrap());
    assert!(path.exists(), "a killed engine leaves its socket");
    drop(LocalApi::bind(&path).unwrap());
    let file = folder.path().join("precious");
    fs::write(&file, "data").unwrap();
    assert!(LocalApi::bind(&file).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"data");
}

#[test]
fn a_caller_that_leaves_in_the_middle_harms_nobody() {
    let engine = Running::new();
    let mut stream = UnixStream::connect(&engine.socket).unwrap();
    stream
        .write_all(b"PUT /table HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"format\"")
        .unwrap();
    drop(stream);
    assert_eq!(engine.local("GET", "/models", ""), (200, json!({ "models": [] })));
}

#[test]
fn a_drain_is_begun_at_once() {
    let engine = Running::new();
    engine.put(&table(1, &[adds(1)])).unwrap();
    assert_eq!(engine.local("POST", "/drain", ""), (202, json!({ "draining": true })));
    assert!(engine.swap.engine().drain.has_begun());
    let (status, refused) = engine.local("PUT", "/table", &table(2, &[adds(2)]).to_string());
    assert_eq!((status, &refused["error"]["code"]), (503, &json!("server.draining")));
}
