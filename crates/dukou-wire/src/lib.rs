//! Bytes to requests and answers to bytes: every dialect, both ways, without I/O and without waiting.
//!
//! A dialect first only *addresses* ([`address`]: which model, which operation; no body is looked at,
//! so that no stranger makes us parse a large one) and then *decodes* against the signature of the
//! version that will answer. It knows the types of `dukou-types` and nothing of sockets, models or
//! backends.
//!
//! A new dialect is a folder beside [`v2`] and one line in [`Dialect::REST`] and its matches. Those over
//! [`grpc`] stand in [`Dialect::CALLS`]: a head that is a call's is offered to them alone. Its other side,
//! as who asks such a server has it, is a line in [`Peer::ALL`] and its matches.

mod addressed;
mod change;
mod coding;
mod exchange;
pub mod grpc;
mod json;
pub mod keras;
mod multipart;
mod peer;
mod plain;
mod rope;
mod sentence;
mod spoken;
pub mod tensorflow;
pub mod tensorflow_grpc;
pub mod torchserve;
pub mod torchserve_grpc;
mod truths;
pub mod v2;
pub mod v2_grpc;

pub use addressed::{Addressed, Head, Selector, Target};
pub use change::{Change, Listed, Operation, Outcome, Registration, Wanted, Wanting};
pub use coding::{Coding, open_body, seal_body};
pub use exchange::{Carriage, DecodeLimits, Decoded, EncodeContext, Encoded, Telling, Truth};
pub use peer::{Named, Page, Peer, Question, Refusal, Reply, Written};
pub use rope::{Inserts, Message, woven};
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
    /// TorchServe's services over gRPC.
    TorchServeGrpc,
}

impl Dialect {
    /// Every dialect of REST, in the order in which a head is offered to them.
    pub const REST: &'static [Self] = &[Self::V2, Self::TensorFlow, Self::Keras, Self::TorchServe];

    /// Every dialect of gRPC, in the same order; the last refuses what none of them knows.
    pub const CALLS: &'static [Self] = &[Self::TensorFlowGrpc, Self::TorchServeGrpc, Self::V2Grpc];

    /// Those to which a head is offered.
    fn may_know(head: &Head<'_>) -> &'static [Self] {
        if grpc::is_call(head) { Self::CALLS } else { Self::REST }
    }

    /// The same in the order in which they are asked: `first` before the others, where it may know.
    fn in_order(head: &Head<'_>, first: Option<Self>) -> impl Iterator<Item = Self> {
        let known = Self::may_know(head);
        let first = first.filter(|dialect| known.contains(dialect));
        let others = known.iter().copied().filter(move |&dialect| Some(dialect) != first);
        first.into_iter().chain(others)
    }

    /// Whether it is spoken in messages of gRPC.
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::V2Grpc | Self::TensorFlowGrpc | Self::TorchServeGrpc)
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
            Self::TorchServeGrpc => "torchserve-grpc",
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
            Self::TorchServeGrpc => torchserve_grpc::recognize(head),
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
    address_first(head, None)
}

/// The same where one dialect is asked before all others: what a path means that means two things.
///
/// # Errors
/// As [`address`].
pub fn address_first(head: &Head<'_>, first: Option<Dialect>) -> Result<Addressed, Failure> {
    for dialect in Dialect::in_order(head, first) {
        if let Some(target) = dialect.offer(head) {
            return target.map(|target| Addressed { dialect, target });
        }
    }
    let message = format!("nothing is served at {}", sentence::quoted(head.path));
    Err(Failure::new(ErrorCode::WireUnknownPath, message))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;

    #[test]
    fn a_path_that_means_two_things_means_what_the_first_says() {
        let headers = HeaderMap::new();
        let ask = |path, first| {
            let head = Head { method: &Method::POST, path, query: None, headers: &headers };
            let found = address_first(&head, first);
            (Dialect::of_first(&head, first), found.map(|asked| asked.dialect).map_err(|f| f.code))
        };
        let keras = Some(Dialect::Keras);
        assert_eq!(ask("/m/predict", keras), (Dialect::Keras, Ok(Dialect::Keras)));
        // TorchServe's model called `predict`, or a Keras server's called `predictions`.
        let torchserve = Some(Dialect::TorchServe);
        assert_eq!(ask("/predictions/predict", None).0, Dialect::Keras);
        let other = (Dialect::TorchServe, Ok(Dialect::TorchServe));
        assert_eq!(ask("/predictions/predict", torchserve), other);
        // What only another one knows is that one's still.
        assert_eq!(ask("/v2/models/m/infer", keras), (Dialect::V2, Ok(Dialect::V2)));
        // Nobody's path is answered in the words of the first.
        let nowhere = Err(ErrorCode::WireUnknownPath);
        assert_eq!(ask("/nowhere", keras), (Dialect::Keras, nowhere));
        assert_eq!(ask("/nowhere", None), (Dialect::V2, nowhere));
    }
}
