//! Failures in TorchServe's words and statuses: `type` is part of what its clients look at.

use std::{borrow::Cow, fmt::Display};

use dukou_types::{ErrorCode, Failure};

use crate::{
    Operation, Selector, Target,
    json::{push_integer, push_text},
};

const NO_TOKEN: &str =
    "Token Authorization failed. Token either incorrect, expired, or not provided correctly";

/// What its sentence of a model without a worker goes on with, whatever the reason.
const SCALE: &str = "Please use scale workers API to add workers. If this is a sequence inference, please check \
    if it is closed, or expired; or exceeds maxSequenceJobQueueSize";

/// The HTTP status of a failure.
pub fn status(failure: &Failure, target: Option<&Target>) -> u16 {
    match (failure.code, target) {
        // A probe looks at the status alone.
        (_, Some(Target::Ready)) if failure.http_status() == 503 => 500,
        // What a handler raises that has no explanation.
        (ErrorCode::WireUnsupported, Some(Target::Explain { .. })) => 503,
        // A full queue is no worker that is free.
        (ErrorCode::LimitsQueueFull, Some(Target::Infer { .. })) => 503,
        (ErrorCode::EngineOutOfMemory, _) => 507,
        (ErrorCode::ManageUrlRefused | ErrorCode::ManageNoStore, _) => 404,
        (ErrorCode::ManageIsDefault, _) => 403,
        _ => failure.http_status(),
    }
}

/// A failure's body. `message` is TorchServe's where its clients look at it, and `detail` then what dukou
/// says; otherwise both are one.
pub fn encode_error(
    failure: &Failure,
    target: Option<&Target>,
    request_id: impl Display,
) -> Vec<u8> {
    let status = status(failure, target);
    let mut out = Vec::with_capacity(320);
    if matches!(target, Some(Target::Ready)) && status == 500 {
        out.extend_from_slice(b"{\"status\":\"Unhealthy\",");
    } else {
        let (kind, words) = said(failure, target);
        out.extend_from_slice(b"{\"code\":");
        push_integer(&mut out, status);
        for (key, value) in [(",\"type\":", kind), (",\"message\":", &words)] {
            out.extend_from_slice(key.as_bytes());
            push_text(&mut out, value);
        }
        out.push(b',');
    }
    let request_id = request_id.to_string();
    for (key, value) in [
        ("\"error\":", failure.code.as_str()),
        (",\"detail\":", &failure.message),
        (",\"remedy\":", failure.code.remedy()),
        (",\"request_id\":", &request_id),
    ] {
        out.extend_from_slice(key.as_bytes());
        push_text(&mut out, value);
    }
    out.push(b'}');
    out
}

/// TorchServe's class of a failure, and its sentence.
pub(crate) fn said<'f>(
    failure: &'f Failure,
    target: Option<&Target>,
) -> (&'static str, Cow<'f, str>) {
    use ErrorCode as C;
    let ours = || Cow::from(&*failure.message);
    let asked = target.and_then(Target::model);
    let workerless = || {
        Cow::from(match asked {
            Some((model, Selector::Version(version))) => format!(
                "Model \"{model}\" Version {version} has no worker to serve inference request. {SCALE}"
            ),
            Some((model, _)) => {
                format!("Model \"{model}\" has no worker to serve inference request. {SCALE}")
            }
            None => failure.message.to_string(),
        })
    };
    match (failure.code, asked) {
        (C::WireUnknownPath, _) => (
            "ResourceNotFoundException",
            "Requested resource is not found, please refer to API document.".into(),
        ),
        (C::WireWrongMethod, _) => (
            "MethodNotAllowedException",
            "Requested method is not allowed, please refer to API document.".into(),
        ),
        (C::RequestUnknownModel, Some((model, _))) => {
            ("ModelNotFoundException", format!("Model not found: {model}").into())
        }
        (C::RequestUnknownModel, None) => ("ModelNotFoundException", ours()),
        (C::RequestUnknownVersion, Some((model, Selector::Version(version)))) => (
            "ModelVersionNotFoundException",
            format!("Model version: {version} does not exist for model: {model}").into(),
        ),
        (C::RequestUnknownVersion, _) => match target {
            // The one sentence of its that has no colons.
            Some(Target::Change {
                operation: Operation::SetDefault,
                model: Some(model),
                version: Some(version),
            }) => (
                "ModelVersionNotFoundException",
                format!("Model version {version} does not exist for model {model}").into(),
            ),
            Some(Target::Change { model: Some(model), version: Some(version), .. }) => (
                "ModelVersionNotFoundException",
                format!("Model version: {version} does not exist for model: {model}").into(),
            ),
            _ => ("ModelVersionNotFoundException", ours()),
        },
        (C::AccessNoKey | C::AccessBadKey | C::AccessForbidden, _) => {
            ("InvalidKeyException", NO_TOKEN.into())
        }
        (C::WireUnsupported, _) if matches!(target, Some(Target::Explain { .. })) => {
            ("InternalServerException", "Prediction failed".into())
        }
        (C::LimitsQueueFull, _) if matches!(target, Some(Target::Infer { .. })) => {
            ("ServiceUnavailableException", workerless())
        }
        (C::ServerNoWorker, _) => ("ServiceUnavailableException", workerless()),
        (C::EngineOutOfMemory, _) => ("InternalServerException", "Out of resources".into()),
        (C::ManageNotInStore | C::ManageUrlRefused | C::ManageNoStore, _) => {
            ("ModelNotFoundException", ours())
        }
        (C::ManageNoHandler, _) => ("InvalidModelException", ours()),
        (C::ManageAlreadyRegistered | C::ManageInUse, _) => ("ConflictStatusException", ours()),
        (C::ManageIsDefault, _) => ("InvalidModelVersionException", {
            match target {
                Some(Target::Change {
                    operation: Operation::Unregister,
                    model: Some(model),
                    ..
                }) => format!("Cannot remove default version for model {model}").into(),
                _ => ours(),
            }
        }),
        _ => (
            match failure.http_status() {
                503 => "ServiceUnavailableException",
                500.. => "InternalServerException",
                _ => "BadRequestException",
            },
            ours(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use dukou_types::{ModelName, Version};

    use super::*;

    fn said(code: ErrorCode, target: Option<&Target>) -> (u16, String) {
        let failure = Failure::new(code, "ours");
        let body = String::from_utf8(encode_error(&failure, target, 7)).unwrap();
        assert!(body.contains(r#""detail":"ours""#), "{body}");
        let words = body.split(",\"error\"").next().unwrap().to_owned();
        (status(&failure, target), words)
    }

    #[test]
    fn types_and_texts_are_torchserves() {
        let model = ModelName::parse("m").unwrap();
        let version = Version::parse("2").unwrap();
        let named = Selector::Version(version.clone());
        let infer = |selector| Target::Infer { model: model.clone(), selector };
        let plain = infer(Selector::Default);
        let second = infer(named.clone());
        let explain = Target::Explain { model: model.clone(), selector: named };
        let unregister = Target::Change {
            operation: Operation::Unregister,
            model: Some(model.clone()),
            version: Some(version),
        };
        for (code, target, status, words) in [
            (
                ErrorCode::WireUnknownPath,
                None,
                404,
                "ResourceNotFoundException\",\"message\":\"Requested resource is not found, please refer to API document.\"",
            ),
            (
                ErrorCode::RequestUnknownModel,
                Some(&plain),
                404,
                "ModelNotFoundException\",\"message\":\"Model not found: m\"",
            ),
            (
                ErrorCode::RequestUnknownVersion,
                Some(&second),
                404,
                "ModelVersionNotFoundException\",\"message\":\"Model version: 2 does not exist for model: m\"",
            ),
            (
                ErrorCode::RequestUnknownVersion,
                Some(&unregister),
                404,
                "ModelVersionNotFoundException\",\"message\":\"Model version: 2 does not exist for model: m\"",
            ),
            (ErrorCode::WireWrongMethod, None, 405, "MethodNotAllowedException\""),
            (
                ErrorCode::AccessBadKey,
                Some(&plain),
                401,
                "InvalidKeyException\",\"message\":\"Token Authorization failed. Token",
            ),
            (
                ErrorCode::WireUnsupported,
                Some(&explain),
                503,
                "InternalServerException\",\"message\":\"Prediction failed\"",
            ),
            (
                ErrorCode::LimitsQueueFull,
                Some(&second),
                503,
                "ServiceUnavailableException\",\"message\":\"Model \\\"m\\\" Version 2 has no worker to serve inference request. ",
            ),
            (
                ErrorCode::ServerNoWorker,
                Some(&plain),
                503,
                "ServiceUnavailableException\",\"message\":\"Model \\\"m\\\" has no worker to serve inference request. ",
            ),
            (
                ErrorCode::ManageIsDefault,
                Some(&unregister),
                403,
                "InvalidModelVersionException\",\"message\":\"Cannot remove default version for model m\"",
            ),
            (
                ErrorCode::ManageAlreadyRegistered,
                None,
                409,
                "ConflictStatusException\",\"message\":\"ours\"",
            ),
            (
                ErrorCode::ManageNotInStore,
                None,
                404,
                "ModelNotFoundException\",\"message\":\"ours\"",
            ),
            (
                ErrorCode::RequestWrongShape,
                Some(&plain),
                400,
                "BadRequestException\",\"message\":\"ours\"",
            ),
            (
                ErrorCode::EngineOutOfMemory,
                Some(&plain),
                507,
                "InternalServerException\",\"message\":\"Out of resources\"",
            ),
        ] {
            let (came, body) = self::said(code, target);
            let expected = format!("{{\"code\":{status},\"type\":\"{words}");
            assert!(came == status && body.starts_with(&expected), "{code}: {came} {body}");
        }
        let ping = self::said(ErrorCode::ServerNotReady, Some(&Target::Ready));
        assert_eq!(ping, (500, r#"{"status":"Unhealthy""#.into()));
    }
}
