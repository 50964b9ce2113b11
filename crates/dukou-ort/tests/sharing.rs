//! Weights mapped once a process: the same answers, no private memory, and only what changed is new.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they share")]

mod support;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use dukou_exec::Execute;
use dukou_ort::{OpenSpec, OrtModel, Residency};
use dukou_types::{DType, Tensor};
use support::*;

const WIDTH: usize = 512;
/// Elements of one layer of `shared_mlp`: a matrix and a bias.
const LAYER: usize = WIDTH * WIDTH + WIDTH;

/// A copy of a checked-in graph with weights of its own beside it, and a cache that may be shared.
struct Made {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Made {
    fn new(name: &str, weights: &[f32]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.onnx");
        fs::copy(model_path(name), &path).unwrap();
        fs::write(folder.path().join("weights.bin"), bytemuck::cast_slice(weights)).unwrap();
        Self { folder, path }
    }

    fn mlp(seed: u64) -> (Self, Vec<f32>) {
        let weights: Vec<f32> = noise(seed, 4 * LAYER).iter().map(|w| w / 8.0).collect();
        (Self::new("shared_mlp.onnx", &weights), weights)
    }

    fn plain(&self) -> OrtModel {
        runtime().open(spec(self.path.clone())).unwrap()
    }

    fn spec(&self, cache: &Path) -> OpenSpec {
        OpenSpec {
            share_weights: true,
            compiled_dir: Some(cache.to_owned()),
            ..spec(self.path.clone())
        }
    }

    fn shared(&self, cache: &Path) -> OrtModel {
        runtime().open(self.spec(cache)).unwrap()
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("compiled")
    }
}

fn answer(model: &dyn Execute, shape: &[usize]) -> Vec<f32> {
    let values = noise(77, shape.iter().product());
    f32s(&run(model, request([floats("x", shape, &values)])).unwrap().outputs[0])
}

fn close(left: &[f32], right: &[f32]) {
    assert_eq!(left.len(), right.len());
    assert!(left.iter().any(|v| *v != 0.0), "an answer of zeros proves nothing");
    for (a, b) in left.iter().zip(right) {
        assert!((a - b).abs() <= 1e-5 + 1e-5 * a.abs(), "{a} {b}");
    }
}

fn chunk_names(cache: &Path) -> BTreeSet<String> {
    fs::read_dir(cache.join("chunks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn compiled_folder(cache: &Path) -> PathBuf {
    let mut folders = fs::read_dir(cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("index").exists());
    let folder = folders.next().unwrap();
    assert!(folders.next().is_none());
    folder
}

#[test]
fn the_answers_are_those_of_a_plain_session() {
    let (made, _) = Made::mlp(1);
    let (plain, shared) = (made.plain(), made.shared(&made.cache()));
    assert_eq!((plain.residency(), shared.residency()), (Residency::Plain, Residency::Mapped));
    assert!(shared.notes().is_empty(), "{:?}", shared.notes());
    assert_eq!(plain.signature(), shared.signature());
    for rows in [1, 3, 64] {
        close(&answer(&plain, &[rows, WIDTH]), &answer(&shared, &[rows, WIDTH]));
    }
}

/// The trap: normalization folded into a convolution must fold *our* weights.
#[test]
fn folded_weights_are_ours_too() {
    let channels = 256;
    let mut weights: Vec<f32> =
        noise(5, channels * channels * 9).iter().map(|w| w / 16.0).collect();
    for (seed, low) in [(6, 0.8), (7, -0.1), (8, -0.1), (9, 0.9)] {
        // Scale, shift, mean, variance: the last must be positive.
        weights.extend(noise(seed, channels).iter().map(|v| low + (v + 0.5) * 0.4));
    }
    let made = Made::new("shared_conv_norm.onnx", &weights);
    let (plain, shared) = (made.plain(), made.shared(&made.cache()));
    assert_eq!(shared.residency(), Residency::Mapped, "{:?}", shared.notes());
    let shape = [2, channels, 6, 6];
    close(&answer(&plain, &shape), &answer(&shared, &shape));
}

#[test]
fn the_second_load_finds_the_cache() {
    let (made, _) = Made::mlp(2);
    let first = made.shared(&made.cache());
    assert!(first.compiled_now());
    let expected = answer(&first, &[2, WIDTH]);
    let second = made.shared(&made.cache());
    assert!(!second.compiled_now());
    drop((first, second));
    // Also with nothing mapped any more, as in another process.
    let third = made.shared(&made.cache());
    assert!(!third.compiled_now());
    assert_eq!(answer(&third, &[2, WIDTH]), expected);
    let left: Vec<_> = fs::read_dir(made.cache())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn versions_that_differ_in_one_tensor_share_the_rest() {
    let (made, mut weights) = Made::mlp(3);
    let cache = made.cache();
    let first = made.shared(&cache);
    let before = chunk_names(&cache);
    // Four matrices of 1 MiB, and one chunk of biases.
    assert_eq!(before.len(), 5);
    weights[2 * LAYER] += 1.0;
    let changed = Made::new("shared_mlp.onnx", &weights);
    let second = changed.shared(&cache);
    let after = chunk_names(&cache);
    assert_eq!(after.difference(&before).count(), 1, "one matrix is new");
    assert_eq!(first.mapped_bytes(), second.mapped_bytes());
    let shared =
        first.mapped_chunks().filter(|a| second.mapped_chunks().any(|b| std::ptr::eq(*a, b)));
    assert_eq!(shared.count(), 4, "the same memory");
    close(&answer(&changed.plain(), &[2, WIDTH]), &answer(&second, &[2, WIDTH]));
    close(&answer(&made.plain(), &[2, WIDTH]), &answer(&first, &[2, WIDTH]));
}

#[test]
fn whatever_is_damaged_in_the_cache_is_made_again() {
    let (made, _) = Made::mlp(4);
    let cache = made.cache();
    let expected = answer(&made.shared(&cache), &[2, WIDTH]);
    let home = compiled_folder(&cache);
    let biases = cache.join("chunks");
    let chunk = |largest: bool| {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&biases).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_by_key(|path| fs::metadata(path).unwrap().len());
        if largest { files.pop().unwrap() } else { files.remove(0) }
    };
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x20;
        fs::write(path, bytes).unwrap();
    };
    let spoils: Vec<(&str, Box<dyn Fn()>)> = vec![
        ("a flipped byte of a matrix", Box::new(|| flip(&chunk(true)))),
        ("a flipped byte of the biases", Box::new(|| flip(&chunk(false)))),
        (
            "a chunk cut short",
            Box::new(|| {
                let path = chunk(true);
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            }),
        ),
        ("a chunk that is gone", Box::new(|| fs::remove_file(chunk(true)).unwrap())),
        ("an empty chunk", Box::new(|| fs::write(chunk(false), b"").unwrap())),
        ("a flipped byte of the graph", Box::new(|| flip(&home.join("graph.onnx")))),
        ("a flipped byte of the index", Box::new(|| flip(&home.join("index")))),
        ("an index that is gone", Box::new(|| fs::remove_file(home.join("index")).unwrap())),
        ("an empty index", Box::new(|| fs::write(home.join("index"), b"").unwrap())),
    ];
    for (what, spoil) in spoils {
        assert!(!made.shared(&cache).compiled_now(), "before: {what}");
        spoil();
        let again = made.shared(&cache);
        assert!(again.compiled_now(), "{what} was not noticed");
        assert_eq!(again.residency(), Residency::Mapped, "{what}: {:?}", again.notes());
        assert_eq!(answer(&again, &[2, WIDTH]), expected, "{what}");
    }
}

#[test]
fn a_chunk_that_was_written_again_with_the_same_bytes_is_good() {
    let (made, _) = Made::mlp(10);
    let cache = made.cache();
    drop(made.shared(&cache));
    for name in chunk_names(&cache) {
        let path = cache.join("chunks").join(name);
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    assert!(!made.shared(&cache).compiled_now());
}

#[test]
fn small_models_and_a_table_that_says_so_stay_plain() {
    let (made, _) = Made::mlp(11);
    let cache = made.cache();
    let mut small = spec(model_path("digits_mlp.onnx"));
    (small.share_weights, small.compiled_dir) = (true, Some(cache.clone()));
    assert_eq!(runtime().open(small).unwrap().residency(), Residency::Plain);
    let unshared = OpenSpec { share_weights: false, ..made.spec(&cache) };
    assert_eq!(runtime().open(unshared).unwrap().residency(), Residency::Plain);
    assert!(!cache.exists(), "nothing was written");
}

#[test]
fn a_cache_that_cannot_be_written_costs_memory_not_answers() {
    let (made, _) = Made::mlp(12);
    let file = made.folder.path().join("a-file");
    fs::write(&file, b"").unwrap();
    let model = made.shared(&file.join("compiled"));
    assert_eq!(model.residency(), Residency::Plain);
    assert!(model.notes().join(" ").contains("weights are not shared"), "{:?}", model.notes());
    close(&answer(&made.plain(), &[1, WIDTH]), &answer(&model, &[1, WIDTH]));
}

#[test]
fn what_the_runtime_lacks_is_told_all_the_same() {
    let (made, _) = Made::mlp(13);
    let mut bytes = fs::read(&made.path).unwrap();
    let at = bytes.windows(4).position(|w| w == b"Relu").unwrap();
    bytes[at..at + 4].copy_from_slice(b"Rexu");
    fs::write(&made.path, bytes).unwrap();
    let Err(failure) = runtime().open(made.spec(&made.cache())) else { panic!("opened") };
    assert_eq!(failure.code, dukou_types::ErrorCode::FormatsUnsupportedOperator);
    assert!(failure.message.contains("`Rexu`"), "{}", failure.message);
}

#[test]
fn an_answer_outlives_the_model_and_its_mapping() {
    let (made, _) = Made::mlp(14);
    let model = made.shared(&made.cache());
    let values = noise(77, WIDTH);
    let kept: Tensor =
        run(&model, request([floats("x", &[1, WIDTH], &values)])).unwrap().outputs.remove(0);
    assert_eq!(kept.dtype, DType::Fp32);
    let before = f32s(&kept);
    drop(model);
    drop(made);
    assert_eq!(f32s(&kept), before);
}

/// Weights inside a branch cannot be handed over: the model stays plain, says so, and answers right.
#[test]
fn a_model_that_cannot_share_says_why_and_remembers_it() {
    let weights: Vec<f32> = noise(15, 2 * WIDTH * WIDTH).iter().map(|w| w / 8.0).collect();
    let made = Made::new("shared_branches.onnx", &weights);
    let plain = made.plain();
    for attempt in 0..2 {
        let shared = made.shared(&made.cache());
        assert_eq!(shared.residency(), Residency::Plain);
        assert!(shared.notes()[0].contains("inside a subgraph"), "{:?}", shared.notes());
        assert!(!shared.compiled_now(), "attempt {attempt}");
        for which in [0_u8, 1] {
            let ask = |model: &dyn Execute| {
                let x = floats("x", &[1, WIDTH], &noise(77, WIDTH));
                let which = tensor("which", DType::Bool, &[], data(&[which]));
                f32s(&run(model, request([x, which])).unwrap().outputs[0])
            };
            close(&ask(&plain), &ask(&shared));
        }
    }
    // Remembered, and no optimized graph is kept for nothing.
    let index = fs::read_to_string(compiled_folder(&made.cache()).join("index")).unwrap();
    assert!(index.contains("inside a subgraph"), "{index}");
}

/// A bare model that was written again is another model, whatever the cache holds.
#[test]
fn a_model_written_again_is_compiled_again() {
    let (made, mut weights) = Made::mlp(16);
    let cache = made.cache();
    let before = answer(&made.shared(&cache), &[2, WIDTH]);
    weights.iter_mut().for_each(|weight| *weight *= 1.5);
    let path = made.folder.path().join("weights.bin");
    fs::write(path, bytemuck::cast_slice(&weights)).unwrap();
    let again = made.shared(&cache);
    assert!(again.compiled_now());
    let after = answer(&again, &[2, WIDTH]);
    assert_ne!(before, after);
    close(&answer(&made.plain(), &[2, WIDTH]), &after);
}

#[test]
fn instances_with_threads_of_their_own_share_the_same_memory() {
    let (made, _) = Made::mlp(17);
    let spec = OpenSpec { threads: 2, instances: 3, ..made.spec(&made.cache()) };
    let model = runtime().open(spec).unwrap();
    assert_eq!((model.instances(), model.residency()), (3, Residency::Mapped));
    let expected = answer(&made.plain(), &[4, WIDTH]);
    for instance in 0..3 {
        let mut answers = Answers::default();
        let x = floats("x", &[4, WIDTH], &noise(77, 4 * WIDTH));
        let batch = dukou_exec::Batch { requests: vec![request([x])] };
        model.run(instance, batch, &mut answers);
        close(&expected, &f32s(&answers.given[0].1.as_ref().unwrap().outputs[0]));
    }
}
