//! What stays in memory, in a process of its own: numbers of `/proc/self/smaps_rollup`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they share")]

mod support;

use std::fs;

use dukou_ort::{OpenSpec, OrtModel, Residency};
use support::*;

/// Private bytes that were written: what this process alone costs.
fn private_dirty() -> usize {
    dukou_sys::give_memory_back();
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

#[test]
fn sessions_over_shared_weights_cost_next_to_nothing_and_unloading_gives_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.onnx");
    fs::copy(model_path("shared_mlp.onnx"), &path).unwrap();
    let weights: Vec<f32> = noise(21, 4 * (512 * 512 + 512)).iter().map(|w| w / 8.0).collect();
    let weight_bytes = weights.len() * 4;
    fs::write(folder.path().join("weights.bin"), bytemuck::cast_slice(&weights)).unwrap();
    drop(weights);
    let plain = spec(path);
    let shared = OpenSpec {
        share_weights: true,
        compiled_dir: Some(folder.path().join("compiled")),
        ..plain.clone()
    };
    let ask = |model: &OrtModel| {
        run(model, request([floats("x", &[1, 512], &noise(1, 512))])).unwrap();
    };
    let first = runtime().open(shared.clone()).unwrap();
    ask(&first);
    assert_eq!(dukou_ort::mapped_bytes(), first.mapped_bytes());

    let before = private_dirty();
    let more: Vec<OrtModel> = (0..8)
        .map(|_| {
            let model = runtime().open(shared.clone()).unwrap();
            assert_eq!(model.residency(), Residency::Mapped);
            ask(&model);
            model
        })
        .collect();
    let each = private_dirty().saturating_sub(before) / more.len();
    assert!(each < weight_bytes / 16, "{each} bytes each, of {weight_bytes} bytes of weights");
    assert_eq!(dukou_ort::mapped_bytes(), first.mapped_bytes(), "nothing is mapped twice");

    drop(more);

    // The same without sharing costs the weights, each, and they come back when they are unloaded. What the
    // runtime and the allocator keep for ever is paid within the first rounds, and moves by a model's weights
    // with the threads' timing; a leak of one model a round would move it by all the rounds.
    let round = || {
        let models: Vec<OrtModel> =
            (0..4).map(|_| runtime().open(plain.clone()).unwrap()).collect();
        models.iter().for_each(&ask);
        private_dirty()
    };
    for _ in 0..2 {
        round();
    }
    let before = private_dirty();
    const ROUNDS: usize = 8;
    for _ in 0..ROUNDS {
        let loaded = round();
        assert!(loaded - before > 2 * weight_bytes, "{} bytes", loaded - before);
    }
    let after = private_dirty();
    assert!(after < before + ROUNDS / 2 * weight_bytes, "{after} bytes of {before} before");
    drop(first);
    assert_eq!(dukou_ort::mapped_bytes(), 0);
}
