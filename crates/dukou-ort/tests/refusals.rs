//! What cannot be opened, in one sentence each: what was wrong, by name, with a stable code.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they share")]

mod support;

use std::{fs, os::unix::fs::symlink, path::Path, sync::Arc};

use dukou_ort::{GraphSource, LoadError, Runtime};
use dukou_sys::FileBytes;
use dukou_types::{Digest, ErrorCode, Failure};
use support::*;

fn refused(path: &Path) -> Failure {
    let failure = match runtime().open(spec(path.to_owned())) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(failure) => failure,
    };
    assert!(
        !failure.message.contains('\n') && !failure.message.contains("onnxruntime_src"),
        "{}",
        failure.message
    );
    failure
}

/// Opens a model of `conformance/models` from a folder of its own; `weights` lie beside it.
fn in_folder(name: &str, weights: Option<&[f32]>) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("model");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("model.onnx");
    fs::copy(model_path(name), &path).unwrap();
    if let Some(weights) = weights {
        fs::write(inner.join("weights.bin"), bytemuck::cast_slice(weights)).unwrap();
    }
    (folder, path)
}

#[test]
fn operators_that_the_runtime_lacks_are_named() {
    for (name, parts) in [
        ("unknown_operator.onnx", ["`Teleport`", "opset 17 of `ai.onnx`"]),
        ("custom_operator.onnx", ["`Teleport`", "opset 2 of `acme`"]),
        ("future_opset.onnx", ["ai.onnx 999", "ONNX Runtime"]),
        ("digits_zipmap.onnx", ["`output_probability` is a sequence", "ZipMap"]),
    ] {
        let failure = refused(&model_path(name));
        assert_eq!(
            failure.code,
            ErrorCode::FormatsUnsupportedOperator,
            "{name}: {}",
            failure.message
        );
        for part in parts {
            assert!(failure.message.contains(part), "{name}: {}", failure.message);
        }
    }
}

#[test]
fn what_is_broken_or_no_model_at_all() {
    assert_eq!(refused(&model_path("truncated.onnx")).code, ErrorCode::FormatsCorrupt);
    assert_eq!(refused(&model_path("dangling.onnx")).code, ErrorCode::FormatsCorrupt);
    for (name, says) in [
        ("make.py", "not an ONNX model"),
        ("nowhere.onnx", "nothing at this path"),
        (".", "a folder"),
    ] {
        let failure = refused(&model_path(name));
        assert_eq!(failure.code, ErrorCode::FormatsNotAModel, "{}", failure.message);
        assert!(failure.message.contains(says), "{}", failure.message);
    }
}

/// A model cut anywhere or with any one byte changed is opened or refused in a sentence; nothing panics
/// and nothing is opened that lacks a part of its graph.
#[test]
fn a_damaged_graph_never_harms() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(model_path("two_inputs.onnx")).unwrap();
    let path = folder.path().join("model.onnx");
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        if let Err(failure) = runtime().open(spec(path.clone())) {
            assert!(
                matches!(failure.code, ErrorCode::FormatsCorrupt | ErrorCode::FormatsNotAModel),
                "{length}: {failure}"
            );
        } else {
            // Fields come in order and opsets last: only a cut between them leaves a whole model.
            assert!(length > whole.len() - 8, "opened with {length} of {} bytes", whole.len());
        }
    }
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x15;
        fs::write(&path, &bytes).unwrap();
        if let Ok(model) = runtime().open(spec(path.clone())) {
            let _ = run(
                &model,
                request([floats("a", &[1, 3], &[0.0; 3]), floats("b", &[1, 3], &[0.0; 3])]),
            );
        }
    }
}

#[test]
fn external_data_beside_the_model_are_read() {
    let (_keep, path) = in_folder("external_good.onnx", Some(&[10.0, 20.0, 30.0]));
    let model = runtime().open(spec(path)).unwrap();
    let answer = run(&model, request([floats("x", &[1, 3], &[1.0, 2.0, 3.0])])).unwrap();
    assert_eq!(f32s(&answer.outputs[0]), [11.0, 22.0, 33.0]);
}

#[test]
fn external_data_elsewhere_are_refused() {
    for name in ["external_absolute.onnx", "external_parent.onnx", "external_subgraph.onnx"] {
        let (folder, path) = in_folder(name, None);
        // It exists, and is refused all the same.
        fs::write(folder.path().join("weights.bin"), [0_u8; 12]).unwrap();
        let failure = refused(&path);
        assert_eq!(
            failure.code,
            ErrorCode::FormatsExternalDataOutside,
            "{name}: {}",
            failure.message
        );
    }
    let (folder, path) = in_folder("external_link.onnx", None);
    fs::write(folder.path().join("secret.bin"), [0_u8; 12]).unwrap();
    symlink("../secret.bin", path.with_file_name("link.bin")).unwrap();
    assert_eq!(refused(&path).code, ErrorCode::FormatsExternalDataOutside);

    // A link that stays inside is as good as a file.
    let (_keep, path) = in_folder("external_link.onnx", Some(&[1.0, 2.0, 3.0]));
    symlink("weights.bin", path.with_file_name("link.bin")).unwrap();
    assert!(runtime().open(spec(path)).is_ok());
}

#[test]
fn external_data_that_are_missing_or_short_are_told() {
    let (_keep, path) = in_folder("external_missing.onnx", None);
    let failure = refused(&path);
    assert_eq!(failure.code, ErrorCode::FormatsExternalDataMissing);
    assert!(failure.message.contains("`nowhere.bin`"), "{}", failure.message);
    let (_keep, path) = in_folder("external_short.onnx", Some(&[10.0, 20.0, 30.0]));
    let failure = refused(&path);
    assert_eq!(failure.code, ErrorCode::FormatsExternalDataMissing);
    for part in ["12 bytes from byte 8", "`weights.bin`", "the file has 12"] {
        assert!(failure.message.contains(part), "{}", failure.message);
    }
}

#[test]
fn a_verified_graph_takes_its_weights_from_memory_alone() {
    let graph = Arc::new(FileBytes::read(&model_path("external_good.onnx")).unwrap());
    let digest = Digest::parse(&format!("sha256:{}", "ab".repeat(32))).unwrap();
    let source =
        |external| GraphSource::Verified { digest: digest.clone(), graph: graph.clone(), external };
    let mut good = spec("unused".into());
    let bytes = bytemuck::cast_slice(&[1.0_f32, 2.0, 3.0]).to_vec();
    good.source = source(vec![("weights.bin".to_owned(), Arc::new(FileBytes::from(bytes)))]);
    let model = runtime().open(good.clone()).unwrap();
    let answer = run(&model, request([floats("x", &[1, 3], &[0.0; 3])])).unwrap();
    assert_eq!(f32s(&answer.outputs[0]), [1.0, 2.0, 3.0]);
    good.source = source(vec![]);
    let Err(failure) = runtime().open(good) else { panic!("opened without its weights") };
    assert_eq!(failure.code, ErrorCode::FormatsExternalDataMissing);
}

#[test]
fn a_library_that_is_none_is_told_by_path() {
    let loaded = runtime();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libonnxruntime.so");
    fs::write(&path, b"not a library").unwrap();
    let Err(error) = Runtime::load(Some(&path)) else { panic!("loaded") };
    // One process holds one library; the loader's own refusal is tested in a process of its own.
    assert!(matches!(&error, LoadError::Another { .. }), "{error}");
    assert!(error.to_string().contains(&*path.to_string_lossy()));
    assert_eq!(Failure::from(error).code, ErrorCode::EngineRuntimeMissing);
    assert!(loaded.version().starts_with("1."), "{}", loaded.version());
    assert!(loaded.providers().iter().any(|p| p == "CPUExecutionProvider"));
}
