//! Bytes to requests and answers to bytes: every dialect, both ways, without I/O and without waiting.
//!
//! A dialect first only *addresses* ([`address`]: which model, which operation; no body is looked at,
//! so that no stranger makes us parse a large one) and then *decodes* against the signature of the
//! version that will answer. It knows the types of `dukou-types` and nothing of sockets, models or
//! backends.
//!
//! A new dialect is a folder beside [`v2`] and one line in [`Dialect::REST`] and its matches. Those over
//! [`grpc`] stand in [`Dialect::CALLS`]: a head that is a call's is offered to them alone.

mod addressed;
mod change;
mod exchange;
pub mod grpc;
mod json;
pub mod keras;
mod rope;
mod sentence;
mod spoken;
pub mod tensorflow;
pub mod tensorflow_grpc;
pub mod torchserve;
pub mod v2;
pub mod v2_grpc;

pub use addressed::{Addressed, Head, Selector, Target};
pub use change::{Change, Listed, Operation, Outcome, Registration, Wanted, Wanting};
pub use exchange::{Carriage, DecodeLimits, Decoded, EncodeContext, Encoded, Telling, Truth};
pub use spoken::Sent;

use dukou_types::{ErrorCode, Failure};

/// The protocols that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// The Open Inference Protocol, version 2, over REST.
    V2,
    /// TensorFlow Serving's REST, and KServe's V1.
    TensorFlow,
    /// A small Keras server's.
    Keras,
    /// The Open Inference Protocol, version 2, over gRPC.
    V2Grpc,
    /// TensorFlow Serving's services over gRPC.
    TensorFlowGrpc,
    /// TorchServe's REST: inference and management.
    TorchServe,
}

impl Dialect {
    /// Every dialect of REST, in the order in which a head is offered to them.
    pub const REST: &'static [Self] = &[Self::V2, Self::TensorFlow, Self::Keras, Self::TorchServe];

    /// Every dialect of gRPC, in the same order; the last refuses what none of them knows.
    pub const CALLS: &'static [Self] = &[Self::TensorFlowGrpc, Self::V2Grpc];

    /// Those to which a head is offered.
    fn may_know(head: &Head<'_>) -> &'static [Self] {
        if grpc::is_call(head) { Self::CALLS } else { Self::REST }
    }

    /// Whether it is spoken in messages of gRPC.
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::V2Grpc | Self::TensorFlowGrpc)
    }

    /// As metrics and logs name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2-rest",
            Self::TensorFlow => "tensorflow-rest",
            Self::Keras => "keras-rest",
            Self::V2Grpc => "v2-grpc",
            Self::TensorFlowGrpc => "tensorflow-grpc",
            Self::TorchServe => "torchserve-rest",
        }
    }

    /// What this dialect makes of a head; `None` where the path is not one of its own.
    fn offer(self, head: &Head<'_>) -> Option<Result<Target, Failure>> {
        match self {
            Self::V2 => v2::recognize(head),
            Self::TensorFlow => tensorflow::recognize(head),
            Self::Keras => keras::recognize(head),
            Self::V2Grpc => v2_grpc::recognize(head),
            Self::TensorFlowGrpc => tensorflow_grpc::recognize(head),
            Self::TorchServe => torchserve::recognize(head),
        }
    }
}

/// Says what a request is about, from its head alone.
///
/// # Errors
/// `wire.unknown-path`, `wire.wrong-method`, `wire.unsupported`, `wire.invalid-request` (broken
/// percent-encoding), `request.unknown-model` and `request.unknown-version` for what no model or
/// version can be called.
pub fn address(head: &Head<'_>) -> Result<Addressed, Failure> {
    for &dialect in Dialect::may_know(head) {
        if let Some(target) = dialect.offer(head) {
            return target.map(|target| Addressed { dialect, target });
        }
    }
    let message = format!("nothing is served at {}", sentence::quoted(head.path));
    Err(Failure::new(ErrorCode::WireUnknownPath, message))
}
