//! An engine in this process with a real listener and a real model, and a client that speaks raw TCP.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use dukou_engine::{accept, engine::Engine, swap::Swap, table::ServingTable, workers::Workers};
use dukou_sys::sockets::Listener;
use serde_json::{Value, json};

/// Nothing that is waited for takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// ONNX Runtime's library, as `make test` names it.
pub fn runtime() -> PathBuf {
    std::env::var_os("ORT_DYLIB_PATH")
        .expect("these tests run a real model: set ORT_DYLIB_PATH to libonnxruntime.so")
        .into()
}

/// A model under `conformance/models`.
pub fn model(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/models").join(file)
}

/// A table that serves the digits as `digits`, version `7`, alias `champion`.
pub fn table() -> Value {
    json!({
        "format": 1,
        "revision": "r1",
        "sequence": 1,
        "listeners": [{"name": "http", "dialects": ["v2"], "access": "loopback", "hosts": [], "tls": null, "allow": [], "deny": []}],
        "principals": [],
        "limits": {
            "connections": 100, "body_bytes": 4_000_000, "json_depth": 64, "header_ms": 60_000,
            "drain_ms": 20_000,
        },
        "trust": {"require_signature": false, "keys": []},
        "observability": {"access_log": null, "security_log": null},
        "repository": null,
        "models": [{
            "name": "digits",
            "versions": [{
                "version": "7",
                "source": {"file": model("digits_mlp.onnx").canonicalize().unwrap()},
                "backend": {
                    "kind": "onnx", "instances": 2, "threads": 1,
                    "providers": [{ "name": "CPUExecutionProvider", "options": {} }], "share_weights": false,
                },
                "golden": "off",
            }],
            "aliases": {"champion": "7"},
            "split": [{"version": "7", "arm": "main", "weight": 1}],
            "batching": {"max_rows": 64, "max_bytes": 16_000_000, "delay_us": 0},
            "limits": {"queue": 64, "concurrency": 64, "deadline_ms": 20_000},
            "labels": [],
            "shadow": null,
            "capture": null,
            "cache": null,
        }],
    })
}

/// An engine with two workers. Drained and joined when it goes.
pub struct Crossing {
    pub engine: Arc<Engine>,
    pub swap: Arc<Swap>,
    pub address: SocketAddr,
    workers: Vec<JoinHandle<()>>,
    _state_dir: tempfile::TempDir,
}

impl Crossing {
    /// An engine that holds no table yet.
    pub fn empty() -> Self {
        let state_dir = tempfile::tempdir().unwrap();
        let engine = Arc::new(Engine::new(2, state_dir.path().to_owned(), Some(runtime())));
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        socket.set_nonblocking(true).unwrap();
        let listeners = vec![Listener { name: "http".into(), socket }];
        let (workers, threads) = Workers::start(&engine).unwrap();
        let accepting = Arc::clone(&engine);
        std::thread::spawn(move || accept::run(listeners, &workers, &accepting).unwrap());
        let swap = Swap::new(Arc::clone(&engine));
        Self { engine, swap, address, workers: threads, _state_dir: state_dir }
    }

    /// An engine that serves [`table`], changed.
    pub fn serving(change: impl FnOnce(&mut Value)) -> Self {
        let crossing = Self::empty();
        let mut table = table();
        change(&mut table);
        let table = ServingTable::parse(table.to_string().as_bytes()).unwrap();
        crossing.swap.put(table).unwrap();
        crossing
    }

    /// A new connection.
    pub fn connect(&self) -> Client {
        Client::new(TcpStream::connect(self.address).unwrap())
    }

    /// Asks once, on a connection of its own.
    pub fn ask(&self, request: &[u8]) -> Answer {
        let mut client = self.connect();
        client.send(request);
        client.answer()
    }

    /// How often requests ended with this code, by arm or before one was chosen.
    pub fn counted(&self, code: &str) -> u64 {
        let by_arm = self.engine.state.arms();
        let by_arm = by_arm.values().flat_map(|totals| totals.by_result().collect::<Vec<_>>());
        let arms: u64 = by_arm
            .filter(|(_, result, _)| result.map_or("ok", |code| code.as_str()) == code)
            .map(|(.., count)| count)
            .sum();
        let refused = self.engine.state.refusals();
        arms + refused.iter().filter(|r| r.1.as_str() == code).map(|r| r.2).sum::<u64>()
    }

    /// Waits until `holds`.
    pub fn wait_until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = std::time::Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
            std::thread::yield_now();
        }
    }

    /// Ends it, and waits for the end.
    pub fn drain(&mut self) {
        self.engine.drain.begin();
        for worker in self.workers.drain(..) {
            worker.join().unwrap();
        }
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.drain();
        }
    }
}

/// A connection.
pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, read: Vec::new() }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The next answer.
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer, but the connection was closed")
    }

    /// The next answer; none where the connection was closed before it began.
    pub fn try_answer(&mut self) -> Option<Answer> {
        let end = loop {
            if let Some(place) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break place + 4;
            }
            if !self.more() {
                assert!(self.read.is_empty(), "closed in the middle of an answer: {:?}", self.read);
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let status = head[9..12].parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.read.len() < length {
            assert!(self.more(), "closed in the middle of a body: {answer:?}");
        }
        answer.body = self.read.drain(..length).collect();
        Some(answer)
    }

    /// Whether the other side closes without another byte.
    pub fn is_closed(&mut self) -> bool {
        !self.more()
    }

    fn more(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(error) => panic!("{error}"),
        }
    }
}

/// The body of an inference with this many rows.
pub fn body(rows: usize) -> String {
    let data = vec![1; rows * 64];
    json!({"inputs": [{"name": "X", "shape": [rows, 64], "datatype": "FP32", "data": data}]})
        .to_string()
}

/// A request as bytes.
pub fn http(line: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{line} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// An inference as bytes.
pub fn infer(headers: &str, rows: usize) -> Vec<u8> {
    http("POST /v2/models/digits/infer", headers, &body(rows))
}
