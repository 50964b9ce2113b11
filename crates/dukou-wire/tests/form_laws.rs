//! Every dtype in every form that carries it besides the usual one: elements one by one in messages, arrays of
//! NumPy's, elements as they lie in memory, alone or as parts of a form.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

mod support;

use bytes::Bytes;
use dukou_types::{Buffer, DType, Data, Dim, Failure, Signature, Tensor, TensorSpec};
use dukou_wire::{Decoded, Dialect, Sent};
use half::f16;
use http::{HeaderMap, HeaderValue, header::CONTENT_TYPE};
use proptest::prelude::*;
use support::{LIMITS, all_contents, contents, laws};

/// Rows of two elements each: any bits, but for truth values.
fn tensor(left_out: &[DType]) -> impl Strategy<Value = Tensor> {
    let dtypes: Vec<DType> = DType::ALL.into_iter().filter(|d| !left_out.contains(d)).collect();
    (prop::sample::select(dtypes), 1_usize..6).prop_flat_map(|(dtype, rows)| {
        let size = dtype.size().unwrap_or(0);
        prop::collection::vec(any::<u8>(), rows * 2 * size).prop_map(move |mut bytes| {
            if dtype == DType::Bool {
                bytes.iter_mut().for_each(|byte| *byte &= 1);
            }
            let mut buffer = Buffer::zeroed(bytes.len());
            buffer.bytes_mut().copy_from_slice(&bytes);
            let data = Data::Owned(buffer);
            Tensor { name: "x".into(), dtype, shape: vec![rows, 2], data }
        })
    })
}

fn signature_of(tensor: &Tensor) -> Signature {
    let shape = vec![Dim::Symbol("n".into()), Dim::Fixed(2)];
    let spec = TensorSpec { name: tensor.name.clone(), dtype: tensor.dtype, shape };
    Signature { inputs: vec![spec], outputs: vec![], batchable: false }
}

fn decode(
    dialect: Dialect,
    (path, kind): (&str, &str),
    body: Vec<u8>,
    tensor: &Tensor,
) -> Result<Decoded, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
    // In two frames, so that nothing lies where it is wanted.
    let body = Bytes::from(body);
    let rope = [body.slice(..body.len() / 2), body.slice(body.len() / 2..)];
    let sent = Sent { path, headers: &headers, rope: &rope };
    dialect.decode(sent, &signature_of(tensor), &LIMITS, &mut |_, bytes| Buffer::zeroed(bytes))
}

/// The array in NumPy's form, whose dtypes these are.
fn npy(tensor: &Tensor) -> Vec<u8> {
    let descr = match tensor.dtype {
        DType::Fp64 => "<f8",
        DType::Fp32 => "<f4",
        DType::Fp16 => "<f2",
        DType::Int64 => "<i8",
        DType::Int32 => "<i4",
        DType::Int16 => "<i2",
        DType::Int8 => "|i1",
        DType::Uint64 => "<u8",
        DType::Uint32 => "<u4",
        DType::Uint16 => "<u2",
        DType::Uint8 => "|u1",
        _ => "|b1",
    };
    let (rows, columns) = (tensor.shape[0], tensor.shape[1]);
    let header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {columns}), }}\n");
    let length = u16::try_from(header.len()).unwrap().to_le_bytes();
    [b"\x93NUMPY\x01\0", &length[..], header.as_bytes(), tensor.bytes().unwrap()].concat()
}

/// What NumPy has no name for.
const NOT_NUMPY_S: &[DType] = &[DType::Bf16, DType::Bytes];
/// What has no field in V2's messages in which its elements stand one by one.
const UNTYPED: &[DType] = &[DType::Fp16, DType::Bf16, DType::Bytes];
/// Whose elements differ in length.
const VARYING: &[DType] = &[DType::Bytes];

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A field with a length.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// An element as protobuf writes it, and its wire type: a signed one fills all 64 bits.
fn element(dtype: DType, bytes: &[u8]) -> (u64, Vec<u8>) {
    let unsigned = bytes.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    let unused = 64 - 8 * bytes.len() as u32;
    match dtype {
        DType::Fp32 => (5, bytes.to_vec()),
        DType::Fp64 => (1, bytes.to_vec()),
        DType::Int8 | DType::Int16 | DType::Int32 | DType::Int64 => {
            (0, varint(((unsigned << unused) as i64 >> unused) as u64))
        }
        _ => (0, varint(unsigned)),
    }
}

/// All elements in a field: packed, or each by itself.
fn repeated(number: u64, tensor: &Tensor, packed: bool) -> Vec<u8> {
    let size = tensor.dtype.size().unwrap();
    let elements = tensor.bytes().unwrap().chunks_exact(size).map(|e| element(tensor.dtype, e));
    if packed {
        let all: Vec<u8> = elements.flat_map(|(_, written)| written).collect();
        return field(number, &all);
    }
    elements.flat_map(|(wire, written)| [varint(number << 3 | wire), written].concat()).collect()
}

proptest! {
    #![proptest_config(laws(600))]

    #[test]
    fn arrays_of_numpy_s(tensor in tensor(NOT_NUMPY_S)) {
        for (dialect, path) in [(Dialect::Keras, "/m/predict"), (Dialect::TorchServe, "/predictions/m")] {
            let kind = (path, "application/octet-stream");
            let decoded = decode(dialect, kind, npy(&tensor), &tensor).unwrap();
            prop_assert_eq!(all_contents(&decoded.inputs), [contents(&tensor)]);
        }
    }

    #[test]
    fn numbers_that_are_not_the_model_s_own_become_its_floats(numbers in prop::collection::vec(-1000_i16..1000, 2..8)) {
        let rows = numbers.len() / 2;
        let mut buffer = Buffer::zeroed(rows * 4);
        buffer.typed_mut().copy_from_slice(&numbers[..rows * 2]);
        let sent = Tensor { name: "x".into(), dtype: DType::Int16, shape: vec![rows, 2], data: Data::Owned(buffer) };
        for dtype in [DType::Fp16, DType::Fp32, DType::Fp64] {
            let wanted = Tensor { dtype, ..sent.clone() };
            let decoded = decode(Dialect::Keras, ("/m/predict", "application/octet-stream"), npy(&sent), &wanted).unwrap();
            for (at, &number) in numbers[..rows * 2].iter().enumerate() {
                let expected = if dtype == DType::Fp16 { f16::from_f64(number.into()).to_f64() } else { number.into() };
                prop_assert_eq!(decoded.inputs[0].number(at), Some(expected));
            }
        }
    }

    #[test]
    fn elements_as_they_lie_in_memory(tensor in tensor(VARYING)) {
        let raw = tensor.bytes().unwrap();
        prop_assume!(!raw.starts_with(b"\x93NUMPY"));
        let alone = ("/predictions/m", "application/octet-stream");
        let decoded = decode(Dialect::TorchServe, alone, raw.to_vec(), &tensor).unwrap();
        prop_assert_eq!(all_contents(&decoded.inputs), [contents(&tensor)]);
        // A part may look like text there, and then is.
        prop_assume!(std::str::from_utf8(raw).is_err());
        let head = b"--XX\r\nContent-Disposition: form-data; name=\"x\"\r\nContent-Type: image/x\r\n\r\n";
        let form = [head, raw, b"\r\n--XX--\r\n"].concat();
        prop_assume!(!raw.windows(6).any(|bytes| bytes == b"\r\n--XX"));
        let decoded = decode(Dialect::TorchServe, ("/predictions/m", "multipart/form-data; boundary=XX"), form, &tensor).unwrap();
        prop_assert_eq!(all_contents(&decoded.inputs), [contents(&tensor)]);
    }

    #[test]
    fn elements_one_by_one_in_a_message_of_v2(tensor in tensor(UNTYPED), packed: bool) {
        let number = match tensor.dtype {
            DType::Bool => 1,
            DType::Int8 | DType::Int16 | DType::Int32 => 2,
            DType::Int64 => 3,
            DType::Uint8 | DType::Uint16 | DType::Uint32 => 4,
            DType::Uint64 => 5,
            DType::Fp32 => 6,
            _ => 7,
        };
        let shape: Vec<u8> = tensor.shape.iter().flat_map(|&extent| varint(extent as u64)).collect();
        let input = [
            field(1, b"x"),
            field(2, tensor.dtype.name().as_bytes()),
            field(3, &shape),
            field(5, &repeated(number, &tensor, packed)),
        ].concat();
        let message = [field(1, b"m"), field(5, &input)].concat();
        let kind = ("/inference.GRPCInferenceService/ModelInfer", "application/grpc");
        let decoded = decode(Dialect::V2Grpc, kind, message, &tensor).unwrap();
        prop_assert_eq!(all_contents(&decoded.inputs), [contents(&tensor)]);
    }

    #[test]
    fn elements_one_by_one_in_a_message_of_tensorflow_s(tensor in tensor(VARYING), packed: bool) {
        let (number, field_number) = match tensor.dtype {
            DType::Fp32 => (1, 5),
            DType::Fp64 => (2, 6),
            DType::Int32 => (3, 7),
            DType::Uint8 => (4, 7),
            DType::Int16 => (5, 7),
            DType::Int8 => (6, 7),
            DType::Int64 => (9, 10),
            DType::Bool => (10, 11),
            DType::Bf16 => (14, 13),
            DType::Uint16 => (17, 7),
            DType::Fp16 => (19, 13),
            DType::Uint32 => (22, 16),
            _ => (23, 17),
        };
        let dims: Vec<u8> = tensor.shape.iter().flat_map(|&extent| field(2, &[vec![8], varint(extent as u64)].concat())).collect();
        let proto = [
            [vec![8], varint(number)].concat(),
            field(2, &dims),
            repeated(field_number, &tensor, packed),
        ].concat();
        let entry = [field(1, b"x"), field(2, &proto)].concat();
        let message = [field(1, &field(1, b"m")), field(2, &entry)].concat();
        let kind = ("/tensorflow.serving.PredictionService/Predict", "application/grpc");
        let decoded = decode(Dialect::TensorFlowGrpc, kind, message, &tensor).unwrap();
        prop_assert_eq!(all_contents(&decoded.inputs), [contents(&tensor)]);
    }
}
