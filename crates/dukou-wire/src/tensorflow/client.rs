//! The other side: a predict request written, an answer read, and what a server says of a model. KServe's
//! first protocol is this in rows.

use bytes::Bytes;
use dukou_types::{DType, Dim, Failure, Signature, TensorSpec};
use serde::Deserialize;
use std::collections::BTreeMap;

use super::{SIGNATURE, describe::dtype_name, push_named, push_rows, push_tensor};
use crate::{
    DecodeLimits,
    peer::{Named, Question, Written},
    plain::{self, Stands},
    v2::Answer,
};

/// A model's path, or its version's: a number is a version, anything else a label.
pub(crate) fn model_path(named: Named<'_>) -> String {
    let Named { model, version } = named;
    match version {
        None => format!("/v1/models/{model}"),
        Some(version) if version.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("/v1/models/{model}/versions/{version}")
        }
        Some(label) => format!("/v1/models/{model}/labels/{label}"),
    }
}

/// Where an inference is asked.
pub(crate) fn infer_path(named: Named<'_>) -> String {
    format!("{}:predict", model_path(named))
}

/// Where the model's signatures stand.
pub(crate) fn metadata_path(named: Named<'_>) -> String {
    format!("{}/metadata", model_path(named))
}

/// A predict request in columns: whole tensors by their names.
pub(crate) fn encode_columns(question: &Question<'_>) -> Written {
    let mut body = b"{\"inputs\":".to_vec();
    push_named(&mut body, question.inputs, push_tensor);
    body.push(b'}');
    plain::json(body)
}

/// The same in rows, where the model takes any.
pub(crate) fn encode_instances(question: &Question<'_>) -> Written {
    let Some(rows) = plain::rows(question) else { return encode_columns(question) };
    let mut body = b"{\"instances\":".to_vec();
    push_rows(&mut body, question.inputs, rows);
    body.push(b'}');
    plain::json(body)
}

/// Reads an answer: `outputs` in columns, `predictions` in rows.
///
/// # Errors
/// What is wrong with the body.
pub(crate) fn decode_response(
    rope: &[Bytes],
    signature: &Signature,
    limits: &DecodeLimits,
) -> Result<Answer, Failure> {
    plain::read_answer(rope, signature, limits, Stands::Inside)
}

#[derive(Deserialize)]
struct Status {
    /// KServe's.
    ready: Option<bool>,
    #[serde(default)]
    model_version_status: Vec<VersionStatus>,
}

#[derive(Deserialize)]
struct VersionStatus {
    state: String,
}

/// Whether a model's status page says that it answers.
///
/// # Errors
/// Why it does not.
pub(crate) fn check_status(body: &[u8]) -> Result<(), String> {
    let said: Status = serde_json::from_slice(body)
        .map_err(|error| format!("its status is not TensorFlow Serving's: {error}"))?;
    let states = said.model_version_status;
    if states.iter().any(|each| each.state == "AVAILABLE") || said.ready == Some(true) {
        return Ok(());
    }
    Err(match (states.first(), said.ready) {
        (Some(first), _) => format!("the model is {}", first.state),
        (None, Some(_)) => "the model is not ready".to_owned(),
        (None, None) => "its status has neither `model_version_status` nor `ready`".to_owned(),
    })
}

#[derive(Deserialize)]
struct Page {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    signature_def: Definitions,
}

#[derive(Deserialize)]
struct Definitions {
    signature_def: BTreeMap<String, Definition>,
}

#[derive(Deserialize)]
struct Definition {
    #[serde(default)]
    inputs: BTreeMap<String, Info>,
    #[serde(default)]
    outputs: BTreeMap<String, Info>,
}

#[derive(Deserialize)]
struct Info {
    dtype: String,
    tensor_shape: Shape,
}

#[derive(Deserialize)]
struct Shape {
    #[serde(default)]
    dim: Vec<Extent>,
    #[serde(default)]
    unknown_rank: bool,
}

#[derive(Deserialize)]
struct Extent {
    size: String,
}

/// Reads the page with a model's signatures. Inputs and outputs come in the order of their names: a
/// signature's own order is nobody's promise.
///
/// # Errors
/// What in it is not as the protocol has it, or cannot be asked for.
pub(crate) fn parse_signature(body: &[u8]) -> Result<Signature, String> {
    let page: Page = serde_json::from_slice(body)
        .map_err(|error| format!("its metadata is not TensorFlow Serving's: {error}"))?;
    let mut definitions = page.metadata.signature_def.signature_def;
    let definition = definitions.remove(SIGNATURE).ok_or_else(|| lacking(definitions.keys()))?;
    let specs = |infos: BTreeMap<String, Info>| -> Result<Vec<TensorSpec>, String> {
        infos.into_iter().map(|(name, info)| info.spec(name)).collect()
    };
    let (inputs, outputs) = (specs(definition.inputs)?, specs(definition.outputs)?);
    Ok(Signature { inputs, outputs, batchable: false })
}

/// There is no signature of the usual name.
pub(crate) fn lacking<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    format!("the model has no signature `{SIGNATURE}`; it has {}", names.join(", "))
}

/// A tensor of no declared rank.
pub(crate) fn rankless(name: &str) -> String {
    format!("`{name}` has no shape there: declare the model's `signature`")
}

impl Info {
    fn spec(self, name: String) -> Result<TensorSpec, String> {
        let dtype = DType::ALL.into_iter().find(|&dtype| dtype_name(dtype) == self.dtype);
        let dtype = dtype.ok_or_else(|| {
            format!("`{name}` has the dtype `{}`, which is none here", self.dtype)
        })?;
        if self.tensor_shape.unknown_rank {
            return Err(rankless(&name));
        }
        let dim = |extent: Extent| extent.size.parse().map_or(Dim::Any(()), Dim::Fixed);
        let shape = self.tensor_shape.dim.into_iter().map(dim).collect();
        Ok(TensorSpec { name: name.into(), dtype, shape })
    }
}
