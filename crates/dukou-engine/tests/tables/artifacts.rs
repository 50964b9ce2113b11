//! Packaged versions: golden samples, trust.

use std::{fs, path::Path, thread};

use dukou_engine::{
    container::Container,
    standalone::{Folder, Surroundings},
    swap::{First, Refused},
};
use dukou_types::ErrorCode;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::support::{Running, adds, model, outputs, served, table, version};

/// Packages `adds_1` with golden samples that expect this answer to `[1, 2, 3]`, unsigned, and gives its
/// source in a table.
fn package(folder: &Path, expected: [f64; 3]) -> Value {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |media_type: &str, name: &str, bytes: &[u8]| {
        let digest = digest(&SHA256, bytes);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(blobs.join(&hex), bytes).unwrap();
        json!({
            "mediaType": media_type,
            "digest": format!("sha256:{hex}"),
            "size": bytes.len(),
            "annotations": { "org.cncf.model.filepath": name },
        })
    };
    let tensor = |name: &str| json!({ "name": name, "dtype": "FP32", "shape": ["N", 3] });
    let config = json!({ "dukou": {
        "format": 1, "name": "adds", "variant": "original", "labels": [],
        "signature": { "inputs": [tensor("x")], "outputs": [tensor("y")] },
    }});
    let sample = |name: &str, data: &[f64]| json!({ "name": name, "datatype": "FP32", "shape": [1, 3], "data": data });
    let golden = json!({
        "format": 1,
        "tolerance": { "absolute": 1e-4, "relative": 1e-3 },
        "classes": null,
        "samples": [{ "inputs": [sample("x", &[1.0, 2.0, 3.0])], "outputs": [sample("y", &expected)] }],
    });
    let config_type = "application/vnd.cncf.model.config.v1+json";
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "artifactType": "application/vnd.cncf.model.manifest.v1+json",
        "config": blob(config_type, "config.json", config.to_string().as_bytes()),
        "layers": [
            blob("application/vnd.dukou.model.graph.v1+onnx", "graph.onnx", &fs::read(model("adds_1")).unwrap()),
            blob("application/vnd.dukou.model.golden.v1+json", "golden.json", golden.to_string().as_bytes()),
        ],
    });
    let manifest = blob(manifest_type, "manifest.json", manifest.to_string().as_bytes());
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    json!({ "artifact": manifest["digest"], "store": folder })
}

/// A table with one packaged version, and what is done about its golden samples.
fn packaged(engine: &Running, sequence: u64, expected: [f64; 3], golden: &str) -> Value {
    let mut version = version("1", package(&engine.folder.path().join("store"), expected));
    version["golden"] = json!(golden);
    table(sequence, &[served("adds", &[version])])
}

fn golden_of(engine: &Running) -> Value {
    engine.local("GET", "/models", "").1["models"][0]["versions"][0]["golden"].clone()
}

const RIGHT: [f64; 3] = [2.0, 3.0, 4.0];
const WRONG: [f64; 3] = [2.0, 3.5, 4.0];

#[test]
fn a_version_that_reproduces_its_golden_samples_is_served() {
    let engine = Running::new();
    let document = packaged(&engine, 1, RIGHT, "require");
    engine.put(&document).unwrap();
    assert_eq!(golden_of(&engine), "reproduced");
    assert_eq!(outputs(&engine.connect().infer("adds", [1.0; 3])), [2.0; 3]);
    let digest = &document["models"][0]["versions"][0]["source"]["artifact"];
    assert_eq!(engine.arm("1", "main", "r1")["digest"], *digest);
}

#[test]
fn a_version_that_does_not_is_refused_and_the_element_named() {
    let engine = Running::new();
    engine.put(&table(1, &[adds(3)])).unwrap();
    let document = packaged(&engine, 2, WRONG, "require");
    let Err(Refused::Version(refused)) = engine.put(&document) else { panic!("it was taken") };
    assert_eq!(refused.failure.code, ErrorCode::TableGoldenMismatch);
    assert_eq!(
        refused.failure.message,
        "golden sample 0: output `y` element [0, 1]: expected 3.5, came 3"
    );
    let (status, answer) = engine.local("PUT", "/table", &document.to_string());
    assert_eq!((status, &answer["error"]["code"]), (422, &json!("table.golden-mismatch")));
    assert_eq!(
        (&answer["error"]["model"], &answer["error"]["version"]),
        (&json!("adds"), &json!("1"))
    );
    assert_eq!(outputs(&engine.connect().infer("adds", [0.0; 3])), [3.0; 3]);
}

#[test]
fn an_alarm_serves_it_all_the_same() {
    let engine = Running::new();
    engine.put(&packaged(&engine, 1, WRONG, "alarm")).unwrap();
    assert_eq!(golden_of(&engine), "differs");
    assert_eq!(outputs(&engine.connect().infer("adds", [1.0; 3])), [2.0; 3]);
}

#[test]
fn what_was_not_asked_before_is_asked_of_a_version_that_stays() {
    let engine = Running::new();
    engine.put(&packaged(&engine, 1, WRONG, "off")).unwrap();
    assert_eq!(golden_of(&engine), "off");
    let Err(Refused::Version(refused)) = engine.put(&packaged(&engine, 2, WRONG, "require")) else {
        panic!("it was taken")
    };
    assert_eq!(refused.failure.code, ErrorCode::TableGoldenMismatch);
    let receipt = engine.put(&packaged(&engine, 3, WRONG, "alarm")).unwrap();
    assert_eq!((receipt.loaded.len(), golden_of(&engine)), (0, json!("differs")));
}

#[test]
fn a_restart_never_becomes_an_outage() {
    let engine = Running::new();
    let file = engine.folder.path().join("table.json");
    for (expected, outcome) in [(WRONG, "differs"), (RIGHT, "reproduced")] {
        let engine = Running::new();
        fs::write(&file, packaged(&engine, 1, expected, "require").to_string()).unwrap();
        engine.swap.start(First::File(file.clone()));
        assert_eq!(outputs(&engine.connect().infer("adds", [1.0; 3])), [2.0; 3]);
        while golden_of(&engine) == "pending" {
            thread::yield_now();
        }
        assert_eq!(golden_of(&engine), outcome);
        assert_eq!(outputs(&engine.connect().infer("adds", [1.0; 3])), [2.0; 3]);
    }
}

#[test]
fn a_folder_that_differs_is_not_served_at_all() {
    for (expected, serves) in [(WRONG, false), (RIGHT, true)] {
        let engine = Running::new();
        let mut table = packaged(&engine, 1, expected, "require");
        table["models"][0]["versions"][0]["source"]["store"] = json!("store");
        fs::write(engine.folder.path().join("table.json"), table.to_string()).unwrap();
        let folder = Folder::open(engine.folder.path()).unwrap();
        let surroundings = Surroundings::here(Container::default(), Vec::new());
        assert_eq!(engine.swap.start(First::Folder(folder, surroundings)), serves);
        if serves {
            assert_eq!(golden_of(&engine), "reproduced");
        } else {
            assert_eq!(engine.connect().infer("adds", [1.0; 3]).status, 503);
        }
    }
}

#[test]
fn a_table_that_trusts_less_is_held_to_it_by_what_stays() {
    let engine = Running::new();
    engine.put(&packaged(&engine, 1, RIGHT, "require")).unwrap();
    let mut strict = packaged(&engine, 2, RIGHT, "require");
    strict["trust"]["require_signature"] = json!(true);
    let Err(Refused::Version(refused)) = engine.put(&strict) else { panic!("it was taken") };
    assert_eq!(refused.failure.code, ErrorCode::TrustUnsigned);
    assert_eq!(engine.connect().infer("adds", [1.0; 3]).header("dukou-revision"), Some("r1"));
}

#[test]
fn a_changed_blob_is_never_loaded() {
    let engine = Running::new();
    let document = packaged(&engine, 1, RIGHT, "require");
    for entry in fs::read_dir(engine.folder.path().join("store/blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if bytes.starts_with(b"{\"classes\"") {
            *bytes.last_mut().unwrap() = b' ';
            fs::write(&path, bytes).unwrap();
        }
    }
    let Err(Refused::Version(refused)) = engine.put(&document) else { panic!("it was taken") };
    assert_eq!(refused.failure.code, ErrorCode::PackageDigestMismatch);
}
