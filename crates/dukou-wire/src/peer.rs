//! What each dialect does on the asker's side: one line each. A server that speaks one is a peer.

use std::sync::Arc;

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, Param, Signature, Tensor};
use http::{HeaderMap, Method};

use crate::{
    DecodeLimits, Message, grpc, keras, tensorflow, tensorflow_grpc, torchserve, torchserve_grpc,
    v2, v2_grpc,
};

/// What kind of a server is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Peer {
    /// One of the Open Inference Protocol, version 2, over REST: dukou, Triton, KServe, MLServer.
    #[default]
    V2,
    /// The same over gRPC.
    V2Grpc,
    /// TensorFlow Serving, over REST.
    TensorFlow,
    /// TensorFlow Serving, over gRPC.
    TensorFlowGrpc,
    /// One of KServe's first protocol: TensorFlow Serving's REST in rows, without versions or metadata.
    KserveV1,
    /// TorchServe, over REST.
    TorchServe,
    /// TorchServe, over gRPC.
    TorchServeGrpc,
    /// A small Keras server.
    Keras,
}

/// Which version of which model is asked, as its server calls them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'n> {
    /// The model.
    pub model: &'n str,
    /// Its version, or a name for one; none: whichever the server chooses.
    pub version: Option<&'n str>,
}

/// An inference, as it is to be asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// One tensor an input.
    pub inputs: &'a [Tensor],
    /// What the model takes and gives.
    pub signature: &'a Signature,
    /// The outputs to ask for, where the dialect can; all where empty.
    pub outputs: &'a [&'a str],
    /// The caller's parameters, where the dialect carries any.
    pub parameters: &'a [(Arc<str>, Param)],
}

/// A body, and what its head says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The body; of gRPC a message in its envelope.
    pub body: Bytes,
    /// Its type.
    pub content_type: &'static str,
    /// Bytes of JSON before raw tensors: the value of [`v2::HEADER_LENGTH`].
    pub header_length: Option<usize>,
}

/// Something to look at: what a server says of itself or of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Its path.
    pub path: String,
    /// What is sent for it; a page that is got has nothing.
    pub message: Option<Bytes>,
}

impl Page {
    /// One that is got.
    pub(crate) const fn at(path: String) -> Self {
        Self { path, message: None }
    }

    /// How it is asked for.
    pub const fn method(&self) -> Method {
        if self.message.is_some() { Method::POST } else { Method::GET }
    }
}

/// What a server answered, whole.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'r> {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: &'r HeaderMap,
    /// What followed the body.
    pub trailers: Option<&'r HeaderMap>,
    /// The body's frames.
    pub body: &'r [Bytes],
}

/// Why there is no answer, in the server's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As HTTP counts; of gRPC's numbers, the nearest.
    pub status: u16,
    /// Our code, where a dukou wrote it.
    pub code: Option<ErrorCode>,
    /// What it said; empty where it said nothing.
    pub words: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.words {
            "" => write!(f, "answered {}", self.status),
            words => write!(f, "answered {}: {words}", self.status),
        }
    }
}

impl Peer {
    /// Every kind; what is asked where nothing is said stands first.
    pub const ALL: &'static [Self] = &[
        Self::V2,
        Self::V2Grpc,
        Self::TensorFlow,
        Self::TensorFlowGrpc,
        Self::KserveV1,
        Self::TorchServe,
        Self::TorchServeGrpc,
        Self::Keras,
    ];

    /// As documents and command lines name it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V2Grpc => "v2-grpc",
            Self::TensorFlow => "tensorflow",
            Self::TensorFlowGrpc => "tensorflow-grpc",
            Self::KserveV1 => "kserve-v1",
            Self::TorchServe => "torchserve",
            Self::TorchServeGrpc => "torchserve-grpc",
            Self::Keras => "keras",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|peer| peer.name() == name)
    }

    /// Every name, for a sentence.
    pub fn names() -> String {
        let names: Vec<String> =
            Self::ALL.iter().map(|peer| format!("`{}`", peer.name())).collect();
        names.join(", ")
    }

    /// Whether it is asked in messages of gRPC, over HTTP/2.
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::V2Grpc | Self::TensorFlowGrpc | Self::TorchServeGrpc)
    }

    /// Whether it has names for versions.
    const fn has_versions(self) -> bool {
        !matches!(self, Self::KserveV1 | Self::Keras)
    }

    /// Whether it tells what a model takes and gives; somebody else has to say it otherwise.
    pub const fn tells_signatures(self) -> bool {
        matches!(self, Self::V2 | Self::V2Grpc | Self::TensorFlow | Self::TensorFlowGrpc)
    }

    /// Where an inference is asked.
    ///
    /// # Errors
    /// The dialect has no word for the version.
    pub fn infer_path(self, named: Named<'_>) -> Result<String, String> {
        if let Some(version) = named.version.filter(|_| !self.has_versions()) {
            return Err(format!(
                "`{}` has no versions, and `{version}` of `{}` is asked for",
                self.name(),
                named.model
            ));
        }
        Ok(match self {
            Self::V2 => v2::infer_path(named),
            Self::V2Grpc => v2_grpc::infer_path(),
            Self::TensorFlow | Self::KserveV1 => tensorflow::infer_path(named),
            Self::TensorFlowGrpc => tensorflow_grpc::infer_path(),
            Self::TorchServe => torchserve::infer_path(named),
            Self::TorchServeGrpc => torchserve_grpc::infer_path(),
            Self::Keras => keras::infer_path(named),
        })
    }

    /// Writes an inference.
    ///
    /// # Errors
    /// What the inputs hold that the dialect cannot carry.
    pub fn encode(self, named: Named<'_>, question: &Question<'_>) -> Result<Written, Failure> {
        match self {
            Self::V2 => v2::written(question),
            Self::V2Grpc => Ok(v2_grpc::written(named, question)),
            Self::TensorFlow => Ok(tensorflow::encode_columns(question)),
            Self::TensorFlowGrpc => Ok(tensorflow_grpc::encode_request(named, question)),
            Self::KserveV1 | Self::Keras => Ok(tensorflow::encode_instances(question)),
            Self::TorchServe => Ok(torchserve::encode_request(question)),
            Self::TorchServeGrpc => Ok(torchserve_grpc::encode_request(named, question)),
        }
    }

    /// What an answer holds; of gRPC the message, taken out of its envelope.
    ///
    /// # Errors
    /// It is a refusal, or it is none of this dialect.
    pub fn open(self, reply: &Reply<'_>, limits: &DecodeLimits) -> Result<Message, Refusal> {
        if self.is_grpc() {
            return grpc::open_reply(reply, limits);
        }
        if (200..300).contains(&reply.status) {
            return Ok(reply.body.iter().cloned().collect());
        }
        let body = reply.body.concat();
        Err(match self {
            Self::TorchServe => torchserve::refusal(reply.status, &body),
            _ => v2::refusal(reply.status, &body),
        })
    }

    /// Reads the answer to a question out of what [`Self::open`] gave.
    ///
    /// # Errors
    /// What is wrong with it: it is none of this dialect, or not of the signature.
    pub fn decode(
        self,
        message: &[Bytes],
        headers: &HeaderMap,
        signature: &Signature,
        limits: &DecodeLimits,
    ) -> Result<v2::Answer, Failure> {
        match self {
            Self::V2 => v2::decode_response(message, headers, Some(signature), limits),
            Self::V2Grpc => v2_grpc::decode_response_of(message, signature),
            Self::TensorFlow | Self::KserveV1 => {
                tensorflow::decode_response(message, signature, limits)
            }
            Self::TensorFlowGrpc => tensorflow_grpc::decode_response(message, signature, limits),
            Self::TorchServe | Self::Keras => {
                torchserve::decode_response(message, signature, limits)
            }
            Self::TorchServeGrpc => torchserve_grpc::decode_response(message, signature, limits),
        }
    }

    /// What to look at to know whether a server answers.
    pub fn ready_page(self, named: Named<'_>) -> Page {
        match self {
            Self::V2 => Page::at(v2::READY.to_owned()),
            Self::V2Grpc => v2_grpc::ready_page(named),
            Self::TensorFlow | Self::KserveV1 => Page::at(tensorflow::model_path(named)),
            Self::TensorFlowGrpc => tensorflow_grpc::status_page(named),
            Self::TorchServe => Page::at(torchserve::PING.to_owned()),
            Self::TorchServeGrpc => torchserve_grpc::ping_page(),
            Self::Keras => Page::at("/".to_owned()),
        }
    }

    /// Whether that page says so.
    ///
    /// # Errors
    /// Why it does not.
    pub fn check_ready(self, reply: &Reply<'_>, limits: &DecodeLimits) -> Result<(), String> {
        // It has no page for it: that something answers is all there is to know.
        if self == Self::Keras && reply.status < 500 {
            return Ok(());
        }
        let message = self.open(reply, limits).map_err(|refusal| refusal.to_string())?;
        match self {
            // The status says it.
            Self::V2 | Self::Keras => Ok(()),
            Self::V2Grpc => v2_grpc::check_ready(&message),
            Self::TensorFlow | Self::KserveV1 => tensorflow::check_status(&message.concat()),
            Self::TensorFlowGrpc => tensorflow_grpc::check_status(&message),
            Self::TorchServe => torchserve::check_health(&message.concat()),
            Self::TorchServeGrpc => torchserve_grpc::check_health(&message),
        }
    }

    /// What to look at to know what the model takes and gives; none where the dialect does not tell.
    pub fn signature_page(self, named: Named<'_>) -> Option<Page> {
        match self {
            Self::V2 => Some(Page::at(v2::model_path(named))),
            Self::V2Grpc => Some(v2_grpc::metadata_page(named)),
            Self::TensorFlow => Some(Page::at(tensorflow::metadata_path(named))),
            Self::TensorFlowGrpc => Some(tensorflow_grpc::metadata_page(named)),
            Self::KserveV1 | Self::TorchServe | Self::TorchServeGrpc | Self::Keras => None,
        }
    }

    /// What that page says.
    ///
    /// # Errors
    /// What in it is not as the dialect has it.
    pub fn read_signature(self, message: &[Bytes]) -> Result<Signature, String> {
        match self {
            Self::V2 => v2::parse_signature(&message.concat()),
            Self::V2Grpc => v2_grpc::parse_signature(message),
            Self::TensorFlow => tensorflow::parse_signature(&message.concat()),
            Self::TensorFlowGrpc => tensorflow_grpc::parse_signature(message),
            Self::KserveV1 | Self::TorchServe | Self::TorchServeGrpc | Self::Keras => {
                Err(format!("a server of `{}` tells no signature", self.name()))
            }
        }
    }
}

/// Our code of this name.
pub(crate) fn code_of(text: &str) -> Option<ErrorCode> {
    ErrorCode::ALL.iter().copied().find(|code| code.as_str() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        for &peer in Peer::ALL {
            assert_eq!(Peer::parse(peer.name()), Some(peer));
        }
        assert_eq!(Peer::parse("triton"), None);
        assert!(Peer::names().starts_with("`v2`, `v2-grpc`, `tensorflow`"));
        assert_eq!(Peer::default(), Peer::ALL[0]);
    }

    #[test]
    fn a_version_is_named_as_the_dialect_does_or_refused() {
        let named = |version| Named { model: "m", version };
        for (peer, version, path) in [
            (Peer::V2, "3", "/v2/models/m/versions/3/infer"),
            (Peer::TensorFlow, "3", "/v1/models/m/versions/3:predict"),
            (Peer::TensorFlow, "stable", "/v1/models/m/labels/stable:predict"),
            (Peer::TorchServe, "1.0", "/predictions/m/1.0"),
        ] {
            assert_eq!(peer.infer_path(named(Some(version))).as_deref(), Ok(path));
        }
        for (peer, path) in [(Peer::KserveV1, "/v1/models/m:predict"), (Peer::Keras, "/m/predict")]
        {
            assert_eq!(peer.infer_path(named(None)).as_deref(), Ok(path));
            let words = peer.infer_path(named(Some("3"))).unwrap_err();
            assert_eq!(
                words,
                format!("`{}` has no versions, and `3` of `m` is asked for", peer.name())
            );
        }
    }

    #[test]
    fn who_tells_a_signature_has_a_page_for_it() {
        for &peer in Peer::ALL {
            let page = peer.signature_page(Named { model: "m", version: None });
            assert_eq!(page.is_some(), peer.tells_signatures());
            let refused = peer.read_signature(&[Bytes::from_static(b"\xff")]).unwrap_err();
            assert!(!refused.is_empty());
        }
    }
}
