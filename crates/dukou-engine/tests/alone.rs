//! The binary without a supervisor: a serving folder, listeners of its own, keys that are mounted.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod crossing;

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use crossing::{Client, infer, model, runtime, table};
use serde_json::{Value, json};
use tempfile::TempDir;

const ENGINE: &str = env!("CARGO_BIN_EXE_dukou-engine");

/// A folder as `dukou` writes one: paths of its own, and numbers left to the starter.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("models")).unwrap();
    fs::create_dir_all(folder.path().join("lib")).unwrap();
    fs::copy(model("digits_mlp.onnx"), folder.path().join("models/digits.onnx")).unwrap();
    std::os::unix::fs::symlink(runtime(), folder.path().join("lib/libonnxruntime.so")).unwrap();
    let mut table = table();
    table["models"][0]["versions"][0]["source"] = json!({"file": "models/digits.onnx"});
    table["models"][0]["versions"][0]["backend"]["instances"] = json!("cpus");
    fs::write(folder.path().join("table.json"), table.to_string()).unwrap();
    folder
}

struct Alone {
    child: Child,
    events: BufReader<ChildStdout>,
}

impl Alone {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = Command::new(ENGINE)
            .arg("--folder")
            .arg(folder)
            .args(["--threads", "2"])
            .args(arguments)
            .env_remove("ORT_DYLIB_PATH")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let events = BufReader::new(child.stdout.take().unwrap());
        Self { child, events }
    }

    fn wait_for(&mut self, event: &str) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.events.read_line(&mut line).unwrap() > 0, "no `{event}`");
            let said: Value = serde_json::from_str(&line).unwrap();
            if said["event"] == *event {
                return said;
            }
        }
    }

    /// Where it answers.
    fn address(&mut self) -> String {
        let started = self.wait_for("started");
        let address = started["listening"]["http"].as_str().unwrap().to_owned();
        self.wait_for("serving");
        address
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _status = self.child.wait();
    }
}

fn probe(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(ENGINE).arg("--probe").args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_folder_is_served_and_nothing_is_written() {
    let folder = folder();
    let before = files(folder.path());
    let mut alone = Alone::start(folder.path(), &["--listen", "http=127.0.0.1:0"]);
    let address = alone.address();
    let mut client = Client::new(TcpStream::connect(&address).unwrap());
    client.send(&infer("", 1));
    assert_eq!(client.answer().status, 200);
    assert!(probe(&[&format!("{address}/v2/health/ready")]).0);
    let (ready, said) = probe(&[&format!("{address}/v2/models/nobody/ready")]);
    assert!(!ready && said.contains("404"), "{said}");
    // A second one at the same place says who is in the way.
    let again = Command::new(ENGINE)
        .arg("--folder")
        .arg(folder.path())
        .args(["--listen", &format!("http={address}")])
        .output()
        .unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && said.contains(&address), "{said}");

    let sent = Command::new("kill").arg("-TERM").arg(alone.child.id().to_string()).status();
    assert!(sent.unwrap().success());
    alone.wait_for("drained");
    assert_eq!(alone.child.wait().unwrap().code(), Some(0));
    assert_eq!(files(folder.path()), before);
}

#[test]
fn what_cannot_be_served_ends_the_process_with_a_sentence() {
    let folder = folder();
    let mut open = Alone::start(folder.path(), &["--listen", "http=0.0.0.0:0"]);
    let refused = open.wait_for("refused");
    assert_eq!(refused["code"], "access.off-loopback");
    assert!(refused["message"].as_str().unwrap().contains("can be reached from other machines"));
    assert_eq!(open.child.wait().unwrap().code(), Some(1));

    fs::remove_file(folder.path().join("models/digits.onnx")).unwrap();
    let mut gone = Alone::start(folder.path(), &["--listen", "http=127.0.0.1:0"]);
    assert_eq!(gone.wait_for("refused")["code"], "formats.not-a-model");
    assert_eq!(gone.child.wait().unwrap().code(), Some(1));

    let nowhere = Command::new(ENGINE).arg("--folder").arg(folder.path()).output().unwrap();
    let said = String::from_utf8(nowhere.stderr).unwrap();
    assert!(said.contains("nothing is listened on"), "{said}");
}

#[test]
fn a_resolved_table_off_loopback_is_held_to_its_own_word() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("table.json");
    fs::write(&file, table().to_string()).unwrap();
    let said = Command::new(ENGINE)
        .arg("--table")
        .arg(&file)
        .arg("--runtime")
        .arg(runtime())
        .args(["--listen", "http=0.0.0.0:0"])
        .output()
        .unwrap();
    assert_eq!(said.status.code(), Some(1));
    let said = String::from_utf8(said.stderr).unwrap();
    assert!(said.contains("access.off-loopback"), "{said}");
}

#[test]
fn keys_that_are_mounted_count_and_are_read_again() {
    let (folder, access) = (folder(), tempfile::tempdir().unwrap());
    let keys = access.path().join("keys.json");
    fs::write(&keys, r#"{"format": 1, "keys": []}"#).unwrap();
    let mounted = access.path().to_str().unwrap();
    let mut alone =
        Alone::start(folder.path(), &["--listen", "http=127.0.0.1:0", "--access", mounted]);
    let address = alone.address();
    let key = "dk_0123456789ab_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let ask = || {
        let mut client = Client::new(TcpStream::connect(&address).unwrap());
        client.send(&infer(&format!("x-api-key: {key}\r\n"), 1));
        client.answer().status
    };
    // SHA-256 of forty-three `A`.
    let digest = "0f007385b6f9d4b7eeb2748605afe1a984a0a3bfa3f014d09e2a784ce9e5cd1a";
    let one = json!({"format": 1, "keys": [{
        "id": "0123456789ab", "name": "one", "secret_sha256": digest, "created": 1,
        "grants": [{"role": "predict", "models": ["*"]}], "rate": null, "expires": null,
    }]});
    assert_eq!(ask(), 401);
    assert!(probe(&[&format!("{address}/v2/health/live"), "--access", mounted]).0);
    fs::write(access.path().join("new"), one.to_string()).unwrap();
    fs::rename(access.path().join("new"), &keys).unwrap();
    alone.wait_for("serving");
    assert_eq!(ask(), 200);
    // What is broken changes nothing.
    fs::write(&keys, "{").unwrap();
    assert_eq!(ask(), 200);
}
