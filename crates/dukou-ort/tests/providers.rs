//! Execution providers: asked for, found, passed over.
//!
//! No device but the CPU is needed: what is not here must be passed over by every way in. Models run on
//! OpenVINO in `tests/boundary/test_devices.py`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod support;

use dukou_ort::{Provider, Residency};
use support::{floats, model_path, noise, provider, request, run, runtime, spec};

const CPU: [&str; 1] = ["CPUExecutionProvider"];

#[test]
fn what_the_library_lacks_is_passed_over_with_why() {
    let mut spec = spec(model_path("identity_fp32.onnx"));
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    spec.providers = vec![
        Provider {
            name: "TensorrtExecutionProvider".into(),
            options: vec![option("device_id", "1"), option("trt_fp16_enable", "1")],
        },
        Provider { name: "cuda".into(), options: vec![option("device_id", "1")] },
        Provider {
            name: "VitisAIExecutionProvider".into(),
            options: vec![option("config_file", "/etc/vaip_config.json")],
        },
        provider("CPUExecutionProvider"),
        provider("BehindTheCpu"),
    ];
    let model = runtime().open(spec).unwrap();
    assert_eq!(model.providers(), CPU);
    let names: Vec<&str> = model.passed_over().iter().map(|p| &*p.provider).collect();
    assert_eq!(names, ["TensorrtExecutionProvider", "cuda", "VitisAIExecutionProvider"]);
    for passed_over in model.passed_over() {
        let reason = &passed_over.reason;
        assert!(reason.contains("not in this ONNX Runtime"), "{reason}");
        assert!(reason.contains("CPUExecutionProvider"), "says what there is: {reason}");
        println!("{}: not run: no device", passed_over.provider);
    }
    assert!(run(&model, request([floats("x", &[1, 3], &[1.0; 3])])).is_ok());
}

/// The library names Azure's provider, which takes no model of this kind: it is offered and refuses, or
/// takes nothing and leaves all to the CPU.
#[test]
fn what_is_offered_and_does_not_take_the_model_leaves_it_to_the_next() {
    let runtime = runtime();
    let offered: Vec<String> =
        runtime.providers().iter().filter(|name| **name != CPU[0]).cloned().collect();
    let mut spec = spec(model_path("identity_fp32.onnx"));
    spec.providers = offered.iter().map(|name| provider(name)).collect();
    let model = runtime.open(spec).unwrap();
    assert_eq!(model.providers().last().unwrap(), CPU[0]);
    assert_eq!(model.providers().len() - 1 + model.passed_over().len(), offered.len());
    assert!(run(&model, request([floats("x", &[1, 3], &[1.0; 3])])).is_ok());
}

#[test]
fn an_encrypted_model_is_written_down_by_no_provider() {
    let mut spec = spec(model_path("identity_fp32.onnx"));
    spec.encrypted = true;
    let kept = ("trt_engine_cache_enable".to_owned(), "1".to_owned());
    spec.providers = vec![Provider { name: "tensorrt".into(), options: vec![kept] }];
    let model = runtime().open(spec).unwrap();
    let reason = &model.passed_over()[0].reason;
    assert!(reason.contains("encrypted") && reason.contains("trt_engine_cache_enable"), "{reason}");
}

#[test]
fn a_plugin_that_is_none_is_passed_over_with_its_loaders_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libplugin.so");
    std::fs::write(&path, "no library").unwrap();
    let runtime = runtime();
    runtime.add_plugin(&path);
    let mut spec = spec(model_path("identity_fp32.onnx"));
    spec.providers = vec![provider("SomeExecutionProvider")];
    let model = runtime.open(spec).unwrap();
    let reason = &model.passed_over()[0].reason;
    assert!(reason.contains("libplugin.so` cannot be loaded"), "{reason}");
    assert_eq!(runtime.register_plugins().len(), 1, "it is tried once");
    assert!(runtime.devices().iter().any(|device| device.provider == CPU[0]));
}

#[test]
fn what_falls_back_to_the_cpu_shares_its_weights_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    std::fs::copy(model_path("shared_mlp.onnx"), &path).unwrap();
    // Four layers of a matrix of 512 by 512 and a bias.
    let weights = noise(5, 4 * (512 * 512 + 512));
    std::fs::write(folder.path().join("weights.bin"), bytemuck::cast_slice(&weights)).unwrap();
    let mut spec = spec(path);
    spec.share_weights = true;
    spec.compiled_dir = Some(folder.path().join("compiled"));
    spec.providers = vec![provider("cuda")];
    let model = runtime().open(spec).unwrap();
    assert_eq!(
        (model.residency(), model.providers()),
        (Residency::Mapped, &[CPU[0].to_owned()][..])
    );
}
