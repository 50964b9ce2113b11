//! What a request is about, before its body is looked at.

use std::sync::Arc;

use dukou_types::{ErrorCode, Failure, ModelName, Version};
use http::{HeaderMap, Method};

use crate::{Dialect, change::Operation, sentence::quoted};

/// The head of a request: all that addressing may look at.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it came, percent-encoding and all.
    pub path: &'a str,
    /// What stood behind `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
}

/// A target, and the dialect that is to decode the body and encode the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressed {
    /// Who speaks.
    pub dialect: Dialect,
    /// About what.
    pub target: Target,
}

/// Which version of a model is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Whichever the deployment's routing gives.
    Default,
    /// This one.
    Version(Version),
    /// The one that this alias stands for.
    Alias(Arc<str>),
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Is the process alive?
    Live,
    /// Can it answer inference?
    Ready,
    /// Name, version and extensions of the server.
    ServerMetadata,
    /// The models that are served.
    ModelList,
    /// What a model takes and gives.
    ModelMetadata {
        /// The model.
        model: ModelName,
        /// The version.
        selector: Selector,
    },
    /// Can this model answer?
    ModelReady {
        /// The model.
        model: ModelName,
        /// The version.
        selector: Selector,
    },
    /// An inference; the body is decoded against the signature of what this names.
    Infer {
        /// The model.
        model: ModelName,
        /// The version.
        selector: Selector,
    },
    /// An inference with the only model there is; a door makes an [`Self::Infer`] of it.
    InferOnly,
    /// How a model is configured.
    ModelConfig {
        /// The model.
        model: ModelName,
        /// The version.
        selector: Selector,
    },
    /// What a model has done, or all of them.
    ModelStatistics {
        /// The model; none: all of which the caller may hear.
        model: Option<ModelName>,
        /// The version; the default one stands for all.
        selector: Selector,
    },
    /// The regions of shared memory, which there are none of.
    SharedMemory,
    /// What the message behind a call's head says; [`crate::Dialect::address_message`] makes another one
    /// of it.
    Message {
        /// As metrics and logs name the operation.
        operation: &'static str,
    },
    /// Inferences, as many as come, each a message of its own.
    Stream,
    /// Whether the process can answer, now and whenever that changes.
    Watch,
    /// The metrics, in Prometheus' text form.
    Metrics,
    /// The models with their states, loaded or not.
    RepositoryIndex,
    /// The models of one page of a list, loaded or not.
    ModelPage {
        /// So many at most.
        limit: usize,
        /// Behind so many.
        after: usize,
    },
    /// How a model is run.
    ModelWorkers {
        /// The model.
        model: ModelName,
        /// The version; none: all of them.
        selector: Option<Selector>,
    },
    /// Why an answer is what it is.
    Explain {
        /// The model.
        model: ModelName,
        /// The version.
        selector: Selector,
    },
    /// What can be asked, as OpenAPI has it: of the server, or of one model.
    ApiDescription {
        /// The model.
        model: Option<ModelName>,
    },
    /// A change of what is served; what exactly, the query and the body say.
    Change {
        /// What is asked for.
        operation: Operation,
        /// The model, where the head names it.
        model: Option<ModelName>,
        /// The version, where the head names it.
        version: Option<Version>,
    },
}

impl Target {
    /// As metrics and logs name the operation.
    pub const fn operation(&self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Ready => "ready",
            Self::ServerMetadata => "server-metadata",
            Self::ModelList => "model-list",
            Self::ModelMetadata { .. } => "model-metadata",
            Self::ModelReady { .. } => "model-ready",
            Self::Infer { .. } | Self::InferOnly => "infer",
            Self::ModelConfig { .. } => "model-config",
            Self::ModelStatistics { .. } => "model-statistics",
            Self::SharedMemory => "shared-memory",
            Self::Message { operation } => operation,
            Self::Stream => "stream",
            Self::Watch => "watch",
            Self::Metrics => "metrics",
            Self::RepositoryIndex => "repository-index",
            Self::ModelPage { .. } => "model-list",
            Self::ModelWorkers { .. } => "model-workers",
            Self::Explain { .. } => "explain",
            Self::ApiDescription { .. } => "api-description",
            Self::Change { operation, .. } => operation.name(),
        }
    }

    /// The model it is about, and which version of it.
    pub const fn model(&self) -> Option<(&ModelName, &Selector)> {
        match self {
            Self::ModelMetadata { model, selector }
            | Self::ModelReady { model, selector }
            | Self::Infer { model, selector }
            | Self::ModelConfig { model, selector }
            | Self::ModelStatistics { model: Some(model), selector }
            | Self::Explain { model, selector }
            | Self::ModelWorkers { model, selector: Some(selector) } => Some((model, selector)),
            Self::ModelWorkers { model, selector: None }
            | Self::Change { model: Some(model), .. }
            | Self::ApiDescription { model: Some(model) } => Some((model, &Selector::Default)),
            _ => None,
        }
    }
}

/// One segment of a path, percent-decoded. A segment without `%` is borrowed.
///
/// # Errors
/// `wire.invalid-request` where a `%` is not followed by two hex digits or the bytes are not UTF-8.
pub(crate) fn percent_decoded(segment: &str) -> Result<std::borrow::Cow<'_, str>, Failure> {
    if !segment.contains('%') {
        return Ok(segment.into());
    }
    let broken = || {
        let message = format!("{} is not percent-encoded UTF-8", quoted(segment));
        Failure::new(ErrorCode::WireInvalidRequest, message)
    };
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
            let (high, low) = (digit().ok_or_else(broken)?, digit().ok_or_else(broken)?);
            decoded.push(u8::try_from(high * 16 + low).map_err(|_| broken())?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).map(Into::into).map_err(|_| broken())
}

/// A model's name out of a path segment.
///
/// # Errors
/// `request.unknown-model` for what no model can be called.
pub(crate) fn model_name(segment: &str) -> Result<ModelName, Failure> {
    ModelName::parse(&percent_decoded(segment)?).map_err(|text| {
        let message = format!("no model can be called {}", quoted(&text));
        Failure::new(ErrorCode::RequestUnknownModel, message)
    })
}

/// A version's label out of a path segment.
///
/// # Errors
/// `request.unknown-version` for what no version can be called.
pub(crate) fn version(segment: &str) -> Result<Version, Failure> {
    Version::parse(&percent_decoded(segment)?).map_err(|text| {
        let message = format!("no version can be called {}", quoted(&text));
        Failure::new(ErrorCode::RequestUnknownVersion, message)
    })
}

/// An alias out of a path segment; its alphabet is that of versions.
///
/// # Errors
/// `request.unknown-version` for what no alias can be called.
pub(crate) fn alias(segment: &str) -> Result<Arc<str>, Failure> {
    Version::parse(&percent_decoded(segment)?).map(|name| name.as_str().into()).map_err(|text| {
        let message = format!("no alias can be called {}", quoted(&text));
        Failure::new(ErrorCode::RequestUnknownVersion, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding_is_exact_or_refused() {
        assert_eq!(percent_decoded("a%2Db").unwrap(), "a-b");
        assert_eq!(percent_decoded("%E6%B8%A1").unwrap(), "渡");
        for broken in ["%", "%2", "%zz", "a%2", "%ff", "%+1"] {
            let failure = percent_decoded(broken).unwrap_err();
            assert_eq!(failure.code, ErrorCode::WireInvalidRequest, "{broken}");
        }
    }

    #[test]
    fn a_slash_cannot_be_smuggled_into_a_name() {
        let failure = model_name("a%2F..%2Fb").unwrap_err();
        assert_eq!(failure.code, ErrorCode::RequestUnknownModel);
        assert_eq!(failure.message, "no model can be called `a/../b`");
        assert_eq!(version("%20").unwrap_err().code, ErrorCode::RequestUnknownVersion);
    }
}
