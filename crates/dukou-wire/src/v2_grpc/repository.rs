//! The model repository extension in messages: which models there are, and loading and unloading them.

use std::borrow::Cow;

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, ModelName};
use prost::Message;

use crate::{
    Change, Listed, Operation,
    grpc::{Fields, PREFIX, Part, written},
    sentence::quoted,
};

#[derive(Clone, PartialEq, Message)]
struct RepositoryIndexResponse {
    #[prost(message, repeated, tag = "1")]
    models: Vec<ModelIndex>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelIndex {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "3")]
    state: String,
    #[prost(string, tag = "4")]
    reason: String,
}

/// Whether only models that answer are to be listed.
///
/// # Errors
/// `wire.invalid-message`.
pub fn decode_index(message: &[Bytes]) -> Result<bool, Failure> {
    let mut ready = false;
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        if field.number == 2 {
            ready = field.number("ready")? != 0;
        }
    }
    Ok(ready)
}

/// The models with their states, behind room for the envelope.
pub fn encode_index(models: &[Listed<'_>]) -> Vec<u8> {
    let models = models.iter().map(|listed| ModelIndex {
        name: listed.model.to_owned(),
        version: listed.version.unwrap_or_default().to_owned(),
        state: match listed.ready {
            Some(true) => "READY".to_owned(),
            Some(false) => "UNAVAILABLE".to_owned(),
            None => String::new(),
        },
        reason: listed.reason.unwrap_or_default().to_owned(),
    });
    written(&RepositoryIndexResponse { models: models.collect() })
}

/// What a client asks for, of this model.
///
/// # Errors
/// `wire.unsupported` for a model that is sent along; `wire.invalid-message`.
pub fn decode_change(
    operation: Operation,
    model: &ModelName,
    message: &[Bytes],
) -> Result<Change, Failure> {
    let mut dependents = false;
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        if field.number != 3 {
            continue;
        }
        let (mut name, mut truth) = (Cow::Borrowed(""), false);
        let mut entry = Fields::of(field.part("parameters")?);
        while let Some(part) = entry.next()? {
            match part.number {
                1 => name = part.text("parameters")?,
                2 => {
                    let mut choices = Fields::of(part.part("parameters")?);
                    while let Some(choice) = choices.next()? {
                        truth = choice.number == 1 && choice.number("bool_param")? != 0;
                    }
                }
                _ => {}
            }
        }
        if name == "config" || name.starts_with("file:") {
            let message = format!(
                "failed to load '{model}', parameter {}: a model is served as its server has it, and none is \
                 taken from a request; put the file into the model store",
                quoted(&name)
            );
            return Err(Failure::new(ErrorCode::WireUnsupported, message));
        }
        dependents |= name == "unload_dependents" && truth;
    }
    let model = model.clone();
    match operation {
        Operation::Load => Ok(Change::Load { model }),
        Operation::Unload => Ok(Change::Unload { model, dependents }),
        _ => {
            let message = "this protocol has no such change";
            Err(Failure::new(ErrorCode::WireUnsupported, message))
        }
    }
}

/// What came of a change, which is that it came about: an empty message, as Triton answers.
pub fn encode_changed() -> Vec<u8> {
    vec![0; PREFIX]
}
