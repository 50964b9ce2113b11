//! What each dialect does with a body, an answer and a failure: one line each.

use std::fmt::Display;

use bytes::Bytes;
use dukou_types::{Buffer, Failure, InferResponse, Signature};
use http::HeaderMap;

use crate::{
    Change, DecodeLimits, Decoded, Dialect, EncodeContext, Encoded, Head, Listed, Outcome, Target,
    grpc, keras, tensorflow, tensorflow_grpc, torchserve, torchserve_grpc, v2, v2_grpc,
};

/// An inference as it came: its body, and what of its head a body's meaning depends on.
#[derive(Clone, Copy, Debug)]
pub struct Sent<'s> {
    /// The path.
    pub path: &'s str,
    /// The headers.
    pub headers: &'s HeaderMap,
    /// The body's frames; of a call, those of the message in its envelope.
    pub rope: &'s [Bytes],
}

impl Dialect {
    /// The dialect that a head is spoken in: whose path it is, whatever is wrong with the rest; V2 where
    /// it is nobody's.
    pub fn of(head: &Head<'_>) -> Self {
        Self::of_first(head, None)
    }

    /// The same where one dialect is asked before all others, and has the paths that are nobody's.
    pub fn of_first(head: &Head<'_>, first: Option<Self>) -> Self {
        let spoken = Self::in_order(head, first).find(|dialect| dialect.offer(head).is_some());
        spoken.or(first).unwrap_or(Self::V2)
    }

    /// What a call is about whose head said [`Target::Message`], by the message behind it.
    ///
    /// # Errors
    /// `wire.invalid-message`; `request.unknown-model` and `request.unknown-version` for what no model or
    /// version can be called.
    pub fn address_message(self, path: &str, message: &[Bytes]) -> Result<Target, Failure> {
        match self {
            Self::V2Grpc => v2_grpc::address_message(path, message),
            Self::TensorFlowGrpc => tensorflow_grpc::address_message(path, message),
            Self::TorchServeGrpc => torchserve_grpc::address_message(path, message),
            Self::V2 | Self::TensorFlow | Self::Keras | Self::TorchServe => {
                Err(grpc::no_method(path))
            }
        }
    }

    /// Decodes an inference; see [`v2::decode`] for the other arguments.
    ///
    /// # Errors
    /// Whatever is wrong with the body, by its code and with both sides of a mismatch.
    pub fn decode(
        self,
        sent: Sent<'_>,
        signature: &Signature,
        limits: &DecodeLimits,
        lease: &mut dyn FnMut(usize, usize) -> Buffer,
    ) -> Result<Decoded, Failure> {
        let Sent { path, headers, rope } = sent;
        match self {
            Self::V2 => v2::decode(rope, headers, signature, limits, lease),
            Self::TensorFlow => tensorflow::decode(rope, path, signature, limits, lease),
            Self::Keras => keras::decode(rope, (path, headers), signature, limits, lease),
            Self::V2Grpc => v2_grpc::decode(rope, signature, lease),
            Self::TensorFlowGrpc => tensorflow_grpc::decode(rope, path, signature, limits, lease),
            Self::TorchServe => torchserve::decode(rope, headers, signature, limits, lease),
            Self::TorchServeGrpc => torchserve_grpc::decode(rope, signature, limits, lease),
        }
    }

    /// Appends an answer's body to `out`.
    ///
    /// # Errors
    /// What the answer cannot say in this dialect; `out` is then as it was.
    pub fn encode(
        self,
        response: &InferResponse,
        context: &EncodeContext<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Encoded, Failure> {
        match self {
            Self::V2 => v2::encode(response, context, out),
            Self::TensorFlow => tensorflow::encode(response, context, out),
            Self::Keras => keras::encode(response, context, out),
            Self::V2Grpc => Ok(v2_grpc::encode(response, context, out)),
            Self::TensorFlowGrpc => Ok(tensorflow_grpc::encode(response, context, out)),
            Self::TorchServe => torchserve::encode(response, context, out),
            Self::TorchServeGrpc => torchserve_grpc::encode(response, context, out),
        }
    }

    /// A failure's body, or the words of a call's status; `target` where it was understood what was asked.
    pub fn encode_error(
        self,
        failure: &Failure,
        target: Option<&Target>,
        request_id: impl Display,
    ) -> Vec<u8> {
        match self {
            Self::V2 | Self::Keras => v2::encode_error(failure, request_id),
            Self::TensorFlow => tensorflow::encode_error(failure, target, request_id),
            Self::V2Grpc => grpc::encode_words(&failure.message).into_bytes(),
            Self::TensorFlowGrpc => tensorflow_grpc::encode_words(failure, target).into_bytes(),
            Self::TorchServe => torchserve::encode_error(failure, target, request_id),
            Self::TorchServeGrpc => torchserve_grpc::encode_words(failure, target).into_bytes(),
        }
    }

    /// What a client asks to be changed, by the head of `target` and this body; of a call, by its message.
    ///
    /// # Errors
    /// `wire.*`: what is wrong with the body or the query.
    pub fn decode_change(
        self,
        head: &Head<'_>,
        target: &Target,
        rope: &[Bytes],
    ) -> Result<Change, Failure> {
        match self {
            Self::V2 | Self::Keras | Self::TensorFlow => v2::decode_change(target, rope),
            Self::TorchServe => torchserve::decode_change(head, target, rope),
            Self::V2Grpc => match target {
                Target::Change { operation, model: Some(model), .. } => {
                    v2_grpc::decode_change(*operation, model, rope)
                }
                _ => Err(grpc::no_method(head.path)),
            },
            Self::TensorFlowGrpc => tensorflow_grpc::decode_change(rope),
            Self::TorchServeGrpc => torchserve_grpc::decode_change(target, rope),
        }
    }

    /// Whether only models that answer are to be listed.
    ///
    /// # Errors
    /// `wire.*`: what is wrong with the body.
    pub fn decode_index(self, rope: &[Bytes]) -> Result<bool, Failure> {
        match self {
            Self::V2Grpc => v2_grpc::decode_index(rope),
            Self::TensorFlowGrpc => Err(grpc::no_method("RepositoryIndex")),
            _ => v2::decode_index(rope),
        }
    }

    /// The models with their states.
    pub fn encode_index(self, models: &[Listed<'_>]) -> Vec<u8> {
        match self {
            Self::V2Grpc => v2_grpc::encode_index(models),
            _ => v2::encode_index(models.iter().copied()),
        }
    }

    /// What came of a change: the status and the body.
    pub fn encode_outcome(self, outcome: &Outcome) -> (u16, Vec<u8>) {
        match self {
            Self::TorchServe => torchserve::encode_outcome(outcome),
            Self::V2Grpc => (200, v2_grpc::encode_changed()),
            Self::TensorFlowGrpc => (200, tensorflow_grpc::encode_reloaded()),
            Self::TorchServeGrpc => (200, torchserve_grpc::encode_outcome(outcome)),
            _ => (200, v2::encode_outcome(outcome)),
        }
    }

    /// The HTTP status of a failure, or the number of a call's status; `target` where it was understood
    /// what was asked.
    pub fn status(self, failure: &Failure, target: Option<&Target>) -> u16 {
        match self {
            Self::V2 | Self::Keras => failure.http_status(),
            Self::TensorFlow => tensorflow::status(failure),
            Self::V2Grpc => grpc::status_of(failure),
            Self::TensorFlowGrpc => tensorflow_grpc::status(failure),
            Self::TorchServe => torchserve::status(failure, target),
            Self::TorchServeGrpc => torchserve_grpc::status(failure, target),
        }
    }
}
