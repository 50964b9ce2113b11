//! The binary: inherited listeners, events, signals, the lifeline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod crossing;

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::OwnedFd,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crossing::{Client, infer, runtime, table};
use serde_json::Value;

const ENGINE: &str = env!("CARGO_BIN_EXE_dukou-engine");

/// An engine started as a supervisor does it.
struct Process {
    child: Child,
    events: BufReader<ChildStdout>,
    lifeline: Option<ChildStdin>,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Process {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let file = folder.path().join("first.json");
        std::fs::write(&file, table().to_string()).unwrap();
        // The shell moves the listener to descriptor 3 and the pipe's end to 4, as the convention has it.
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(r#"exec "$@" 3<&2 4<&0 2>&1 </dev/null"#)
            .args(["sh", ENGINE, "--threads", "2", "--socket"])
            .arg(folder.path().join("s"))
            .arg("--state-dir")
            .arg(folder.path().join("state"))
            .arg("--runtime")
            .arg(runtime())
            .arg("--table")
            .arg(&file)
            .envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "http"), ("DUKOU_LIFELINE_FD", "4")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::from(OwnedFd::from(socket)))
            .spawn()
            .unwrap();
        let events = BufReader::new(child.stdout.take().unwrap());
        let lifeline = child.stdin.take();
        Self { child, events, lifeline, address, folder }
    }

    /// Reads events until this one. Lines of the log stand among them here.
    fn wait_for(&mut self, event: &str) -> Value {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert!(self.events.read_line(&mut line).unwrap() > 0, "no `{event}` in:\n{seen}");
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            if said["event"] == *event {
                return said;
            }
            seen.push_str(&line);
        }
    }

    fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").arg(name).arg(self.child.id().to_string()).status().unwrap();
        assert!(sent.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

#[test]
fn it_serves_what_it_inherits_and_ends_by_signal() {
    for signal in ["-TERM", "-INT"] {
        let mut process = Process::start();
        let started = process.wait_for("started");
        assert_eq!(started["pid"], process.child.id());
        let serving = process.wait_for("serving");
        assert_eq!(serving["models"], serde_json::json!(["digits"]));
        let mut client = Client::new(TcpStream::connect(process.address).unwrap());
        client.send(&infer("", 1));
        assert_eq!(client.answer().status, 200);
        process.signal(signal);
        process.wait_for("drained");
        assert_eq!(process.child.wait().unwrap().code(), Some(0), "{signal}");
        assert!(!process.folder.path().join("s").exists(), "the socket is left behind");
    }
}

#[test]
fn it_ends_with_its_supervisor() {
    let mut process = Process::start();
    process.wait_for("serving");
    drop(process.lifeline.take());
    process.wait_for("drained");
    assert_eq!(process.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_wrong_start_is_one_sentence() {
    let output = |arguments: &[&str]| Command::new(ENGINE).args(arguments).output().unwrap();
    let wrong = output(&["--port", "80"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8(wrong.stderr).unwrap().contains("`--port` is not an argument"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nowhere").join("s");
    let wrong = output(&["--socket", path.to_str().unwrap(), "--state-dir", "."]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("nowhere") && !said.contains("panicked"), "{said}");
}

#[test]
fn it_says_what_it_is_made_of() {
    let hello =
        Command::new(ENGINE).arg("--hello").arg("--runtime").arg(runtime()).output().unwrap();
    let said: Value = serde_json::from_slice(&hello.stdout).unwrap();
    assert_eq!(said["engine"], env!("CARGO_PKG_VERSION"));
    assert!(said["runtime"].as_str().unwrap().starts_with("1."), "{said}");
    assert!(said["providers"].as_array().unwrap().iter().any(|p| p == "CPUExecutionProvider"));
    let without =
        Command::new(ENGINE).args(["--hello", "--runtime", "/nonexistent.so"]).output().unwrap();
    let said: Value = serde_json::from_slice(&without.stdout).unwrap();
    assert!(said["runtime"].is_null() && said["problem"].is_string(), "{said}");
}
