//! What happens after callers have their answers: a shadow answers too, the tap keeps.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{Running, bare, model, outputs, served, table};

/// `adds`, whose traffic goes to version 1, with a shadow.
fn shadowed(sequence: u64, shadow: &str, by: u32) -> Value {
    let mut adds =
        served("adds", &[bare("1", &model("adds_1")), bare(shadow, &model(&format!("adds_{by}")))]);
    adds["shadow"] = json!({ "version": shadow, "share": 1_000_000 });
    table(sequence, &[adds])
}

fn agreement(engine: &Running, version: &str, revision: &str) -> Value {
    engine.arm(version, "shadow", revision)["agreement"].clone()
}

fn wait_for_compared(engine: &Running, version: &str, revision: &str, rows: u64) -> Value {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let agreement = agreement(engine, version, revision);
        if agreement["compared"] == rows {
            return agreement;
        }
        assert!(Instant::now() < until, "{agreement}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

#[test]
fn a_shadow_answers_too_and_is_counted_apart() {
    let engine = Running::new();
    engine.put(&shadowed(1, "2", 2)).unwrap();
    let mut client = engine.connect();
    for _ in 0..20 {
        assert_eq!(outputs(&client.infer("adds", [1.0, 2.0, 3.0])), [2.0, 3.0, 4.0]);
    }
    // Who names a version is no evidence of the split, and is not copied.
    assert_eq!(outputs(&client.infer("adds/versions/1", [1.0, 2.0, 3.0])), [2.0, 3.0, 4.0]);
    let agreement = wait_for_compared(&engine, "2", "r1", 20);
    // The largest of three numbers is in the same place whatever is added.
    assert_eq!(agreement, json!({ "compared": 20, "differ": 0, "dropped": 0 }));
    assert_eq!(engine.arm("2", "shadow", "r1")["codes"], json!({ "ok": 20 }));
    assert_eq!(engine.arm("1", "main", "r1")["requests"], 20);
    assert_eq!(engine.arm("1", "main", "r1")["agreement"], Value::Null);
}

#[test]
fn a_shadow_that_left_the_table_is_asked_no_more() {
    let engine = Running::new();
    engine.put(&shadowed(1, "2", 2)).unwrap();
    let mut client = engine.connect();
    client.infer("adds", [1.0, 2.0, 3.0]);
    wait_for_compared(&engine, "2", "r1", 1);
    let receipt = engine.put(&table(2, &[served("adds", &[bare("1", &model("adds_1"))])])).unwrap();
    assert_eq!(receipt.retired, 1);
    client.infer("adds", [1.0, 2.0, 3.0]);
    assert_eq!(agreement(&engine, "2", "r1")["compared"], 1);
}

#[test]
fn the_tap_is_bounded_and_what_does_not_fit_is_counted() {
    let engine = Running::new();
    let mut adds = served("adds", &[bare("1", &model("adds_1"))]);
    // A request of these tensors takes 256 + 12 + 12 bytes.
    adds["capture"] = json!({ "share": 1_000_000, "buffer_bytes": 3 * 280 });
    engine.put(&table(1, &[adds])).unwrap();
    let mut client = engine.connect();
    for _ in 0..5 {
        assert_eq!(client.infer("adds", [1.0, 2.0, 3.0]).status, 200);
    }
    assert_eq!(client.post("/v2/models/adds/infer", "{}").status, 400, "kept are answers alone");
    let tap = &engine.swap.engine().tap;
    assert_eq!(tap.counts(), json!({ "buffered_bytes": 840, "captured": 3, "dropped": 2 }));
    assert_eq!(tap.take(1).len(), 1, "at least one, however small the bound");
    assert_eq!(tap.take(usize::MAX).len(), 2);
    assert_eq!(tap.counts()["buffered_bytes"], 0);
    client.infer("adds", [1.0, 2.0, 3.0]);
    assert_eq!(tap.counts()["captured"], 4, "there is room again");
}
