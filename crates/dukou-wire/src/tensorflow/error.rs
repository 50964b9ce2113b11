//! Failures in TensorFlow Serving's words and statuses.

use std::{borrow::Cow, fmt::Display};

use dukou_types::{ErrorCode, Failure};

use crate::{Selector, Target, v2};

/// The HTTP status: TensorFlow Serving knows no 405, 413 or 431, and its clients treat those as they
/// treat any other 4xx; only where a client decides by the number does ours follow.
pub fn status(failure: &Failure) -> u16 {
    match failure.code {
        ErrorCode::WireUnknownPath | ErrorCode::WireWrongMethod => 400,
        _ => failure.http_status(),
    }
}

/// A failure's body. `error` begins as TensorFlow Serving's does where clients look at it.
pub fn encode_error(
    failure: &Failure,
    target: Option<&Target>,
    request_id: impl Display,
) -> Vec<u8> {
    let mut said = failure.clone();
    let words = match (failure.code, target) {
        (ErrorCode::RequestUnknownModel | ErrorCode::RequestUnknownVersion, _) => {
            unknown(failure, target)
        }
        (ErrorCode::WireInvalidJson, _) if !failure.message.starts_with("JSON Parse error") => {
            Some(format!("JSON Parse error: {}", failure.message))
        }
        _ => None,
    };
    if let Some(words) = words {
        said.message = Cow::Owned(words);
    }
    v2::encode_error(&said, request_id)
}

/// What it says of a model or a version that is not there; `None` where that is not the matter.
pub(crate) fn unknown(failure: &Failure, target: Option<&Target>) -> Option<String> {
    use ErrorCode::{RequestUnknownModel, RequestUnknownVersion};
    let target =
        target.filter(|_| matches!(failure.code, RequestUnknownModel | RequestUnknownVersion))?;
    let (model, selector) = target.model()?;
    let infer = matches!(target, Target::Infer { .. });
    let version = match selector {
        Selector::Version(version) => Some(version.as_str()),
        Selector::Alias(label) => {
            return (failure.code == ErrorCode::RequestUnknownVersion)
                .then(|| format!("Unrecognized servable version label: {label}"));
        }
        Selector::Default => None,
    };
    Some(match (infer, version) {
        (true, None) => format!("Servable not found for request: Latest({model})"),
        (true, Some(version)) => {
            format!("Servable not found for request: Specific({model}, {version})")
        }
        (false, None) => format!("Could not find any versions of model {model}"),
        (false, Some(version)) => format!("Could not find version {version} of model {model}"),
    })
}
