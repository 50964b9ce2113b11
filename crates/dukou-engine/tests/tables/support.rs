//! An engine in this process, with its doors on loopback and its state in a temporary folder.

use std::{
    env, fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use dukou_engine::{
    accept,
    engine::Engine,
    local_api::LocalApi,
    swap::{Receipt, Refused, Swap},
    table::ServingTable,
    workers::Workers,
};
use dukou_sys::sockets::Listener;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The path of a model of `conformance/models`.
pub fn model(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/models");
    folder.join(format!("{name}.onnx")).canonicalize().unwrap()
}

fn runtime() -> PathBuf {
    let path = env::var_os("ORT_DYLIB_PATH").expect(
        "ORT_DYLIB_PATH must name ONNX Runtime's library, such as the installed onnxruntime's \
         capi/libonnxruntime.so.*",
    );
    path.into()
}

/// A running engine. Dropping it drains it.
pub struct Running {
    /// Puts tables in place.
    pub swap: Arc<Swap>,
    /// Where it answers.
    pub address: SocketAddr,
    /// The local API's socket.
    pub socket: PathBuf,
    /// State directory and files of the test.
    pub folder: Arc<TempDir>,
}

impl Running {
    /// An engine that serves nothing yet.
    pub fn new() -> Self {
        Self::in_folder(Arc::new(tempfile::tempdir().unwrap()))
    }

    /// An engine over the state that another left.
    pub fn in_folder(folder: Arc<TempDir>) -> Self {
        let state = folder.path().join("state");
        fs::create_dir_all(&state).unwrap();
        let engine = Arc::new(Engine::new(2, state.clone(), Some(runtime())));
        let swap = Swap::new(Arc::clone(&engine));
        let socket = state.join("engine.sock");
        LocalApi::bind(&socket).unwrap().start(Arc::clone(&swap)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (workers, _threads) = Workers::start(&engine).unwrap();
        thread::spawn(move || {
            let listeners = vec![Listener { name: "main".into(), socket: listener }];
            accept::run(listeners, &workers, &engine).unwrap();
        });
        Self { swap, address, socket, folder }
    }

    /// Puts a table in place.
    pub fn put(&self, table: &Value) -> Result<Receipt, Refused> {
        self.swap.put(ServingTable::parse(table.to_string().as_bytes()).unwrap())
    }

    /// Calls the local API.
    pub fn local(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let answer = read_answer(&mut stream);
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    /// The state's row of an arm.
    pub fn arm(&self, version: &str, arm: &str, revision: &str) -> Value {
        let (_, state) = self.local("GET", "/state", "");
        let arms = state["arms"].as_array().unwrap();
        let row = arms.iter().find(|row| {
            row["version"] == version && row["arm"] == arm && row["revision"] == revision
        });
        row.cloned().unwrap_or_else(|| panic!("no such arm in {state}"))
    }

    /// Its base address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The state's rows of replicas.
    pub fn replicas(&self) -> Vec<Value> {
        self.local("GET", "/state", "").1["replicas"].as_array().unwrap().clone()
    }

    /// Waits until what it says of its replicas is so.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&[Value]) -> bool) {
        let begun = std::time::Instant::now();
        while !holds(&self.replicas()) {
            assert!(begun.elapsed().as_secs() < 30, "in vain: {what}: {:?}", self.replicas());
            thread::park_timeout(std::time::Duration::from_millis(5));
        }
    }

    /// A client's connection.
    pub fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.swap.engine().drain.begin();
    }
}

/// A connection that stays open.
pub struct Client(TcpStream);

/// An answer of HTTP/1.1.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl Client {
    /// Asks for the answer to one row.
    pub fn infer(&mut self, target: &str, row: [f32; 3]) -> Answer {
        let body = json!({ "inputs": [{ "name": "x", "datatype": "FP32", "shape": [1, 3], "data": row }] });
        self.post(&format!("/v2/models/{target}/infer"), &body.to_string())
    }

    /// Any call with a body.
    pub fn post(&mut self, path: &str, body: &str) -> Answer {
        self.post_with(path, "", body)
    }

    /// Any call with a body, and with more headers.
    pub fn post_with(&mut self, path: &str, headers: &str, body: &str) -> Answer {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(head.as_bytes()).unwrap();
        read_answer(&mut self.0)
    }

    /// Any call without one.
    pub fn get(&mut self, path: &str) -> Answer {
        self.0
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes())
            .unwrap();
        read_answer(&mut self.0)
    }
}

fn read_answer(stream: &mut impl Read) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer's head");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    let mut answer = Answer { status, head, body: Vec::new() };
    answer.body.resize(answer.header("content-length").unwrap().parse().unwrap(), 0);
    stream.read_exact(&mut answer.body).unwrap();
    answer
}

/// A table with these models.
pub fn table(sequence: u64, models: &[Value]) -> Value {
    json!({
        "format": 1,
        "revision": format!("r{sequence}"),
        "sequence": sequence,
        "listeners": [{ "name": "main", "dialects": ["v2"], "access": "loopback", "hosts": [], "tls": null, "allow": [], "deny": [] }],
        "principals": [],
        "limits": {
            "connections": 100, "body_bytes": 1_000_000, "json_depth": 32, "header_ms": 5000, "drain_ms": 5000
        },
        "trust": { "require_signature": false, "keys": [] },
        "observability": { "access_log": null, "security_log": null },
        "repository": null,
        "models": models,
    })
}

/// A model with these versions; its traffic goes to the first.
pub fn served(name: &str, versions: &[Value]) -> Value {
    json!({
        "name": name,
        "versions": versions,
        "aliases": { "champion": versions[0]["version"] },
        "split": [{ "version": versions[0]["version"], "arm": "main", "weight": 1 }],
        "batching": { "max_rows": 16, "max_bytes": 1_000_000, "delay_us": 0 },
        "limits": { "queue": 100, "concurrency": 100, "deadline_ms": 10_000 },
        "labels": [],
        "shadow": null,
        "capture": null,
        "cache": null,
    })
}

/// A version of some source.
pub fn version(label: &str, source: Value) -> Value {
    json!({
        "version": label,
        "source": source,
        "backend": {
            "kind": "onnx", "instances": 2, "threads": 1, "providers": [{ "name": "CPUExecutionProvider", "options": {} }],
            "share_weights": true
        },
        "golden": "require",
    })
}

/// A model that other servers answer.
pub fn remote(name: &str, replicas: &[String]) -> Value {
    let source = json!({ "remote": {
        "dialect": "v2", "signature": null, "model": name, "version": null, "replicas": replicas, "key_file": null, "ca_file": null,
        "health_ms": 20, "retry_percent": 100,
    }});
    served(name, &[elsewhere("remote", source)])
}

/// A model that other models of the table answer.
pub fn graph(name: &str, nodes: Value, outputs: Value) -> Value {
    served(name, &[elsewhere("graph", json!({ "graph": { "nodes": nodes, "outputs": outputs } }))])
}

/// A node of a graph that one model answers.
pub fn node(name: &str, model: &str, inputs: Value) -> Value {
    json!({ "name": name, "model": model, "version": null, "inputs": inputs })
}

fn elsewhere(label: &str, source: Value) -> Value {
    json!({ "version": label, "source": source, "backend": null, "golden": "off" })
}

/// A version of a bare file.
pub fn bare(label: &str, path: &Path) -> Value {
    version(label, json!({ "file": path }))
}

/// A model of its own name, of a file.
pub fn plain(name: &str, file: &str) -> Value {
    served(name, &[bare("1", &model(file))])
}

/// The model `adds`, of which version `number` adds that number.
pub fn adds(number: u32) -> Value {
    served("adds", &[bare(&number.to_string(), &model(&format!("adds_{number}")))])
}

/// The numbers of the first output of an answer.
pub fn outputs(answer: &Answer) -> Vec<f64> {
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let data = answer.json()["outputs"][0]["data"].clone();
    data.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}
