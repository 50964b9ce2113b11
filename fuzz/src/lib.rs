//! What every decoder must withstand: any bytes.
//!
//! [`TARGETS`] names each decoder once. A target takes bytes as they could come from a socket, and holds what
//! comes of them to what every decoder promises: it does not panic; frames do not matter; what it takes is
//! what the signature allows; what it refuses it refuses in a sentence. The runner (`tests/corpus`) adds that
//! memory stays within [`Target::times`] of the input, and that it ends.
//!
//! `corpus/<target>/` holds inputs, small and whole: good requests, everything that ever failed, and under
//! `seen-…` some of what libFuzzer found to reach other code (its targets call these functions). A new decoder is a
//! function in [`targets`] and a line here.

#![allow(clippy::panic, clippy::expect_used, reason = "what is not kept is told by a panic")]

mod answers;
pub mod mutate;
mod pieces;
pub mod targets;

use mutate::Shape;
use targets::{head, keras, management, peers, stored, tensorflow, torchserve, v2};

/// A decoder, or a few that read one kind of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its folder's.
    pub name: &'static str,
    /// Has it read these bytes; panics where it does not keep what it promises.
    pub run: fn(&[u8]),
    /// What its inputs are made of.
    pub shape: Shape,
    /// Bytes of memory that it may hold for one byte of its input.
    pub times: usize,
    /// Bytes that it may hold besides: what a small input may become where it is inflated, or where one
    /// element stands for many.
    pub besides: usize,
}

/// What the limit of a body's size is here.
pub const BODY_BYTES: usize = 1 << 20;

const fn target(name: &'static str, run: fn(&[u8]), shape: Shape) -> Target {
    // An element of two bytes of text or protobuf is a value of 32 bytes, in a list that doubles as it grows.
    Target { name, run, shape, times: 96, besides: 64 << 10 }
}

/// The same of a decoder whose input may become as large as a body may be.
const fn unfolds(target: Target) -> Target {
    Target { besides: 4 * BODY_BYTES, ..target }
}

/// Every decoder.
pub const TARGETS: &[Target] = &[
    target("v2-json", v2::json, Shape::Json),
    target("v2-binary", v2::binary, Shape::Json),
    target("v2-answer", v2::answer, Shape::Json),
    target("v2-tensors", v2::tensors, Shape::Json),
    target("v2-error", v2::error, Shape::Json),
    target("v2-management", management::v2, Shape::Json),
    target("v2-grpc-infer", v2::infer_call, Shape::Protobuf),
    target("v2-grpc-answer", v2::answered_call, Shape::Protobuf),
    target("v2-grpc-management", management::v2_grpc, Shape::Protobuf),
    target("tensorflow-predict", tensorflow::predict, Shape::Json),
    unfolds(target("tensorflow-examples", tensorflow::examples, Shape::Json)),
    unfolds(target("tensorflow-grpc-predict", tensorflow::predict_call, Shape::Protobuf)),
    unfolds(target("tensorflow-grpc-examples", tensorflow::examples_call, Shape::Protobuf)),
    target("tensorflow-grpc-management", management::tensorflow_grpc, Shape::Protobuf),
    target("torchserve-body", torchserve::body, Shape::Text),
    target("torchserve-management", management::torchserve, Shape::Text),
    target("torchserve-grpc-predict", torchserve::predict_call, Shape::Protobuf),
    target("torchserve-grpc-management", management::torchserve_grpc, Shape::Protobuf),
    target("keras-json", keras::json, Shape::Json),
    target("keras-npy", keras::npy, Shape::Text),
    // A picture is unpacked, has three colours made of one, and becomes numbers of four bytes.
    Target { besides: 24 * BODY_BYTES, ..target("keras-form", keras::form, Shape::Text) },
    target("peer-bodies", peers::bodies, Shape::Json),
    unfolds(target("peer-messages", peers::messages, Shape::Protobuf)),
    target("peer-replies", peers::replies, Shape::Text),
    unfolds(target("compressed-body", stored::body, Shape::Text)),
    unfolds(target("grpc-frames", stored::message, Shape::Text)),
    target("head", head::paths, Shape::Text),
    target("headers", head::values, Shape::Text),
];
