//! A library that cannot be loaded, in a process that has none yet.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they share")]

use dukou_ort::Runtime;
use dukou_types::{ErrorCode, Failure};

#[test]
fn the_loaders_words_and_the_path_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("libonnxruntime.so");
    std::fs::write(&broken, b"not a library").unwrap();
    let absent = folder.path().join("absent.so");
    for (path, says) in [(&broken, "file too short"), (&absent, "No such file")] {
        let Err(error) = Runtime::load(Some(path)) else { panic!("loaded {}", path.display()) };
        let failure = Failure::from(error);
        assert_eq!(failure.code, ErrorCode::EngineRuntimeMissing);
        for part in [says, &*path.to_string_lossy()] {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }
    // A library, but another one.
    let Err(error) = Runtime::load(Some(std::path::Path::new("libc.so.6"))) else {
        panic!("loaded")
    };
    assert!(error.to_string().contains("not ONNX Runtime"), "{error}");
}
