//! The Open Inference Protocol, as a server and as a client hears it.

use dukou_wire::{Dialect, v2, v2_grpc};
use http::HeaderMap;

use crate::{
    answers::{LIMITS, SIGNATURES, infer, is_whole, refusal, same},
    pieces::{cut, first_line, header, whole},
};

const PATH: &str = "/v2/models/m/infer";

/// A body that is JSON.
pub fn json(input: &[u8]) {
    infer(Dialect::V2, PATH, &HeaderMap::new(), input);
}

/// A line that says how many bytes are JSON, and a body with raw tensors.
pub fn binary(input: &[u8]) {
    let (length, body) = first_line(input);
    infer(Dialect::V2, PATH, &header(v2::HEADER_LENGTH, length), body);
}

/// The same of an answer, as a client reads it.
pub fn answer(input: &[u8]) {
    let (length, body) = first_line(input);
    let headers = header(v2::HEADER_LENGTH, length);
    for signature in [None, Some(&SIGNATURES[0])] {
        let read = |rope: &[bytes::Bytes]| v2::decode_response(rope, &headers, signature, &LIMITS);
        match (read(&whole(body)), read(&cut(body))) {
            (Ok(answer), Ok(in_frames)) => {
                assert!(same(&answer.outputs, &in_frames.outputs), "frames matter");
                answer.outputs.iter().for_each(is_whole);
            }
            (Err(failure), Err(in_frames)) => {
                assert_eq!(failure, in_frames, "frames matter");
                refusal(Dialect::V2, &failure);
            }
            (one, other) => panic!("frames matter: {one:?} and {other:?}"),
        }
    }
}

/// A list of tensors, as golden samples hold them.
pub fn tensors(input: &[u8]) {
    for lenient in [false, true] {
        match v2::parse_tensors(input, lenient) {
            Ok(tensors) => tensors.iter().for_each(is_whole),
            Err(failure) => refusal(Dialect::V2, &failure),
        }
    }
}

/// A refusal's body, as a client reads it.
pub fn error(input: &[u8]) {
    let _none_of_ours = v2::decode_error(input);
}

/// The message of an inference.
pub fn infer_call(input: &[u8]) {
    let path = "/inference.GRPCInferenceService/ModelInfer";
    infer(Dialect::V2Grpc, path, &HeaderMap::new(), input);
    assert_eq!(v2_grpc::client_id(&whole(input)), v2_grpc::client_id(&cut(input)));
}

/// The message of its answer, as a client reads it.
pub fn answered_call(input: &[u8]) {
    match (v2_grpc::decode_response(&whole(input)), v2_grpc::decode_response(&cut(input))) {
        (Ok(answer), Ok(in_frames)) => {
            assert!(same(&answer.outputs, &in_frames.outputs), "frames matter");
            answer.outputs.iter().for_each(is_whole);
        }
        (Err(failure), Err(in_frames)) => {
            assert_eq!(failure, in_frames, "frames matter");
            refusal(Dialect::V2Grpc, &failure);
        }
        (one, other) => panic!("frames matter: {one:?} and {other:?}"),
    }
}
