//! What a call is about: its method by the head, the model by the message.

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, ModelName, Version};

use super::management::{Asked, registered_name};
use crate::{
    Head, Operation, Selector, Target,
    grpc::{check_content, method_of, no_method},
    sentence::quoted,
};

/// The service that answers inference.
pub const INFERENCE: &str = "org.pytorch.serve.grpc.inference.InferenceAPIsService";
/// The service that changes what is served.
pub const MANAGEMENT: &str = "org.pytorch.serve.grpc.management.ManagementAPIsService";

/// Models on one page of a list, where its asker does not say.
const PAGE: usize = 100;

/// The method that a path names.
fn method(path: &str) -> Option<&str> {
    [INFERENCE, MANAGEMENT].iter().find_map(|service| method_of(path, service))
}

/// What a call's head says; `None` for a method of another dialect.
pub(crate) fn recognize(head: &Head<'_>) -> Option<Result<Target, Failure>> {
    let message = |operation| Ok(Target::Message { operation });
    let target = match method(head.path)? {
        "Ping" => Ok(Target::Ready),
        "Predictions" | "StreamPredictions" => message("infer"),
        "ListModels" => message("model-list"),
        "DescribeModel" => message("model-workers"),
        "RegisterModel" => message(Operation::Register.name()),
        "ScaleWorker" => message(Operation::Scale.name()),
        "SetDefault" => message(Operation::SetDefault.name()),
        "UnregisterModel" => message(Operation::Unregister.name()),
        _ => Err(no_method(head.path)),
    };
    Some(check_content(head).and(target))
}

/// What a call is about, once its message is there.
///
/// # Errors
/// `wire.invalid-message`, `wire.missing-field`; `request.unknown-model` and `request.unknown-version` for
/// what no model or version can be called.
pub fn address_message(path: &str, message: &[Bytes]) -> Result<Target, Failure> {
    let change =
        |operation, model, version| Ok(Target::Change { operation, model: Some(model), version });
    match method(path).unwrap_or_default() {
        "Predictions" | "StreamPredictions" => {
            let asked = Asked::read(message, Asked::PREDICTION)?;
            let selector = asked.version()?.map_or(Selector::Default, Selector::Version);
            Ok(Target::Infer { model: asked.model()?, selector })
        }
        "ListModels" => {
            let asked = Asked::read(message, Asked::LIST)?;
            let limit = asked.count().filter(|limit| (1..=PAGE).contains(limit)).unwrap_or(PAGE);
            Ok(Target::ModelPage { limit, after: asked.second().unwrap_or(0) })
        }
        "DescribeModel" => {
            let asked = Asked::read(message, Asked::NAMED)?;
            let selector = match asked.version()? {
                None => Some(Selector::Default),
                Some(version) if version.as_str() == "all" => None,
                Some(version) => Some(Selector::Version(version)),
            };
            Ok(Target::ModelWorkers { model: asked.model()?, selector })
        }
        "RegisterModel" => change(Operation::Register, registered_name(message)?, None),
        "ScaleWorker" => {
            let asked = Asked::read(message, Asked::NAMED)?;
            change(Operation::Scale, asked.model()?, asked.version()?)
        }
        "SetDefault" => {
            let asked = Asked::read(message, Asked::NAMED)?;
            let version = asked.version()?.ok_or_else(|| {
                Failure::new(ErrorCode::WireMissingField, "Parameter model_version is required.")
            })?;
            change(Operation::SetDefault, asked.model()?, Some(version))
        }
        "UnregisterModel" => {
            let asked = Asked::read(message, Asked::NAMED)?;
            change(Operation::Unregister, asked.model()?, asked.version()?)
        }
        _ => Err(no_method(path)),
    }
}

/// A model's name out of a text.
pub(super) fn named(text: &str) -> Result<ModelName, Failure> {
    if text.is_empty() {
        return Err(Failure::new(ErrorCode::WireMissingField, "Parameter model_name is required."));
    }
    ModelName::parse(text).map_err(|text| {
        let message = format!("no model can be called {}", quoted(&text));
        Failure::new(ErrorCode::RequestUnknownModel, message)
    })
}

/// A version's label out of a text; none where it is empty.
pub(super) fn labelled(text: &str) -> Result<Option<Version>, Failure> {
    if text.is_empty() {
        return Ok(None);
    }
    Version::parse(text).map(Some).map_err(|text| {
        let message = format!("no version can be called {}", quoted(&text));
        Failure::new(ErrorCode::RequestUnknownVersion, message)
    })
}
