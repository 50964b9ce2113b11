//! What one run costs on this machine: µs for batches of the digits model, and what memory stays.
//!
//!     ORT_DYLIB_PATH=… cargo run --release -p dukou-ort --example run_cost [MODEL [CACHE]]
//!
//! With a folder for the compiled cache, weights are shared. A measurement, never a test.
#![allow(clippy::unwrap_used, missing_docs, reason = "an example for whoever tunes this crate")]

use std::{path::PathBuf, time::Instant};

use dukou_exec::{Batch, Execute, Sink};
use dukou_ort::{GraphSource, OpenSpec, Provider, Runtime};
use dukou_types::{Data, Dim, Failure, InferRequest, InferResponse, Principal, RequestId, Tensor};

#[derive(Default)]
struct Last(Option<Result<InferResponse, Failure>>);

impl Sink for Last {
    fn respond(&mut self, _slot: usize, answer: Result<InferResponse, Failure>) {
        self.0 = Some(answer);
    }
}

/// Bytes of private memory of this process.
fn private_kib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find(|line| line.starts_with("Private_Dirty")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn main() {
    let at =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/models/digits_mlp.onnx");
    let path = std::env::args_os().nth(1).map_or(at, PathBuf::from);
    let cache = std::env::args_os().nth(2).map(PathBuf::from);
    let begin = Instant::now();
    let runtime = Runtime::load(None).unwrap();
    println!("load    {:?} (ONNX Runtime {})", begin.elapsed(), runtime.version());
    let begin = Instant::now();
    let spec = OpenSpec {
        source: GraphSource::File(path),
        instances: 2,
        threads: 1,
        providers: vec![Provider { name: "cpu".into(), options: Vec::new() }],
        encrypted: false,
        share_weights: cache.is_some(),
        compiled_dir: cache,
    };
    let mut model = runtime.open(spec.clone()).unwrap();
    println!(
        "open    {:?}, {}, {} KiB private{}",
        begin.elapsed(),
        model.residency().as_str(),
        private_kib(),
        if model.compiled_now() { " (compiled now)" } else { "" }
    );
    model.notes().iter().for_each(|note| println!("note    {note}"));
    model.set_batchable(true);
    let signature = model.signature().clone();
    let request = |model: &dyn Execute, rows: usize| {
        let inputs = signature.inputs.iter().enumerate().map(|(position, spec)| {
            let shape: Vec<usize> = spec
                .shape
                .iter()
                .map(|dim| match dim {
                    Dim::Fixed(extent) => *extent,
                    _ => rows,
                })
                .collect();
            let bytes = shape.iter().product::<usize>() * spec.dtype.size().unwrap();
            let data = Data::Owned(model.lease(position, bytes));
            Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data }
        });
        InferRequest::new(RequestId(0), Principal::Loopback, inputs.collect())
    };
    // A large model is asked less often.
    let repeats = if model.mapped_bytes() > 10 << 20 { 20 } else { 2000 };
    for (requests, rows) in [(1, 1), (8, 1), (32, 1), (1, 8), (1, 32), (1, 128), (128, 1)] {
        let mut best = f64::MAX;
        let mut middle = Vec::new();
        for _ in 0..20 {
            let count = repeats / (requests * rows).clamp(1, 20);
            let begin = Instant::now();
            for _ in 0..count {
                let batch =
                    Batch { requests: (0..requests).map(|_| request(&model, rows)).collect() };
                let mut last = Last::default();
                model.run(0, batch, &mut last);
                last.0.unwrap().unwrap();
            }
            let each =
                begin.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(count).unwrap());
            best = best.min(each);
            middle.push(each);
        }
        middle.sort_by(f64::total_cmp);
        println!(
            "run     {requests:3} requests of {rows:3} rows: best {best:7.2} µs, median {:7.2} µs",
            middle[10]
        );
    }
    let copies: u32 = if repeats < 2000 { 4 } else { 200 };
    let before = private_kib();
    let begin = Instant::now();
    let more: Vec<_> = (0..copies)
        .map(|_| {
            let mut model = runtime.open(spec.clone()).unwrap();
            model.set_batchable(true);
            let batch = Batch { requests: vec![request(&model, 32)] };
            model.run(0, batch, &mut Last::default());
            model
        })
        .collect();
    println!(
        "another {:?} and {} KiB each",
        begin.elapsed() / copies,
        private_kib().saturating_sub(before) / 200
    );
    drop(more);
    println!("after   {} KiB of them stay", private_kib().saturating_sub(before) / 200);
    let before = private_kib();
    let large = Batch { requests: vec![request(&model, 20_000)] };
    model.run(0, large, &mut Last::default());
    println!("20,000 rows once: {} KiB stay", private_kib().saturating_sub(before));
}
