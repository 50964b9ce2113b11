//! What a model answers: every dtype, batches, requested outputs, and inputs that it refuses.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests, and what they share")]

mod support;

use dukou_exec::Execute;
use dukou_ort::Residency;
use dukou_types::{DType, Data, Dim, ErrorCode, Tensor};
use support::*;

#[test]
fn every_dtype_comes_back_as_it_went() {
    let runtime = runtime();
    for dtype in DType::ALL {
        let name = format!("identity_{}.onnx", dtype.name().to_lowercase());
        let model = runtime.open(spec(model_path(&name))).unwrap();
        let signature = model.signature();
        assert_eq!((signature.inputs[0].dtype, signature.outputs[0].dtype), (dtype, dtype));
        assert_eq!(signature.inputs[0].shape, [Dim::Symbol("N".into()), Dim::Fixed(3)]);
        assert!(!signature.batchable, "nobody proved it yet");

        let sent = match dtype.size() {
            None => Data::Strings(
                [&b"plain"[..], b"", b"with\0nul", "渡口".as_bytes(), &[0xff, 0xfe, 0x00], b"end"]
                    .iter()
                    .map(|s| bytes::Bytes::copy_from_slice(s))
                    .collect(),
            ),
            Some(_) if dtype == DType::Bool => data(&[0_u8, 1, 1, 0, 0, 1]),
            Some(size) => data(&(0..6 * size).map(|i| (i * 37 + 5) as u8).collect::<Vec<_>>()),
        };
        let sent = tensor("x", dtype, &[2, 3], sent);
        let answer = run(&model, request([sent.clone()])).unwrap();
        let came = &answer.outputs[0];
        assert_eq!((&*came.name, came.dtype, &came.shape[..]), ("y", dtype, &[2_usize, 3][..]));
        assert_eq!(came.bytes(), sent.bytes(), "{dtype}");
        assert_eq!(came.strings(), sent.strings(), "{dtype}");
    }
}

#[test]
fn an_answer_outlives_its_request_and_its_model() {
    let model = open("identity_fp32");
    let answer = run(&model, request([floats("x", &[1, 3], &[1.0, 2.0, 3.0])])).unwrap();
    // The request's buffer goes round: another run writes into the same memory.
    let other = run(&model, request([floats("x", &[1, 3], &[7.0, 8.0, 9.0])])).unwrap();
    drop(model);
    assert_eq!(f32s(&answer.outputs[0]), [1.0, 2.0, 3.0]);
    assert_eq!(f32s(&other.outputs[0]), [7.0, 8.0, 9.0]);
}

#[test]
fn a_batch_is_run_once_and_each_gets_its_own_rows() {
    let mut model = open("two_inputs");
    model.set_batchable(true);
    assert!(model.signature().batchable);
    let ask = |rows: usize, from: f32| {
        let a: Vec<f32> = (0..rows * 3).map(|i| from + i as f32).collect();
        let b: Vec<f32> = a.iter().map(|v| v * 10.0).collect();
        request([floats("a", &[rows, 3], &a), floats("b", &[rows, 3], &b)])
    };
    let requests =
        vec![ask(1, 0.0), only(ask(2, 100.0), &[1]), ask(0, 0.0), only(ask(3, 7.0), &[1, 0])];
    let answers = run_all(&model, requests).given;
    let slots: Vec<usize> = answers.iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, [0, 1, 2, 3]);
    let answers: Vec<_> = answers.into_iter().map(|(_, answer)| answer.unwrap().outputs).collect();
    let shapes: Vec<Vec<Vec<usize>>> =
        answers.iter().map(|outputs| outputs.iter().map(|t| t.shape.clone()).collect()).collect();
    assert_eq!(
        shapes,
        [vec![vec![1, 3]; 2], vec![vec![2, 3]], vec![vec![0, 3]; 2], vec![vec![3, 3]; 2]]
    );
    assert_eq!(f32s(&answers[0][0]), [0.0, 11.0, 22.0]);
    assert_eq!(&*answers[1][0].name, "difference");
    assert_eq!(f32s(&answers[1][0])[..2], [-900.0, -909.0]);
    assert_eq!((&*answers[3][0].name, &*answers[3][1].name), ("difference", "sum"));
    assert_eq!(f32s(&answers[3][1])[0], 77.0);
}

#[test]
fn strings_ride_together_too() {
    let mut model = open("identity_bytes");
    model.set_batchable(true);
    let ask = |texts: &[&'static str]| {
        let strings = texts.iter().map(|t| bytes::Bytes::from_static(t.as_bytes())).collect();
        request([tensor("x", DType::Bytes, &[texts.len() / 3, 3], Data::Strings(strings))])
    };
    let answers =
        run_all(&model, vec![ask(&["a", "b", "c"]), ask(&["d", "", "f", "g", "h", "i"])]).given;
    let second = answers[1].1.as_ref().unwrap().outputs[0].strings().unwrap();
    assert_eq!(second, ["d", "", "f", "g", "h", "i"]);
}

#[test]
fn requests_that_cannot_ride_together_run_alone() {
    let mut model = open("sequence");
    model.set_batchable(true);
    let ask = |rows: usize, length: usize, token: i64| {
        let tokens = vec![token; rows * length];
        request([tensor("tokens", DType::Int64, &[rows, length], data(&tokens))])
    };
    let answers = run_all(&model, vec![ask(1, 5, 1), ask(2, 9, 2)]).given;
    assert_eq!(f32s(&answers[0].1.as_ref().unwrap().outputs[0]), [4.0, 5.0, 6.0, 7.0]);
    assert_eq!(answers[1].1.as_ref().unwrap().outputs[0].shape, [2, 4]);

    // Not batchable: two requests are two runs, so rows of one do not move the other's mean.
    let model = open("rows_meet");
    let ask = |v: f32| request([floats("x", &[1, 3], &[v; 3])]);
    for (_, answer) in run_all(&model, vec![ask(1.0), ask(100.0)]).given {
        assert_eq!(f32s(&answer.unwrap().outputs[0]), [0.0; 3]);
    }

    // Claimed batchable, and its output has one row whatever came in: still each its own answer.
    let mut model = open("one_row_out");
    model.set_batchable(true);
    let answers = run_all(
        &model,
        vec![
            request([floats("x", &[2, 3], &[1.0; 6])]),
            request([floats("x", &[1, 3], &[5.0; 3])]),
        ],
    )
    .given;
    let sums: Vec<f32> =
        answers.iter().map(|(_, a)| f32s(&a.as_ref().unwrap().outputs[0])[0]).collect();
    assert_eq!(sums, [6.0, 15.0]);
}

#[test]
fn a_scalar_and_a_model_without_free_rows() {
    let mut model = open("scalar");
    model.set_batchable(true);
    assert!(!model.signature().batchable, "there are no rows to lay one after another");
    let answers = run_all(
        &model,
        vec![request([floats("x", &[], &[3.0])]), request([floats("x", &[], &[4.0])])],
    )
    .given;
    let values: Vec<f32> =
        answers.iter().map(|(_, a)| f32s(&a.as_ref().unwrap().outputs[0])[0]).collect();
    assert_eq!(values, [9.0, 16.0]);
}

#[test]
fn a_failing_run_names_the_operator_and_gives_the_requests_back() {
    let mut model = open("sequence");
    model.set_batchable(true);
    let ask = |token: i64| request([tensor("tokens", DType::Int64, &[1, 2], data(&[token; 2]))]);
    let answers = run_all(&model, vec![ask(1), ask(99), ask(2)]);
    assert_eq!(answers.handed_back, [0, 1, 2]);
    for (_, answer) in &answers.given {
        let failure = answer.as_ref().unwrap_err();
        assert_eq!(failure.code, ErrorCode::RequestRejectedByModel);
        assert!(failure.message.contains("`Gather`"), "{}", failure.message);
        assert!(!failure.message.contains("/onnxruntime"), "{}", failure.message);
    }
    assert_eq!(
        f32s(&run(&model, ask(2)).unwrap().outputs[0]),
        [8.0, 9.0, 10.0, 11.0],
        "it goes on"
    );
}

#[test]
fn what_does_not_fit_the_signature_is_refused_before_the_runtime() {
    let model = open("two_inputs");
    let good = || floats("a", &[1, 3], &[0.0; 3]);
    let cases: Vec<(Vec<Tensor>, ErrorCode)> = vec![
        (vec![good()], ErrorCode::RequestMissingInput),
        (
            vec![good(), tensor("b", DType::Fp64, &[1, 3], data(&[0.0_f64; 3]))],
            ErrorCode::RequestWrongDtype,
        ),
        (vec![good(), floats("b", &[1, 3], &[0.0; 2])], ErrorCode::WireElementCount),
        (vec![good(), floats("b", &[usize::MAX, 3], &[0.0; 2])], ErrorCode::WireShapeOverflow),
        (vec![good(), floats("b", &[usize::MAX], &[0.0; 2])], ErrorCode::WireElementCount),
        (
            vec![good(), tensor("b", DType::Fp32, &[1, 3], Data::Strings(vec![]))],
            ErrorCode::WireElementCount,
        ),
        (vec![good(), floats("b", &[1, 4], &[0.0; 4])], ErrorCode::RequestRejectedByModel),
        (vec![good(), floats("b", &[1, 1, 3], &[0.0; 3])], ErrorCode::RequestRejectedByModel),
    ];
    for (inputs, code) in cases {
        let failure = run(&model, request(inputs)).unwrap_err();
        assert_eq!(failure.code, code, "{}", failure.message);
    }
    let bad = only(request([good(), floats("b", &[1, 3], &[0.0; 3])]), &[2]);
    assert_eq!(run(&model, bad).unwrap_err().code, ErrorCode::RequestUnknownOutput);
}

#[test]
fn the_digits_model_answers_in_any_company_as_alone() {
    let mut model = open("digits_mlp");
    model.set_batchable(true);
    assert_eq!(model.residency(), Residency::Plain);
    let (_, outputs) = names(&model);
    assert_eq!(outputs.iter().map(|n| &**n).collect::<Vec<_>>(), ["label", "probabilities"]);
    let rows: Vec<Vec<f32>> = (0..40).map(|i| noise(i, 64)).collect();
    let input = model.signature().inputs[0].name.clone();
    let ask = |row: &[f32]| request([floats(&input, &[1, 64], row)]);
    let together = run_all(&model, rows.iter().map(|row| ask(row)).collect()).given;
    for (row, (_, answer)) in rows.iter().zip(together) {
        let (alone, answer) = (run(&model, ask(row)).unwrap(), answer.unwrap());
        assert_eq!(answer.outputs[0].bytes(), alone.outputs[0].bytes());
        for (a, b) in f32s(&answer.outputs[1]).iter().zip(f32s(&alone.outputs[1])) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}

#[test]
fn many_threads_run_one_model() {
    let mut model = open("digits_mlp");
    model.set_batchable(true);
    let input = model.signature().inputs[0].name.clone();
    let expected = run(&model, request([floats(&input, &[1, 64], &noise(3, 64))])).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let answer =
                        run(&model, request([floats(&input, &[1, 64], &noise(3, 64))])).unwrap();
                    assert_eq!(answer.outputs[1].bytes(), expected.outputs[1].bytes());
                }
            });
        }
    });
}

#[test]
fn leases_are_pooled_and_memory_does_not_grow_with_requests() {
    let model = open("identity_fp32");
    let lease = model.lease(0, 4096);
    let place = lease.bytes().as_ptr() as usize;
    model.give_back(lease);
    let again = model.lease(0, 4000);
    assert_eq!(again.bytes().as_ptr() as usize, place);
    // A run gives the request's own lease back.
    let mut inputs = tensor("x", DType::Fp32, &[1, 3], Data::Owned(again));
    inputs.shape = vec![1000 / 3, 3];
    if let Data::Owned(buffer) = &mut inputs.data {
        buffer.resize(inputs.shape.iter().product::<usize>() * 4);
    }
    run(&model, request([inputs])).unwrap();
    assert_eq!(model.lease(0, 4096).bytes().as_ptr() as usize, place);
}

#[test]
fn several_threads_and_instances_answer_alike() {
    let mut spec = spec(model_path("digits_mlp.onnx"));
    spec.threads = 2;
    spec.instances = 2;
    let model = runtime().open(spec).unwrap();
    assert_eq!(model.instances(), 2);
    let input = model.signature().inputs[0].name.clone();
    let ask = || request([floats(&input, &[1, 64], &noise(9, 64))]);
    for instance in 0..3 {
        let mut answers = Answers::default();
        model.run(instance, dukou_exec::Batch { requests: vec![ask()] }, &mut answers);
        assert!(answers.given[0].1.is_ok());
    }
}
