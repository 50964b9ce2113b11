//! From one table to the next while requests come.

use std::{
    fs,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use dukou_engine::{
    state::resident_bytes,
    swap::{First, Refused},
    table::ServingTable,
    way::Way,
};
use dukou_types::ErrorCode;
use serde_json::json;

use crate::support::{Running, adds, bare, model, outputs, served, table};

#[test]
fn a_table_is_served_as_soon_as_it_is_put() {
    let engine = Running::new();
    assert_eq!(engine.connect().infer("adds", [0.0; 3]).status, 503);
    let receipt = engine.put(&table(1, &[adds(1)])).unwrap();
    assert_eq!((receipt.sequence, receipt.retired, receipt.loaded.len()), (1, 0, 1));
    let mut client = engine.connect();
    let answer = client.infer("adds", [1.0, 2.0, 3.0]);
    assert_eq!(outputs(&answer), [2.0, 3.0, 4.0]);
    assert_eq!(
        (answer.header("dukou-version"), answer.header("dukou-revision")),
        (Some("1"), Some("r1"))
    );
    assert_eq!(engine.arm("1", "main", "r1")["codes"], json!({ "ok": 1 }));
}

#[test]
fn no_request_fails_or_sees_a_mix_while_tables_are_swapped() {
    let engine = Running::new();
    engine.put(&table(1, &[adds(1)])).unwrap();
    let (end, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    let swaps = 20;
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = engine.connect();
                while !end.load(Relaxed) {
                    let answer = client.infer("adds", [1.0, 2.0, 3.0]);
                    let version: f64 = answer.header("dukou-version").unwrap().parse().unwrap();
                    let revision: u64 =
                        answer.header("dukou-revision").unwrap()[1..].parse().unwrap();
                    assert_eq!(outputs(&answer), [1.0 + version, 2.0 + version, 3.0 + version]);
                    assert_eq!(
                        version as u64,
                        1 + (revision - 1) % 3,
                        "{revision} serves {version}"
                    );
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        for sequence in 2..=swaps {
            let seen = asked.load(Relaxed);
            let number = 1 + (sequence - 1) % 3;
            let receipt =
                engine.put(&table(sequence, &[adds(u32::try_from(number).unwrap())])).unwrap();
            assert_eq!((receipt.loaded.len(), receipt.retired), (1, 1));
            // Each table answers some requests before the next one comes.
            while asked.load(Relaxed) < seen + 10 {
                thread::yield_now();
            }
        }
        end.store(true, Relaxed);
    });
    let (_, state) = engine.local("GET", "/state", "");
    let arms = state["arms"].as_array().unwrap();
    let counted: u64 = arms.iter().map(|arm| arm["codes"]["ok"].as_u64().unwrap_or(0)).sum();
    assert_eq!(
        counted,
        asked.load(Relaxed),
        "every request is counted once, under its own revision"
    );
    let revisions: Vec<&str> = arms.iter().filter_map(|arm| arm["revision"].as_str()).collect();
    assert!(revisions.len() >= 20, "{revisions:?}");
}

#[test]
fn a_table_that_fails_leaves_the_old_one_serving() {
    let engine = Running::new();
    engine.put(&table(1, &[adds(1)])).unwrap();
    let broken = served("broken", &[bare("7", &model("truncated"))]);
    let Err(Refused::Version(refused)) = engine.put(&table(2, &[adds(2), broken])) else {
        panic!("a truncated model was taken")
    };
    assert_eq!((refused.model.as_str(), refused.version.as_str()), ("broken", "7"));
    assert_eq!(refused.failure.code, ErrorCode::FormatsCorrupt);
    let answer = engine.connect().infer("adds", [0.0; 3]);
    assert_eq!(outputs(&answer), [1.0; 3]);
    assert_eq!(answer.header("dukou-revision"), Some("r1"));
    assert_eq!(engine.swap.engine().serving.load_full().unwrap().revision().as_str(), "r1");
}

#[test]
fn an_older_table_is_stale_and_the_same_one_changes_nothing() {
    let engine = Running::new();
    engine.put(&table(5, &[adds(1)])).unwrap();
    let refused = engine.put(&table(4, &[adds(2)])).unwrap_err();
    assert_eq!(refused.failure().code, ErrorCode::TableStale);
    assert!(refused.failure().message.contains("sequence 4"), "{refused}");
    assert!(refused.failure().message.contains("sequence 5"), "{refused}");
    let before = engine.swap.engine().serving.load_full().unwrap();
    let receipt = engine.put(&table(5, &[adds(1)])).unwrap();
    assert_eq!((receipt.loaded.len(), receipt.retired), (0, 0));
    let after = engine.swap.engine().serving.load_full().unwrap();
    assert!(Arc::ptr_eq(&before, &after), "the same table again is no swap");
}

#[test]
fn what_stays_is_carried_over_and_takes_the_new_settings() {
    let engine = Running::new();
    engine.put(&table(1, &[adds(1)])).unwrap();
    engine.connect().infer("adds", [0.0; 3]);
    let before = engine.swap.engine().serving.load_full().unwrap();

    let mut strict = adds(1);
    strict["limits"] = json!({ "queue": 1, "concurrency": 1, "deadline_ms": 77 });
    strict["batching"] = json!({ "max_rows": 2, "max_bytes": 64, "delay_us": 5 });
    let receipt =
        engine.put(&table(2, &[strict, served("other", &[bare("1", &model("adds_2"))])])).unwrap();
    assert_eq!((receipt.loaded.len(), receipt.retired), (1, 0), "only `other` is new");
    let after = engine.swap.engine().serving.load_full().unwrap();
    let (old, new) = (before.model("adds").unwrap(), after.model("adds").unwrap());
    assert!(Arc::ptr_eq(&old.versions[0].version, &new.versions[0].version));
    assert!(Arc::ptr_eq(&old.in_flight, &new.in_flight), "what is in flight goes on counting");
    assert_eq!(new.limits.concurrency, 1);
    assert_eq!(new.limits.deadline.as_millis(), 77);

    // The queue's new limit holds for the batcher that stayed: of two that wait, one is refused.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let lane = &new.versions[0];
        let submit = || {
            let inputs = dukou_engine::samples::draw(&lane.version.signature, 1, 3);
            let principal = dukou_types::Principal::Engine;
            let request =
                dukou_types::InferRequest::new(dukou_types::RequestId(1), principal, inputs);
            let Way::Local { batcher, .. } = &lane.version.way else { panic!("it is run here") };
            batcher.submit(request, Arc::clone(&lane.counters) as _)
        };
        let (first, second) = (submit(), submit());
        assert_eq!(second.await.unwrap_err().code, ErrorCode::LimitsQueueFull);
        assert!(first.await.is_ok());
    });
}

#[test]
fn a_bare_file_that_was_replaced_is_another_version() {
    let engine = Running::new();
    let path = engine.folder.path().join("model.onnx");
    fs::copy(model("adds_1"), &path).unwrap();
    let first = table(1, &[served("adds", &[bare("1", &path)])]);
    engine.put(&first).unwrap();
    let new = engine.folder.path().join("new.onnx");
    fs::copy(model("adds_2"), &new).unwrap();
    fs::rename(&new, &path).unwrap();
    let receipt = engine.put(&first).unwrap();
    assert_eq!((receipt.loaded.len(), receipt.retired), (1, 1));
    assert_eq!(outputs(&engine.connect().infer("adds", [0.0; 3])), [2.0; 3]);

    // One that is gone is no other: what was loaded of it serves on.
    fs::remove_file(&path).unwrap();
    let mut other = first;
    other["limits"]["connections"] = json!(50);
    assert_eq!(engine.put(&other).unwrap().loaded.len(), 0);
    assert_eq!(outputs(&engine.connect().infer("adds", [0.0; 3])), [2.0; 3]);
}

#[test]
fn of_two_tables_at_once_the_later_one_serves_in_the_end() {
    let engine = Running::new();
    for round in 0..5 {
        let start = Barrier::new(2);
        let (low, high) = (10 * round + 1, 10 * round + 2);
        let (low_outcome, high_outcome) = thread::scope(|scope| {
            let put = |sequence, number| {
                let (engine, start) = (&engine, &start);
                scope.spawn(move || {
                    start.wait();
                    engine.put(&table(sequence, &[adds(number)]))
                })
            };
            let (low, high) = (put(low, 1), put(high, 2));
            (low.join().unwrap(), high.join().unwrap())
        });
        high_outcome.unwrap();
        if let Err(refused) = low_outcome {
            assert_eq!(refused.failure().code, ErrorCode::TableStale);
        }
        let answer = engine.connect().infer("adds", [0.0; 3]);
        assert_eq!(answer.header("dukou-revision"), Some(&*format!("r{high}")));
        assert_eq!(outputs(&answer), [2.0; 3]);
    }
}

#[test]
fn requests_go_where_the_split_and_the_labels_say() {
    let engine = Running::new();
    let mut model = served("adds", &[bare("1", &model("adds_1")), bare("2", &model("adds_2"))]);
    model["aliases"] = json!({ "champion": "1", "challenger": "2" });
    model["split"] = json!([
        { "version": "1", "arm": "main", "weight": 3 },
        { "version": "2", "arm": "canary", "weight": 1 },
    ]);
    engine.put(&table(1, &[model])).unwrap();
    let mut client = engine.connect();
    for (target, addend) in
        [("adds/versions/1", 1.0), ("adds/versions/2", 2.0), ("adds/versions/challenger", 2.0)]
    {
        assert_eq!(outputs(&client.infer(target, [0.0; 3])), [addend; 3], "{target}");
    }
    assert_eq!(client.infer("adds/versions/3", [0.0; 3]).status, 404);
    let draws = 400_u64;
    for _ in 0..draws {
        let answer = client.infer("adds", [0.0; 3]);
        let version: f64 = answer.header("dukou-version").unwrap().parse().unwrap();
        assert_eq!(outputs(&answer), [version; 3]);
    }
    let requests = |version, arm| engine.arm(version, arm, "r1")["requests"].as_u64().unwrap();
    assert_eq!(requests("1", "main") + requests("2", "canary"), draws);
    // Six standard deviations of a fair draw of a quarter.
    assert!((48..=152).contains(&requests("2", "canary")), "{}", requests("2", "canary"));
    assert_eq!(
        (requests("1", "direct"), requests("2", "direct")),
        (1, 2),
        "no evidence of the split"
    );
}

#[test]
fn an_engine_restarts_with_the_last_good_table() {
    let first = Running::new();
    first.put(&table(3, &[adds(2)])).unwrap();
    let broken = served("broken", &[bare("1", &model("truncated"))]);
    first.put(&table(4, &[broken])).unwrap_err();
    let folder = Arc::clone(&first.folder);
    drop(first);

    let second = Running::in_folder(folder);
    second.swap.start(First::Last);
    let answer = second.connect().infer("adds", [0.0; 3]);
    assert_eq!((outputs(&answer), answer.header("dukou-revision")), (vec![2.0; 3], Some("r3")));
    assert_eq!(
        second.put(&table(2, &[adds(1)])).unwrap_err().failure().code,
        ErrorCode::TableStale
    );
}

#[test]
fn a_first_table_that_cannot_load_leaves_an_engine_that_waits_for_another() {
    let engine = Running::new();
    let path = engine.folder.path().join("table.json");
    fs::write(&path, table(1, &[served("broken", &[bare("1", &model("truncated"))])]).to_string())
        .unwrap();
    engine.swap.start(First::File(path.clone()));
    assert_eq!(engine.connect().infer("broken", [0.0; 3]).status, 503);
    fs::write(&path, "{").unwrap();
    engine.swap.start(First::File(path));
    engine.put(&table(2, &[adds(1)])).unwrap();
    assert_eq!(outputs(&engine.connect().infer("adds", [0.0; 3])), [1.0; 3]);
}

#[test]
fn a_state_folder_that_cannot_be_written_is_said_and_serving_goes_on() {
    let engine = Running::new();
    // A folder where the file should be: even root cannot rename a file onto it.
    fs::create_dir_all(engine.folder.path().join("state/table.json/x")).unwrap();
    engine.put(&table(1, &[adds(1)])).unwrap();
    assert_eq!(outputs(&engine.connect().infer("adds", [0.0; 3])), [1.0; 3]);
    let (_, state) = engine.local("GET", "/state", "");
    assert!(state["table_unsaved"].as_str().unwrap().contains("table.json"), "{state}");
}

#[test]
fn a_file_that_is_left_is_whole() {
    let engine = Running::new();
    for sequence in 1..4 {
        engine.put(&table(sequence, &[adds(1)])).unwrap();
        let kept = fs::read(engine.folder.path().join("state/table.json")).unwrap();
        assert_eq!(ServingTable::parse(&kept).unwrap().sequence, sequence);
    }
    let names: Vec<_> = fs::read_dir(engine.folder.path().join("state")).unwrap().collect();
    assert!(
        names.iter().all(|entry| !entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("json."))
    );
}

#[test]
fn memory_comes_back_when_versions_retire() {
    let engine = Running::new();
    let folder = engine.folder.path().join("models");
    fs::create_dir_all(&folder).unwrap();
    fs::copy(model("shared_mlp"), folder.join("a.onnx")).unwrap();
    fs::copy(model("shared_mlp"), folder.join("b.onnx")).unwrap();
    let weights = 4 * 4 * (512 * 512 + 512);
    fs::write(folder.join("weights.bin"), vec![0_u8; weights]).unwrap();
    let put = |sequence: u64| {
        let name = if sequence.is_multiple_of(2) { "a.onnx" } else { "b.onnx" };
        let mut version = bare("1", &folder.join(name));
        // A session of its own each: four megabytes that are gone only when the session is.
        version["backend"]["share_weights"] = json!(false);
        let receipt = engine.put(&table(sequence, &[served("mlp", &[version])])).unwrap();
        assert_eq!(receipt.loaded.len(), 1);
    };
    (1..=4).for_each(put);
    let before = resident_bytes();
    (5..=24).for_each(put);
    // The last ones may still be on their way out; twenty that stay would be eighty megabytes.
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 30_000_000, "{grown} bytes more after twenty swaps");
}
