//! A model that other engines answer: whom it asks, what it passes on, and which revision callers see.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use dukou_engine::swap::Refused;
use serde_json::{Value, json};

use crate::support::{Running, adds, outputs, plain, remote, table};

/// Engines that serve `adds`, version 1.
fn replicas(count: usize) -> Vec<Running> {
    let engine = |_| {
        let engine = Running::new();
        engine.put(&table(1, &[adds(1)])).unwrap();
        engine
    };
    (0..count).map(engine).collect()
}

fn gateway(replicas: &[Running]) -> Running {
    let urls: Vec<String> = replicas.iter().map(Running::url).collect();
    let gateway = Running::new();
    gateway.put(&table(100, &[remote("adds", &urls)])).unwrap();
    gateway
}

/// A server that answers every connection with these bytes, once.
fn always(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = [0; 16 * 1024];
            let read = stream.read(&mut bytes).unwrap_or(0);
            let asked = String::from_utf8_lossy(&bytes[..read]).into_owned();
            let ready = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let metadata = r#"{"name":"adds","versions":["1"],"platform":"x","inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}],"outputs":[{"name":"y","datatype":"FP32","shape":[-1,3]}]}"#;
            let text = if asked.starts_with("GET /v2/health") {
                ready.to_owned()
            } else if asked.starts_with("GET /v2/models") {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{metadata}",
                    metadata.len()
                )
            } else {
                answer.to_owned()
            };
            let _gone = stream.write_all(text.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn what_a_replica_answers_is_passed_on_with_its_version_and_revision() {
    let replicas = replicas(2);
    let gateway = gateway(&replicas);
    let mut client = gateway.connect();
    for _ in 0..20 {
        let answer = client.infer("adds", [1.0, 2.0, 3.0]);
        assert_eq!(outputs(&answer), [2.0, 3.0, 4.0]);
        assert_eq!(answer.header("dukou-version"), Some("1"));
        assert_eq!(answer.header("dukou-revision"), Some("r1"), "not the gateway's r100");
        assert_eq!(answer.json()["model_version"], "1");
    }
    let asked: u64 = gateway.replicas().iter().map(|r| r["requests"].as_u64().unwrap()).sum();
    assert_eq!(asked, 20);
    assert_eq!(gateway.arm("remote", "main", "r100")["codes"], json!({ "ok": 20 }));
    let metadata = client.get("/v2/models/adds").json();
    assert_eq!(metadata["inputs"], json!([{ "name": "x", "datatype": "FP32", "shape": [-1, 3] }]));
    let ready = client.get("/v2/health/ready");
    assert_eq!(ready.header("dukou-revision"), Some("r100"), "who watches it hears what it serves");
}

#[test]
fn what_a_replica_refuses_is_passed_on_with_code_sentence_and_status() {
    let replica = Running::new();
    replica.put(&table(3, &[plain("two", "two_inputs")])).unwrap();
    let gateway = Running::new();
    gateway.put(&table(1, &[remote("two", &[replica.url()])])).unwrap();
    let input = |name: &str, rows: usize| json!({ "name": name, "datatype": "FP32", "shape": [rows, 3], "data": vec![0; rows * 3] });
    // What metadata does not say, only the model's own server knows: both have as many rows.
    let body = json!({ "inputs": [input("a", 1), input("b", 2)] }).to_string();
    let direct = replica.connect().post("/v2/models/two/infer", &body);
    let answer = gateway.connect().post("/v2/models/two/infer", &body);
    assert_eq!((answer.status, direct.status), (400, 400));
    let said = answer.json();
    assert_eq!(said["code"], "request.wrong-shape");
    assert_eq!((&said["error"], &said["code"]), (&direct.json()["error"], &direct.json()["code"]));
    assert_eq!(answer.header("dukou-revision"), None, "a refusal is of no revision");
}

#[test]
fn a_server_that_is_not_ours_keeps_its_words_and_its_status() {
    let foreign = always(
        "HTTP/1.1 422 Unprocessable\r\ncontent-length: 19\r\nconnection: close\r\n\r\n{\"error\":\"too odd\"}",
    );
    let gateway = Running::new();
    gateway.put(&table(1, &[remote("adds", std::slice::from_ref(&foreign))])).unwrap();
    let answer = gateway.connect().infer("adds", [0.0; 3]);
    assert_eq!((answer.status, answer.json()["code"].clone()), (422, json!("replica.refused")));
    assert_eq!(answer.json()["error"], format!("replica `{foreign}` answered 422: too odd"));
}

#[test]
fn an_answer_that_breaks_off_is_asked_of_another() {
    let broken = always("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{");
    let replicas = replicas(1);
    let gateway = Running::new();
    gateway.put(&table(1, &[remote("adds", &[broken.clone(), replicas[0].url()])])).unwrap();
    let mut client = gateway.connect();
    for _ in 0..40 {
        assert_eq!(outputs(&client.infer("adds", [0.0; 3])), [1.0; 3]);
    }
    let states = gateway.replicas();
    assert!(states[0]["failures"].as_u64() > Some(0), "{states:?}");
    assert_eq!(states[0]["failures"], states[1]["retries"]);
}

#[test]
fn a_replica_that_ends_is_out_and_one_that_comes_back_is_in() {
    let mut replicas = replicas(2);
    let gateway = gateway(&replicas);
    let gone = replicas.remove(0);
    let url = gone.url();
    drop(gone);
    let mut client = gateway.connect();
    for _ in 0..50 {
        assert_eq!(outputs(&client.infer("adds", [0.0; 3])), [1.0; 3]);
    }
    gateway.wait_until("it is out", |states| states[0]["healthy"] == false);
    let states = gateway.replicas();
    assert_eq!(states[0]["replica"], url);
    assert!(states[0]["why"].is_string());
    let last = replicas.remove(0);
    drop(last);
    gateway.wait_until("the other is out", |states| states[1]["healthy"] == false);
    // It answers what it has taken, and then nobody does.
    let answer = std::iter::repeat_with(|| client.infer("adds", [0.0; 3]))
        .find(|answer| answer.status != 200)
        .unwrap();
    assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
    assert!(answer.json()["code"].as_str().unwrap().starts_with("replica."), "{}", answer.json());
}

#[test]
fn no_caller_sees_a_revision_after_a_later_one() {
    let replicas = replicas(3);
    let gateway = gateway(&replicas);
    let (end, asked) = (AtomicBool::new(false), AtomicU64::new(0));
    // What any caller has been given: all of them share it, as if they were one.
    let given = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.connect();
                while !end.load(Relaxed) {
                    let before = given.load(Relaxed);
                    let answer = client.infer("adds", [1.0, 2.0, 3.0]);
                    assert_eq!(answer.status, 200, "{}", answer.json());
                    let revision: u64 =
                        answer.header("dukou-revision").unwrap()[1..].parse().unwrap();
                    assert!(revision >= before, "r{revision} after r{before}");
                    given.fetch_max(revision, Relaxed);
                    let version = 1 + (revision - 1) % 3;
                    assert_eq!(outputs(&answer), [1.0, 2.0, 3.0].map(|x| x + version as f64));
                    asked.fetch_add(1, Relaxed);
                }
            });
        }
        for revision in 2..=9 {
            for replica in &replicas {
                let number = u32::try_from(1 + (revision - 1) % 3).unwrap();
                replica.put(&table(revision, &[adds(number)])).unwrap();
                let seen = asked.load(Relaxed);
                while asked.load(Relaxed) < seen + 5 {
                    thread::yield_now();
                }
            }
        }
        gateway.wait_until("all have followed", |states| {
            states.iter().all(|state| state["revision"] == "r9" && state["why"].is_null())
        });
        end.store(true, Relaxed);
    });
    assert_eq!(given.load(Relaxed), 9);
}

#[test]
fn a_later_table_of_the_gateway_remembers_what_callers_were_given() {
    let replicas = replicas(2);
    replicas[0].put(&table(5, &[adds(1)])).unwrap();
    let gateway = gateway(&replicas);
    assert_eq!(gateway.connect().infer("adds", [0.0; 3]).header("dukou-revision"), Some("r5"));
    // Only the one that lags is left.
    gateway.put(&table(101, &[remote("adds", &[replicas[1].url()])])).unwrap();
    let answer = gateway.connect().infer("adds", [0.0; 3]);
    assert_eq!((answer.status, answer.json()["code"].clone()), (503, json!("replica.behind")));
    replicas[1].put(&table(6, &[adds(2)])).unwrap();
    gateway.wait_until("it has followed", |states| states[0]["why"].is_null());
    assert_eq!(gateway.connect().infer("adds", [0.0; 3]).header("dukou-revision"), Some("r6"));
}

#[test]
fn one_that_serves_something_else_is_left_out() {
    let replicas = replicas(2);
    let gateway = gateway(&replicas);
    replicas[0].put(&table(2, &[served_as_adds("two_inputs")])).unwrap();
    gateway.wait_until("it is found out", |states| {
        states[0]["why"].as_str().is_some_and(|why| why.contains("another signature"))
    });
    let fresh = Running::new();
    replicas[1].put(&table(2, &[adds(1)])).unwrap();
    let urls: Vec<String> = replicas.iter().map(Running::url).collect();
    let refused = fresh.put(&table(1, &[remote("adds", &urls)])).unwrap_err();
    assert_eq!(refused.failure().code.as_str(), "replica.mismatch");
    assert!(refused.failure().message.contains("`a` FP32 [-1, 3], `b` FP32 [-1, 3]"), "{refused}");
}

fn served_as_adds(file: &str) -> Value {
    let mut model = plain("adds", file);
    model["name"] = json!("adds");
    model
}

#[test]
fn deadline_key_and_trace_go_along() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "dk_0123_secret\n").unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    let behind = replicas(1);
    let upstream = behind[0].address;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tell) = (stream.unwrap(), tell.clone());
            thread::spawn(move || {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    let asked = String::from_utf8_lossy(&bytes[..read]).into_owned();
                    let _ended = tell.send(asked.clone());
                    let mut to = std::net::TcpStream::connect(upstream).unwrap();
                    // What is behind it knows nothing of the base.
                    let place = bytes[..read].windows(6).position(|w| w == b"/base/").unwrap();
                    to.write_all(&bytes[..place]).unwrap();
                    to.write_all(&bytes[place + 5..read]).unwrap();
                    let mut answer = vec![0; 64 * 1024];
                    let count = to.read(&mut answer).unwrap();
                    stream.write_all(&answer[..count]).unwrap();
                }
            });
        }
    });
    let gateway = Running::new();
    let mut model = remote("adds", &[url]);
    model["versions"][0]["source"]["remote"]["key_file"] = json!(key);
    gateway.put(&table(1, &[model])).unwrap();
    let headers = "dukou-timeout-ms: 5000\r\n\
                   traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n";
    let body = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3] }] });
    let answer = gateway.connect().post_with("/v2/models/adds/infer", headers, &body.to_string());
    assert_eq!(outputs(&answer), [2.0, 3.0, 4.0]);
    assert_eq!(answer.header("traceparent"), None);
    let asked = told.iter().find(|asked| asked.contains("/infer")).unwrap();
    let header = |name: &str| {
        let line = asked.lines().find(|line| line.to_lowercase().starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    assert_eq!(header("authorization"), "Bearer dk_0123_secret");
    let left: u64 = header("dukou-timeout-ms").parse().unwrap();
    assert!((1..=5000).contains(&left));
    let parent = header("traceparent");
    assert!(parent.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{parent}");
    assert!(!parent.contains("b7ad6b7169203331"), "a span of its own: {parent}");
}

#[test]
fn a_deadline_ends_a_request_that_hangs() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = std::sync::mpsc::channel();
    let metadata = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}],"outputs":[]}"#;
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, tell) = (stream.unwrap(), tell.clone());
            thread::spawn(move || {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    let asked = String::from_utf8_lossy(&bytes[..read]).into_owned();
                    if asked.starts_with("POST") {
                        // Until the other side gives up.
                        let rest = stream.read(&mut bytes).unwrap_or(0);
                        let _ended = tell.send(rest);
                        return;
                    }
                    let body = if asked.contains("/ready") { "" } else { metadata };
                    let head =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    stream.write_all(head.as_bytes()).unwrap();
                }
            });
        }
    });
    let gateway = Running::new();
    gateway.put(&table(1, &[remote("adds", &[url])])).unwrap();
    let body = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3] }] });
    let answer = gateway.connect().post_with(
        "/v2/models/adds/infer",
        "dukou-timeout-ms: 50\r\n",
        &body.to_string(),
    );
    assert_eq!((answer.status, answer.json()["code"].clone()), (504, json!("limits.deadline")));
    assert_eq!(told.recv().unwrap(), 0, "the replica saw that nobody waits any more");
}

#[test]
fn a_remote_that_nobody_answers_is_refused_at_once_that_it_is_known() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let spec = dukou_remote::Spec::of("adds", vec![url.clone()]);
    let failure = dukou_remote::Remote::open(&spec, None, std::time::Duration::ZERO).unwrap_err();
    assert_eq!(failure.code.as_str(), "replica.unavailable");
    assert_eq!(
        failure.message,
        format!("no replica of `/v2/models/adds` can be asked (`{url}`: connection refused)")
    );
}

#[test]
fn a_version_of_a_remote_cannot_be_captured() {
    let mut model = remote("adds", &["http://127.0.0.1:1".to_owned()]);
    model["capture"] = json!({ "share": 1, "buffer_bytes": 1 });
    let gateway = Running::new();
    let Refused::Table(failure) =
        gateway.swap.put_text(table(1, &[model]).to_string().as_bytes()).unwrap_err()
    else {
        panic!("the table itself is at fault");
    };
    assert!(
        failure.message.contains("`models[0].capture`: is for models that this process runs"),
        "{failure}"
    );
}
