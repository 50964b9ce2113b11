//! What holds for every body: nothing panics, frames do not matter, nesting does not matter, and what a
//! client writes a server reads.

mod support;

use bytes::Bytes;
use dukou_types::{
    Buffer, DType, Data, Dim, InferResponse, Requested, Signature, Tensor, TensorSpec,
};
use dukou_wire::{Carriage, EncodeContext, v2};
use http::HeaderMap;
use proptest::prelude::*;
use support::{
    LIMITS, all_contents, binary_headers, contents, decode, decode_rope, laws, signature,
};

/// Elements of a dtype that JSON can carry, `count` of them.
fn elements(dtype: DType, count: usize) -> BoxedStrategy<Data> {
    fn owned<T: bytemuck::Pod + std::fmt::Debug>(
        element: impl Strategy<Value = T> + 'static,
        count: usize,
    ) -> BoxedStrategy<Data> {
        let elements = prop::collection::vec(element, count);
        elements
            .prop_map(|elements| {
                let mut buffer = Buffer::zeroed(size_of_val(&*elements));
                buffer.typed_mut::<T>().copy_from_slice(&elements);
                Data::Owned(buffer)
            })
            .boxed()
    }
    let finite32 =
        any::<u32>().prop_map(f32::from_bits).prop_filter("finite", |value| value.is_finite());
    let finite64 =
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite());
    match dtype {
        DType::Bool => owned(0_u8..2, count),
        DType::Uint8 => owned(any::<u8>(), count),
        DType::Uint16 | DType::Fp16 | DType::Bf16 => owned(any::<u16>(), count),
        DType::Uint32 => owned(any::<u32>(), count),
        DType::Uint64 => owned(any::<u64>(), count),
        DType::Int8 => owned(any::<i8>(), count),
        DType::Int16 => owned(any::<i16>(), count),
        DType::Int32 => owned(any::<i32>(), count),
        DType::Int64 => owned(any::<i64>(), count),
        DType::Fp32 => owned(finite32, count),
        DType::Fp64 => owned(finite64, count),
        DType::Bytes => prop::collection::vec(any::<String>().prop_map(Bytes::from), count)
            .prop_map(Data::Strings)
            .boxed(),
    }
}

/// A tensor of any dtype and up to three dimensions, zero-sized ones among them.
fn tensor() -> impl Strategy<Value = Tensor> {
    (
        prop::sample::select(&DType::ALL[..]),
        prop::collection::vec(0_usize..4, 0..4),
        any::<String>(),
    )
        .prop_flat_map(|(dtype, shape, name)| {
            let count = shape.iter().product();
            elements(dtype, count).prop_map(move |data| Tensor {
                name: name.as_str().into(),
                dtype,
                shape: shape.clone(),
                data,
            })
        })
}

/// The signature that takes and gives exactly this.
fn signature_of(tensor: &Tensor) -> Signature {
    let shape = tensor.shape.iter().map(|_| Dim::Any(())).collect();
    let spec = TensorSpec { name: tensor.name.clone(), dtype: tensor.dtype, shape };
    Signature { inputs: vec![spec.clone()], outputs: vec![spec], batchable: false }
}

fn travels_as_json(dtype: DType) -> bool {
    !matches!(dtype, DType::Fp16 | DType::Bf16)
}

/// Cuts a body into frames at these places.
fn frames(body: &[u8], cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut places: Vec<usize> =
        cuts.iter().map(|cut| cut.index(body.len() + 1)).chain([0, body.len()]).collect();
    places.sort_unstable();
    places.windows(2).map(|pair| Bytes::copy_from_slice(&body[pair[0]..pair[1]])).collect()
}

/// Numbers as text, nested as `shape` says.
fn nested(elements: &[String], shape: &[usize]) -> String {
    match shape {
        [] => elements[0].clone(),
        [extent, rest @ ..] => {
            let step: usize = rest.iter().product();
            let parts: Vec<String> = (0..*extent)
                .map(|at| nested(&elements[at * step..(at + 1) * step], rest))
                .collect();
            format!("[{}]", parts.join(" , "))
        }
    }
}

proptest! {
    #![proptest_config(laws(2000))]

    #[test]
    fn a_client_is_understood_by_a_server(tensor in tensor(), id in any::<Option<String>>(), cuts in any::<Vec<prop::sample::Index>>(), raw: bool) {
        let binary = raw || !travels_as_json(tensor.dtype);
        let options = v2::RequestOptions { client_id: id.as_deref(), binary, ..Default::default() };
        let mut body = Vec::new();
        let encoded = v2::encode_request(std::slice::from_ref(&tensor), &options, &mut body).unwrap();
        prop_assert_eq!(encoded.header_length.is_some(), binary);
        let rope = frames(&body, &cuts);
        let decoded = decode_rope(&rope, &binary_headers(encoded.header_length), &signature_of(&tensor)).unwrap();
        // An empty one is none.
        prop_assert_eq!(decoded.client_id.as_deref(), id.as_deref().filter(|id| !id.is_empty()));
        prop_assert_eq!(all_contents(&decoded.inputs), [contents(&tensor)]);
        prop_assert_eq!(decoded.outputs, Requested::All);
        prop_assert_eq!(decoded.carriage, if binary { Carriage::Binary } else { Carriage::Json });
    }

    #[test]
    fn a_server_is_understood_by_a_client(tensor in tensor(), id in any::<Option<String>>(), cuts in any::<Vec<prop::sample::Index>>(), raw: bool, known: bool) {
        let carriage = if raw || !travels_as_json(tensor.dtype) { Carriage::Binary } else { Carriage::Json };
        let response = InferResponse { outputs: [tensor.clone()].into_iter().collect(), parameters: vec![], served_by: None };
        let context = EncodeContext { model: "m", version: "7", client_id: id.as_deref(), carriage: &carriage, labels: &[] };
        let mut body = Vec::new();
        let encoded = v2::encode(&response, &context, &mut body).unwrap();
        let json = encoded.header_length.unwrap_or(body.len());
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&body[..json]).is_ok());
        let signature = signature_of(&tensor);
        let answer = v2::decode_response(&frames(&body, &cuts), &binary_headers(encoded.header_length), known.then_some(&signature), &LIMITS).unwrap();
        prop_assert_eq!(answer.client_id, id);
        prop_assert_eq!((&*answer.model, &*answer.version), ("m", "7"));
        prop_assert_eq!(all_contents(&answer.outputs), [contents(&tensor)]);
    }

    #[test]
    fn nested_and_flat_are_the_same(shape in prop::collection::vec(0_usize..4, 1..4), seed in any::<Vec<f32>>()) {
        let signature = signature(&[("x", DType::Fp32, &"? ".repeat(shape.len()))]);
        let count: usize = shape.iter().product();
        let elements: Vec<String> = (0..count)
            .map(|at| seed.get(at % seed.len().max(1)).filter(|value| value.is_finite()).map_or("0".to_owned(), |value| format!("{value:e}")))
            .collect();
        let body = |data: &str| format!(r#"{{"inputs":[{{"name":"x","shape":{shape:?},"datatype":"FP32","data":{data}}}]}}"#);
        let flat = decode(body(&format!("[{}]", elements.join(","))).as_bytes(), &signature).unwrap();
        let deep = decode(body(&nested(&elements, &shape)).as_bytes(), &signature).unwrap();
        prop_assert_eq!(all_contents(&flat.inputs), all_contents(&deep.inputs));
    }

    #[test]
    fn keys_come_in_any_order(order in Just(vec![r#""name":"x""#, r#""datatype":"INT16""#, r#""shape":[2,2]"#, r#""data":[[1,-2],[3,4]]"#, r#""more":{"a":[null]}"#]).prop_shuffle()) {
        let signature = signature(&[("x", DType::Int16, "batch 2")]);
        let decoded = decode(format!(r#"{{"inputs":[{{{}}}]}}"#, order.join(",")).as_bytes(), &signature).unwrap();
        prop_assert_eq!(decoded.inputs[0].typed::<i16>().unwrap(), &[1, -2, 3, 4]);
    }

    #[test]
    fn numbers_are_read_to_the_last_bit(text in r"-?(0|[1-9][0-9]{0,24})(\.[0-9]{1,24})?([eE][-+]?[0-9]{1,2})?") {
        let (single, double) = (text.parse::<f32>().unwrap(), text.parse::<f64>().unwrap());
        for (dtype, expected) in [(DType::Fp32, single.is_finite().then(|| single.to_bits().to_le_bytes().to_vec())), (DType::Fp64, Some(double.to_bits().to_le_bytes().to_vec()))] {
            let body = format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"{dtype}","data":[{text}]}}]}}"#);
            let came = decode(body.as_bytes(), &signature(&[("x", dtype, "?")])).ok();
            prop_assert_eq!(came.map(|decoded| decoded.inputs[0].bytes().unwrap().to_vec()), expected, "{} as {}", text, dtype);
        }
    }

    #[test]
    fn a_float_that_python_prints_is_itself(bits: u32) {
        // A float32 as Python's json writes it: widened, in the shortest form of a float64.
        let value = f32::from_bits(bits);
        prop_assume!(value.is_finite());
        for text in [format!("{}", f64::from(value)), format!("{:e}", f64::from(value)), format!("{value:?}")] {
            let body = format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP32","data":[{text}]}}]}}"#);
            let decoded = decode(body.as_bytes(), &signature(&[("x", DType::Fp32, "?")])).unwrap();
            prop_assert_eq!(decoded.inputs[0].typed::<f32>().unwrap()[0].to_bits(), bits, "{}", text);
        }
    }

    #[test]
    fn halfway_between_two_floats_the_even_one_is_nearer(bits in 0_u32..0x7F7F_FFFF, tail in "[0-9]{0,3}", power in -3_i32..4) {
        // Exactly the middle, then a digit more or less: where a quick way would go wrong.
        let middle = f64::midpoint(f64::from(f32::from_bits(bits)), f64::from(f32::from_bits(bits + 1)));
        let near = f64::from_bits(middle.to_bits().wrapping_add_signed(i64::from(power)));
        for text in [format!("{middle:.40e}"), format!("{middle:e}"), format!("{near:e}"), format!("{near}{}{tail}", if near.fract() == 0.0 { ".0" } else { "" })] {
            let body = format!(r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"FP32","data":[{text}]}}]}}"#);
            let decoded = decode(body.as_bytes(), &signature(&[("x", DType::Fp32, "?")])).unwrap();
            prop_assert_eq!(decoded.inputs[0].typed::<f32>().unwrap()[0].to_bits(), text.parse::<f32>().unwrap().to_bits(), "{}", text);
        }
    }
}

/// Pieces that bodies are made of, so that chance builds nearly right ones.
const PIECES: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"inputs\"",
    "\"outputs\"",
    "\"name\"",
    "\"datatype\"",
    "\"shape\"",
    "\"data\"",
    "\"parameters\"",
    "\"id\"",
    "\"x\"",
    "\"y\"",
    "\"FP32\"",
    "\"BYTES\"",
    "1",
    "-0.5e-3",
    "123456789012345678901",
    "1e400",
    "NaN",
    "-Infinity",
    "null",
    "true",
    "false",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "\"\\",
    "\"",
    " ",
    "\n",
    "{\"inputs\":[",
    "{\"name\":\"x\",",
    "\"datatype\":\"FP32\",",
    "\"shape\":[1,2],",
    "\"data\":[1,2]",
    "\"data\":[[1],[2]],",
    "}]}",
    "\"binary_data_size\":8",
    "\u{7f}",
    "渡",
    "0",
];

proptest! {
    #![proptest_config(laws(4000))]

    #[test]
    fn no_bytes_panic(body in prop::collection::vec(any::<u8>(), 0..200), length in any::<Option<u8>>()) {
        let headers = binary_headers(length.map(usize::from));
        let _ = decode_rope(&[Bytes::from(body.clone())], &headers, &signature(&[("x", DType::Fp32, "batch 2")]));
        let _ = v2::parse_tensors(&body, true);
        let _ = v2::decode_response(&[Bytes::from(body.clone())], &headers, None, &LIMITS);
        let _ = v2::decode_error(&body);
    }

    #[test]
    fn no_nearly_right_body_panics_and_frames_do_not_matter(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24), cuts in any::<Vec<prop::sample::Index>>(), length in any::<Option<u8>>()) {
        let body = pieces.concat();
        let headers = binary_headers(length.map(usize::from));
        for inputs in [&[("x", DType::Fp32, "batch 2")][..], &[("x", DType::Bytes, "?")], &[("x", DType::Int8, "")]] {
            let signature = signature(inputs);
            let whole = decode_rope(&[Bytes::from(body.clone())], &headers, &signature);
            let cut = decode_rope(&frames(body.as_bytes(), &cuts), &headers, &signature);
            match (whole, cut) {
                (Ok(whole), Ok(cut)) => prop_assert_eq!(all_contents(&whole.inputs), all_contents(&cut.inputs)),
                (Err(whole), Err(cut)) => prop_assert_eq!(whole, cut),
                (whole, cut) => prop_assert!(false, "{:?} and {:?}", whole, cut),
            }
        }
        let _ = v2::parse_tensors(body.as_bytes(), true);
    }

    #[test]
    fn one_changed_byte_never_panics(at in any::<prop::sample::Index>(), byte: u8) {
        let mut body = br#"{"id":"7","parameters":{"priority":1},"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[[0.25,-1e-3]]}],"outputs":[{"name":"y"}]}"#.to_vec();
        let at = at.index(body.len());
        body[at] = byte;
        let decoded = decode(&body, &signature(&[("x", DType::Fp32, "batch 2")]));
        // What is taken is JSON to others too.
        if decoded.is_ok() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&body).is_ok(), "{}", String::from_utf8_lossy(&body));
        }
    }
}

#[test]
fn a_single_frame_is_not_copied() {
    let signature = signature(&[("x", DType::Bytes, "?")]);
    let body = Bytes::from_static(
        br#"{"inputs":[{"name":"x","shape":[2],"datatype":"BYTES","data":["plain","esc\n"]}]}"#,
    );
    let decoded = decode_rope(std::slice::from_ref(&body), &HeaderMap::new(), &signature).unwrap();
    let strings = decoded.inputs[0].strings().unwrap();
    assert_eq!((&*strings[0], &*strings[1]), (&b"plain"[..], &b"esc\n"[..]));
    assert!(body.as_ptr_range().contains(&strings[0].as_ptr()));
}
