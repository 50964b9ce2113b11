//! How long the codec takes for bodies such as clients send: `cargo run --release -p dukou-wire
//! --example codec_rate`. Prints nanoseconds a body and an element; asserts nothing.

use std::{fmt::Write as _, hint::black_box, sync::Arc, time::Instant};

use bytes::Bytes;
use dukou_types::{
    Buffer, DType, Data, Dim, Failure, InferResponse, Signature, Tensor, TensorSpec,
};
use dukou_wire::{Carriage, DecodeLimits, EncodeContext, v2};
use http::HeaderMap;

const LIMITS: DecodeLimits = DecodeLimits { json_depth: 100, body_bytes: 64 << 20 };

/// A body of one row of `count` elements, each written by `element`.
fn body(datatype: &str, count: usize, separator: &str, element: impl Fn(usize) -> String) -> Bytes {
    let mut text =
        format!(r#"{{"inputs":[{{"name":"x","shape":[1,{count}],"datatype":"{datatype}","data":["#);
    for position in 0..count {
        let separator = if position == 0 { "" } else { separator };
        let _ = write!(text, "{separator}{}", element(position));
    }
    text.push_str("]}]}");
    text.into()
}

fn signature(dtype: DType, count: usize) -> Signature {
    let shape = vec![Dim::Symbol("batch".into()), Dim::Fixed(count)];
    let x = TensorSpec { name: "x".into(), dtype, shape };
    Signature { inputs: vec![x], outputs: vec![], batchable: true }
}

/// Runs for about half a second, in five rounds, and prints the quickest round's time a call.
fn time(what: &str, elements: usize, mut call: impl FnMut()) {
    let start = Instant::now();
    call();
    let calls = (100_000_000 / start.elapsed().as_nanos().max(100)).clamp(1, 200_000);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for _ in 0..calls {
            call();
        }
        best = best.min(start.elapsed().as_nanos() as f64 / calls as f64);
    }
    println!("{what:<44}{best:>12.0} ns{:>9.1} ns an element", best / elements as f64);
}

fn decode_case(what: &str, dtype: DType, count: usize, body: &Bytes) -> Result<(), Failure> {
    let (signature, headers) = (signature(dtype, count), HeaderMap::new());
    let rope = [body.clone()];
    let mut pool = Vec::new();
    let mut once = || {
        let mut lease = |_, bytes| {
            let mut buffer: Buffer = pool.pop().unwrap_or_default();
            buffer.resize(bytes);
            buffer
        };
        let decoded = v2::decode(&rope, &headers, &signature, &LIMITS, &mut lease)?;
        for tensor in black_box(decoded).inputs {
            if let Data::Owned(buffer) = tensor.data {
                pool.push(buffer);
            }
        }
        Ok(())
    };
    once()?;
    time(what, count, || drop(once()));
    Ok(())
}

fn main() -> Result<(), Failure> {
    // Pixels of a digit as sixteenths, as the digits set has them.
    let digit = |position: usize| format!("{:?}", ((position * 7) % 17) as f64 / 16.0);
    // Full-precision numbers: what Python's json prints of a float32 and of a float64.
    let irrational = |position: usize| ((position + 1) as f64 * 0.618_033_988_749_894_9).fract();
    let of_f32 = |position: usize| format!("{:?}", f64::from(irrational(position) as f32));
    let of_f64 = |position: usize| format!("{:?}", irrational(position));
    let whole = |position: usize| format!("{}", (position * 2_654_435_761) % 50_000);
    decode_case("1 FP32", DType::Fp32, 1, &body("FP32", 1, ",", digit))?;
    decode_case("64 FP32, sixteenths, `,`", DType::Fp32, 64, &body("FP32", 64, ",", digit))?;
    decode_case("64 FP32, sixteenths, `, `", DType::Fp32, 64, &body("FP32", 64, ", ", digit))?;
    decode_case("64 FP32, 17 digits", DType::Fp32, 64, &body("FP32", 64, ",", of_f32))?;
    decode_case("64 FP64, 17 digits", DType::Fp64, 64, &body("FP64", 64, ",", of_f64))?;
    decode_case("64 INT64, to 50000", DType::Int64, 64, &body("INT64", 64, ",", whole))?;
    decode_case(
        "150528 FP32, 17 digits",
        DType::Fp32,
        150_528,
        &body("FP32", 150_528, ",", of_f32),
    )?;
    decode_case(
        "150528 FP32, sixteenths",
        DType::Fp32,
        150_528,
        &body("FP32", 150_528, ",", digit),
    )?;
    decode_case(
        "150528 UINT8",
        DType::Uint8,
        150_528,
        &body("UINT8", 150_528, ",", |p| (p % 256).to_string()),
    )?;
    decode_case(
        "64 BYTES",
        DType::Bytes,
        64,
        &body("BYTES", 64, ",", |p| format!("\"word {p} of it\"")),
    )?;

    let mut data = Buffer::zeroed(40);
    data.typed_mut::<f32>()
        .iter_mut()
        .enumerate()
        .for_each(|(p, slot)| *slot = irrational(p) as f32);
    let output = Tensor {
        name: Arc::from("probabilities"),
        dtype: DType::Fp32,
        shape: vec![1, 10],
        data: Data::Owned(data),
    };
    let response = InferResponse {
        outputs: [output].into_iter().collect(),
        parameters: vec![],
        served_by: None,
    };
    let carriage = Carriage::Json;
    let context = EncodeContext {
        model: "digits",
        version: "1",
        client_id: Some("7"),
        carriage: &carriage,
        labels: &[],
    };
    let mut out = Vec::new();
    time("encode 10 FP32", 10, || {
        out.clear();
        let _ = black_box(v2::encode(&response, &context, &mut out));
    });
    Ok(())
}
