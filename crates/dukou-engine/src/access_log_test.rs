use std::{fs, path::Path, time::Instant};

use dukou_types::{ErrorCode, Principal, RequestId};
use serde_json::Value;

use super::*;
use crate::table::Dialect;

const UUID: &str = "0191f3a2-7c4e-7e11-8000-0123456789ab";

/// A UUID that ends in this digit.
fn numbered(digit: char) -> String {
    format!("0191f3a2-7c4e-7e11-8000-00000000000{digit}")
}

fn outcome<'a>(client_id: Option<&'a str>, principal: &'a Principal) -> Outcome<'a> {
    Outcome {
        id: RequestId(0xab),
        trace: Some(0xcd),
        client_id,
        listener: "main",
        dialect: Dialect::V2,
        operation: "infer",
        lane: None,
        asked_model: Some("digits"),
        status: 404,
        error: Some(ErrorCode::RequestUnknownModel),
        received: Instant::now(),
        queue: None,
        compute: Some(Duration::from_micros(31)),
        rows: 1,
        batch_rows: 4,
        found: None,
        bytes_in: 10,
        bytes_out: 20,
        principal,
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn a_line_is_json_whatever_a_client_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("logs/access.log");
    let log = AccessLog::default();
    log.open(path.to_str()).unwrap();
    let long = "é".repeat(1000);
    let hostile = ["plain", "quote\" back\\slash", "line\nbreak\u{1}\u{7f}", &long, UUID];
    let moment = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_421_700_123);
    for client_id in hostile {
        log.write(
            &outcome(Some(client_id), &Principal::Loopback),
            Duration::from_micros(55),
            moment,
        );
    }
    log.close();
    let lines = lines(&path);
    assert_eq!(lines.len(), hostile.len());
    for (line, client_id) in lines.iter().zip(hostile) {
        // What no machine made may be a person's, and is not written down.
        assert_eq!(line.get("client_id").is_some(), client_id == UUID);
        assert_eq!(line["time"], "2026-11-23T08:15:00.123Z");
        assert_eq!(line["id"], "00000000000000ab");
        assert_eq!(line["trace"], "000000000000000000000000000000cd");
        assert_eq!(line["model"], "digits");
        assert_eq!(line["code"], "request.unknown-model");
        assert_eq!(
            (line["request_us"].as_u64(), line["compute_us"].as_u64()),
            (Some(55), Some(31))
        );
        assert!(line.get("queue_us").is_none());
        assert_eq!(line["principal"], "loopback");
    }
}

#[test]
fn what_was_written_before_a_change_goes_where_it_belongs() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("a"), folder.path().join("b"));
    let log = AccessLog::default();
    let write = |digit| {
        let id = numbered(digit);
        log.write(&outcome(Some(&id), &Principal::Engine), Duration::ZERO, SystemTime::now())
    };
    write('0');
    log.open(first.to_str()).unwrap();
    write('1');
    log.open(first.to_str()).unwrap();
    write('2');
    log.open(second.to_str()).unwrap();
    write('3');
    log.open(None).unwrap();
    write('0');
    let names = |path| lines(path).iter().map(|l| l["client_id"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&first), [numbered('1'), numbered('2')]);
    assert_eq!(names(&second), [numbered('3')]);
    assert_eq!(log.dropped(), 0);
}

#[test]
fn a_file_that_cannot_be_opened_leaves_the_old_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let log = AccessLog::default();
    log.open(path.to_str()).unwrap();
    assert!(log.open(folder.path().to_str()).is_err(), "a folder is no file");
    log.write(&outcome(None, &Principal::Loopback), Duration::ZERO, SystemTime::now());
    log.close();
    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn a_rotated_file_is_followed_by_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("a"), folder.path().join("a.1"));
    let log = AccessLog::default();
    log.open(path.to_str()).unwrap();
    let write = |digit| {
        let id = numbered(digit);
        log.write(&outcome(Some(&id), &Principal::Loopback), Duration::ZERO, SystemTime::now())
    };
    write('1');
    while fs::metadata(&path).unwrap().len() == 0 {
        std::thread::yield_now();
    }
    fs::rename(&path, &old).unwrap();
    write('2');
    log.close();
    assert_eq!((lines(&old).len(), lines(&path).len()), (1, 1));
    assert_eq!(lines(&path)[0]["client_id"], numbered('2'));
}

#[test]
fn lines_of_many_threads_are_whole_and_all_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let log = AccessLog::default();
    log.open(path.to_str()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    log.write(
                        &outcome(Some("x"), &Principal::Loopback),
                        Duration::ZERO,
                        SystemTime::now(),
                    );
                }
            });
        }
    });
    log.close();
    assert_eq!(lines(&path).len(), 2000);
}

#[test]
fn a_writer_that_does_not_keep_up_costs_lines_and_says_so() {
    // No writer at all is the slowest one.
    let log = AccessLog::default();
    log.0.lines.open.store(true, Release);
    let count = 10_000;
    for _ in 0..count {
        log.write(&outcome(Some("x"), &Principal::Loopback), Duration::ZERO, SystemTime::now());
    }
    let kept: u64 = log.0.lines.buffers.iter().map(|buffer| count_lines(&buffer.lock())).sum();
    assert!(log.dropped() > 0);
    assert_eq!(kept + log.dropped(), count);
}
