//! What a cache answers while tables are swapped.

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

use serde_json::{Value, json};

use crate::support::{Running, adds, bare, model, outputs, served, table};

/// A model that keeps its answers.
fn cached(mut served: Value) -> Value {
    served["cache"] = json!({ "max_bytes": 1_000_000, "ttl_ms": null });
    served
}

fn caches(engine: &Running) -> Value {
    engine.local("GET", "/state", "").1["caches"].clone()
}

#[test]
fn what_is_known_is_said_to_be_and_counted() {
    let engine = Running::new();
    engine.put(&table(1, &[cached(adds(1))])).unwrap();
    let mut client = engine.connect();
    let mut ask = |row| {
        let answer = client.infer("adds", row);
        (outputs(&answer), answer.header("dukou-cache").unwrap().to_owned())
    };
    assert_eq!(ask([1.0, 2.0, 3.0]), (vec![2.0, 3.0, 4.0], "miss".into()));
    assert_eq!(ask([1.0, 2.0, 3.0]), (vec![2.0, 3.0, 4.0], "hit".into()));
    assert_eq!(ask([1.0, 2.0, 3.5]), (vec![2.0, 3.0, 4.5], "miss".into()));
    let arm = engine.arm("1", "main", "r1");
    assert_eq!(arm["cache"], json!({ "hit": 1, "wait": 0, "miss": 2, "rows_not_run": 1 }));
    assert_eq!((&arm["codes"], &arm["batches"]), (&json!({ "ok": 3 }), &json!(2)));
    let kept = &caches(&engine)[0];
    assert_eq!((&kept["model"], &kept["entries"]), (&json!("adds"), &json!(2)));
    assert!(kept["bytes"].as_u64().unwrap() > 2 * 256);
    let metrics = String::from_utf8(client.get("/metrics").body).unwrap();
    for line in [
        r#"dukou_cache_requests_total{model="adds",version="1",result="hit"} 1"#,
        r#"dukou_cache_requests_total{model="adds",version="1",result="miss"} 2"#,
        r#"dukou_cache_entries{model="adds"} 2"#,
        r#"dukou_cache_max_bytes{model="adds"} 1000000"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }

    // A failure is answered again each time, and kept by nobody.
    for _ in 0..2 {
        let refused = client.post("/v2/models/adds/infer", "{\"inputs\": []}");
        assert_eq!((refused.status, refused.header("dukou-cache")), (400, None));
    }
    assert_eq!(caches(&engine)[0]["entries"], 2);

    // Without a cache nothing is said of one.
    engine.put(&table(2, &[adds(1)])).unwrap();
    assert_eq!(client.infer("adds", [1.0, 2.0, 3.0]).header("dukou-cache"), None);
    assert_eq!(caches(&engine), json!([]));
}

#[test]
fn no_equal_request_sees_an_answer_of_a_version_that_is_gone() {
    let engine = Running::new();
    engine.put(&table(1, &[cached(adds(1))])).unwrap();
    let (end, asked, hits) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let current = AtomicU64::new(1);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = engine.connect();
                while !end.load(Relaxed) {
                    let oldest = current.load(Relaxed);
                    let answer = client.infer("adds", [1.0, 2.0, 3.0]);
                    let version: f64 = answer.header("dukou-version").unwrap().parse().unwrap();
                    let revision: u64 =
                        answer.header("dukou-revision").unwrap()[1..].parse().unwrap();
                    assert!(revision >= oldest, "{revision} after {oldest} was in place");
                    assert_eq!(version as u64, 1 + (revision - 1) % 3);
                    assert_eq!(outputs(&answer), [1.0 + version, 2.0 + version, 3.0 + version]);
                    if answer.header("dukou-cache") == Some("hit") {
                        hits.fetch_add(1, Relaxed);
                    }
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        for sequence in 2..=15 {
            let seen = asked.load(Relaxed);
            let number = u32::try_from(1 + (sequence - 1) % 3).unwrap();
            engine.put(&table(sequence, &[cached(adds(number))])).unwrap();
            current.store(sequence, Relaxed);
            while asked.load(Relaxed) < seen + 20 {
                thread::yield_now();
            }
        }
        end.store(true, Relaxed);
    });
    assert!(hits.load(Relaxed) > 0, "of {} requests", asked.load(Relaxed));
    // What the versions that went had answered goes with the last of their requests.
    while caches(&engine)[0]["entries"] != 1 {
        thread::yield_now();
    }
}

#[test]
fn the_same_name_over_another_file_is_another_question() {
    let engine = Running::new();
    let path = engine.folder.path().join("changing.onnx");
    fs::copy(model("adds_1"), &path).unwrap();
    let put = |sequence| {
        engine.put(&table(sequence, &[cached(served("adds", &[bare("1", &path)]))])).unwrap()
    };
    put(1);
    let mut client = engine.connect();
    let mut ask = || outputs(&client.infer("adds", [0.0; 3]))[0];
    assert_eq!((ask(), ask()), (1.0, 1.0));
    fs::copy(model("adds_2"), &path).unwrap();
    assert_eq!(put(2).loaded.len(), 1);
    assert_eq!((ask(), ask()), (2.0, 2.0));
    // A table that changes nothing of the version keeps what it answered.
    put(3);
    assert_eq!(client.infer("adds", [0.0; 3]).header("dukou-cache"), Some("hit"));
}
