//! What a call is about: its method by the head, its model by the `ModelSpec` of its message.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, Version};

use crate::{
    Head, Operation, Selector, Target,
    addressed::model_name,
    grpc::{Fields, Part, method_of, no_method},
    sentence::quoted,
};

/// The service that answers inference.
pub const PREDICTIONS: &str = "tensorflow.serving.PredictionService";
/// The service that tells of models.
pub const MODELS: &str = "tensorflow.serving.ModelService";

/// What a call's head says; `None` for a method of another dialect.
pub(crate) fn recognize(head: &Head<'_>) -> Option<Result<Target, Failure>> {
    let known = [PREDICTIONS, MODELS].iter().find_map(|service| method_of(head.path, service))?;
    let target = match known {
        "Predict" | "Classify" | "Regress" | "MultiInference" => {
            Ok(Target::Message { operation: "infer" })
        }
        "GetModelMetadata" => Ok(Target::Message { operation: "model-metadata" }),
        "GetModelStatus" => Ok(Target::Message { operation: "model-ready" }),
        "HandleReloadConfigRequest" => {
            Ok(Target::Change { operation: Operation::Reload, model: None, version: None })
        }
        _ => Err(no_method(head.path)),
    };
    Some(crate::grpc::check_content(head).and(target))
}

/// What a call is about, once its message is there.
///
/// # Errors
/// `wire.invalid-message`, `wire.missing-field`, `wire.invalid-field`; `request.unknown-model` and
/// `request.unknown-version` for what no model or version can be called.
pub fn address_message(path: &str, message: &[Bytes]) -> Result<Target, Failure> {
    let method = [PREDICTIONS, MODELS].iter().find_map(|service| method_of(path, service));
    let method = method.unwrap_or_default();
    let spec = match method {
        "MultiInference" => Spec::of_tasks(message)?,
        _ => Spec::of(message)?,
    };
    let (model, selector) = spec.target()?;
    Ok(match method {
        "Predict" | "Classify" | "Regress" | "MultiInference" => Target::Infer { model, selector },
        "GetModelStatus" => Target::ModelReady { model, selector },
        "GetModelMetadata" => {
            check_metadata_fields(message)?;
            Target::ModelMetadata { model, selector }
        }
        _ => return Err(no_method(path)),
    })
}

/// A `ModelSpec`: which model, version and signature.
#[derive(Debug, Default)]
pub(super) struct Spec<'a> {
    name: Cow<'a, str>,
    version: Option<i64>,
    label: Option<Cow<'a, str>>,
    /// The signature; empty for the usual one.
    pub(super) signature: Cow<'a, str>,
}

impl<'a> Spec<'a> {
    /// That of a request, where it is the first field.
    pub(super) fn of(message: &'a [Bytes]) -> Result<Self, Failure> {
        let mut found = None;
        let mut fields = Fields::of(Part::whole(message));
        while let Some(field) = fields.next()? {
            if field.number == 1 {
                found = Some(Self::read(field.part("model_spec")?)?);
            }
        }
        found.ok_or_else(|| Failure::new(ErrorCode::WireMissingField, "Missing ModelSpec"))
    }

    /// That of a task of several.
    pub(super) fn of_task(task: Part<'a>) -> Result<Self, Failure> {
        let mut found = None;
        let mut fields = Fields::of(task);
        while let Some(field) = fields.next()? {
            if field.number == 1 {
                found = Some(Self::read(field.part("model_spec")?)?);
            }
        }
        found.ok_or_else(|| Failure::new(ErrorCode::WireMissingField, "Missing ModelSpec"))
    }

    /// That of all tasks, which must be of one model; the version of the first decides.
    fn of_tasks(message: &'a [Bytes]) -> Result<Self, Failure> {
        let mut first: Option<Self> = None;
        let mut fields = Fields::of(Part::whole(message));
        while let Some(field) = fields.next()? {
            if field.number != 1 {
                continue;
            }
            let spec = Self::of_task(field.part("tasks")?)?;
            match &first {
                None => first = Some(spec),
                Some(before) if before.name == spec.name => {}
                Some(_) => {
                    return Err(Failure::new(
                        ErrorCode::WireInvalidField,
                        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
                    ));
                }
            }
        }
        first.ok_or_else(|| {
            Failure::new(ErrorCode::WireMissingField, "Inference request has no tasks")
        })
    }

    fn read(part: Part<'a>) -> Result<Self, Failure> {
        let mut spec = Self::default();
        let mut fields = Fields::of(part);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => spec.name = field.text("name")?,
                2 => {
                    let mut wrapped = Fields::of(field.part("version")?);
                    (spec.version, spec.label) = (Some(0), None);
                    while let Some(value) = wrapped.next()? {
                        if value.number == 1 {
                            spec.version = Some(value.number("version")? as i64);
                        }
                    }
                }
                3 => spec.signature = field.text("signature_name")?,
                4 => (spec.version, spec.label) = (None, Some(field.text("version_label")?)),
                _ => {}
            }
        }
        Ok(spec)
    }

    fn target(&self) -> Result<(dukou_types::ModelName, Selector), Failure> {
        if self.name.is_empty() {
            let message = "ModelSpec has no name specified.";
            return Err(Failure::new(ErrorCode::WireMissingField, message));
        }
        // `%` has no meaning here, and no name has one.
        let model = model_name(&self.name.replace('%', "%25"))?;
        let selector = match (self.version, &self.label) {
            (Some(number), _) => Selector::Version(named(&number.to_string())?),
            (None, Some(label)) => Selector::Alias(Arc::from(named(label)?.as_str())),
            (None, None) => Selector::Default,
        };
        Ok((model, selector))
    }
}

fn named(label: &str) -> Result<Version, Failure> {
    Version::parse(label).map_err(|text| {
        let message = format!("no version can be called {}", quoted(&text));
        Failure::new(ErrorCode::RequestUnknownVersion, message)
    })
}

/// Demands that what is asked of a model's metadata is all that there is of it.
fn check_metadata_fields(message: &[Bytes]) -> Result<(), Failure> {
    let refuse = |message: String| Err(Failure::new(ErrorCode::WireInvalidField, message));
    let mut asked = false;
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        if field.number == 2 {
            let name = field.text("metadata_field")?;
            if name != "signature_def" {
                let name = quoted(&name);
                return refuse(format!(
                    "Metadata field {} is not supported; there is signature_def",
                    name.trim_matches('`')
                ));
            }
            asked = true;
        }
    }
    if asked {
        return Ok(());
    }
    refuse("GetModelMetadataRequest must specify at least one metadata_field: signature_def".into())
}
