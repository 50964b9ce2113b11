//! The binary against servers whose behaviour is known: every count must be exact.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

const ANSWER: &str = r#"{"outputs":[{"name":"y","data":[0.25,0.75]}],"model_version":"1"}"#;

fn load(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dukou-load")).args(arguments).output().unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let output = load(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The bare echo of the bench, on a thread of this test.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        bench_reference::echo::serve(
            listener,
            ANSWER.into(),
            2,
            bench_reference::echo::Speech::Http1,
        )
    });
    format!("http://{address}/")
}

/// A server that gives each request, numbered from 0 over all connections, to `reply`. The connection
/// ends where that gives nothing.
fn scripted(reply: impl Fn(usize) -> Option<String> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new((AtomicUsize::new(0), reply));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let script = Arc::clone(&script);
            thread::spawn(move || converse(stream.unwrap(), &script.0, &script.1));
        }
    });
    format!("http://{address}/")
}

fn converse(stream: TcpStream, count: &AtomicUsize, reply: &impl Fn(usize) -> Option<String>) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(()) = read_request(&mut reader) {
        let Some(text) = reply(count.fetch_add(1, Ordering::SeqCst)) else {
            return;
        };
        if writer.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<()> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()
}

fn http(status: u16, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

#[test]
fn a_closed_loop_counts_what_it_sent() {
    let folder = tempfile::tempdir().unwrap();
    let body = write(folder.path(), "body.json", "{}");
    let expect = write(folder.path(), "expect.json", r#"{"outputs":[{"data":[0.25,0.75]}]}"#);
    let line = ["--requests", "500", "--connections", "5", "--threads", "2", "--body", &body];
    let said = report(&[&[echo().as_str(), "--expect", &expect][..], &line].concat());
    let measured = &said["measured"];
    assert_eq!(said["mode"], "closed");
    assert_eq!(measured["ok"], 500);
    assert_eq!(measured["failed"], 0);
    assert_eq!(measured["statuses"], json!({"200": 500}));
    assert_eq!(said["connections_made"], 5);
    let latency = &measured["latency_us"];
    let at = |name: &str| latency[name].as_f64().unwrap();
    assert!(0.0 < at("min") && at("min") <= at("p50"));
    assert!(at("p50") <= at("p99") && at("p99") <= at("p99.9") && at("p99.9") <= at("max"));
}

#[test]
fn wrong_answers_are_failures() {
    let folder = tempfile::tempdir().unwrap();
    let body = write(folder.path(), "body.json", "{}");
    let expect = write(folder.path(), "expect.json", r#"{"outputs":[{"data":[0.25,0.76]}]}"#);
    let url = echo();
    let line = ["--requests", "50", "--body", &body, "--expect", &expect];
    let said = report(&[&[url.as_str()][..], &line].concat());
    assert_eq!(said["measured"]["ok"], 0);
    assert_eq!(said["measured"]["errors"], json!({"wrong-answer": 50}));
    let right = write(folder.path(), "right.json", r#"{"outputs":[{"name":"y"}]}"#);
    let either = report(&[&[url.as_str(), "--or-expect", &right][..], &line].concat());
    assert_eq!(either["measured"]["ok"], 50);
    let loose = report(&[&[url.as_str(), "--tolerance", "0.02"][..], &line].concat());
    assert_eq!(loose["measured"]["ok"], 50);
}

#[test]
fn every_loss_is_counted_once_under_its_kind() {
    // Of each five: one status, one cut connection, one that is not HTTP, two good ones.
    let url = scripted(|at| match at % 5 {
        0 => Some(http(503, "", "{}")),
        1 => None,
        2 => Some("nonsense\r\n\r\n".into()),
        at => Some(http(200, &format!("dukou-version: {at}\r\n"), "{}")),
    });
    let line = ["--requests", "100", "--connections", "1", "--header-version"];
    let said = report(&[&[url.as_str()][..], &line].concat());
    let measured = &said["measured"];
    assert_eq!(measured["sent"], 100);
    assert_eq!(measured["ok"], 40);
    assert_eq!(measured["failed"], 60);
    assert_eq!(measured["errors"], json!({"status": 20, "reset": 20, "protocol": 20}));
    assert_eq!(measured["statuses"], json!({"200": 40, "503": 20}));
    assert_eq!(measured["versions"], json!({"3": 20, "4": 20}));
}

#[test]
fn a_closing_server_loses_nothing() {
    let url = scripted(|_| Some(http(200, "connection: close\r\n", "{}")));
    let said = report(&[&url, "--requests", "20", "--connections", "2"]);
    assert_eq!(said["measured"]["ok"], 20);
    assert_eq!(said["measured"]["failed"], 0);
    assert_eq!(said["connections_made"], 20);
}

/// Waits without being woken: `thread::sleep` is not used in this house.
fn stall(span: Duration) {
    let (_keep, never) = mpsc::channel::<()>();
    let _ = never.recv_timeout(span);
}

#[test]
fn a_stall_is_not_hidden_by_the_requests_that_it_held_back() {
    // Half a second in which nobody is answered. Four connections can be waiting then, but a hundred
    // requests become due: all of them must show the stall.
    let gate = Mutex::new(());
    let url = scripted(move |at| {
        let _turn = gate.lock().unwrap();
        if at == 20 {
            stall(Duration::from_millis(500));
        }
        Some(http(200, "", "{}"))
    });
    let line = ["--rate", "200", "--duration", "1.5", "--connections", "4"];
    let said = report(&[&[url.as_str()][..], &line].concat());
    let measured = &said["measured"];
    assert_eq!(said["mode"], "open");
    assert_eq!(measured["failed"], 0);
    assert_eq!(measured["unsent"], 0);
    // About 300 are due, about 100 in the stall, 60 of these wait for more than 200 ms: p90 sees it.
    // The four that were on the wire are hardly 2 % of all: measured from when they were sent, it
    // would not.
    assert!(measured["latency_us"]["p90"].as_f64().unwrap() > 100_000.0, "{measured}");
    assert!(measured["lateness_us"]["p90"].as_f64().unwrap() > 100_000.0, "{measured}");
    assert!(measured["sent"].as_u64().unwrap() > 200, "{measured}");
}

#[test]
fn a_dead_server_leaves_the_rest_unsent_and_the_run_ends() {
    let url = scripted(|_| {
        stall(Duration::from_secs(30));
        None
    });
    let line = ["--rate", "100", "--duration", "0.3", "--connections", "2", "--timeout", "0.2"];
    let measured = &report(&[&[url.as_str()][..], &line].concat())["measured"];
    assert_eq!(measured["ok"], 0);
    assert_eq!(measured["errors"], json!({"timeout": measured["sent"]}));
    assert!(measured["unsent"].as_u64().unwrap() > 0, "{measured}");
}

#[test]
fn phases_are_kept_apart_and_add_up() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_dukou-load"))
        .args([&echo(), "--duration", "0.6", "--connections", "2", "--phases"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stall(Duration::from_millis(200));
    stdin.write_all(b"during\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let phases = said["phases"].as_array().unwrap();
    assert_eq!(phases.last().unwrap()["name"], "during");
    let sum: u64 = phases.iter().map(|phase| phase["ok"].as_u64().unwrap()).sum();
    assert_eq!(said["measured"]["ok"].as_u64().unwrap(), sum);
}

#[test]
fn inputs_are_made_from_the_models_metadata() {
    let metadata = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}]}"#;
    let url = scripted(|at| Some(http(200, "", if at == 0 { metadata } else { ANSWER })));
    let line = ["--model", "m", "--requests", "10", "--bodies", "3"];
    let said = report(&[&[url.trim_end_matches('/')][..], &line].concat());
    assert_eq!(said["requests"], 3);
    assert_eq!(said["measured"]["ok"], 10);
}

#[test]
fn a_mistake_is_one_sentence_and_status_2() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}/", closed.local_addr().unwrap());
    drop(closed);
    let url = echo();
    for (arguments, words) in [
        (vec![nobody.as_str()], "nothing answers"),
        (vec![&url, "--body", "/does/not/exist"], "cannot read"),
        (vec![&url, "--model", "m", "--requests", "1"], "no metadata"),
        (vec![&url, "--or-expect", "/any"], "cannot read"),
        (vec!["ftp://x"], "hint:"),
    ] {
        let output = load(&arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(output.stdout.is_empty());
    }
}
