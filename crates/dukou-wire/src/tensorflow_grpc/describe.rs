//! What a server says of a model: which versions there are, and what they take and give.

use std::collections::BTreeMap;

use dukou_types::{Dim, Signature, TensorSpec};
use prost::{DecodeError, Message};

use super::tensor::number_of;
use crate::{
    grpc::written,
    tensorflow::{SIGNATURE, VersionState},
};

/// `AVAILABLE` and `UNLOADING` of `ModelVersionStatus.State`.
const AVAILABLE: i32 = 30;
const UNLOADING: i32 = 40;

#[derive(Clone, PartialEq, Message)]
struct GetModelStatusResponse {
    #[prost(message, repeated, tag = "1")]
    model_version_status: Vec<ModelVersionStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelVersionStatus {
    #[prost(int64, tag = "1")]
    version: i64,
    #[prost(int32, tag = "2")]
    state: i32,
    /// Present, and well.
    #[prost(message, optional, tag = "3")]
    status: Option<StatusProto>,
}

#[derive(Clone, PartialEq, Message)]
struct StatusProto {
    #[prost(int32, tag = "1")]
    error_code: i32,
    #[prost(string, tag = "2")]
    error_message: String,
}

#[derive(Clone, PartialEq, Message)]
struct GetModelMetadataResponse {
    #[prost(message, optional, tag = "1")]
    model_spec: Option<ModelSpec>,
    #[prost(btree_map = "string, message", tag = "2")]
    metadata: BTreeMap<String, Any>,
}

#[derive(Clone, PartialEq, Message)]
struct ModelSpec {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    version: Option<Int64Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Int64Value {
    #[prost(int64, tag = "1")]
    value: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SignatureDefMap {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) signature_def: BTreeMap<String, SignatureDef>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SignatureDef {
    #[prost(btree_map = "string, message", tag = "1")]
    pub(super) inputs: BTreeMap<String, TensorInfo>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub(super) outputs: BTreeMap<String, TensorInfo>,
    #[prost(string, tag = "3")]
    method_name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    pub(super) dtype: i32,
    #[prost(message, optional, tag = "3")]
    pub(super) tensor_shape: Option<TensorShape>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorShape {
    #[prost(message, repeated, tag = "2")]
    pub(super) dim: Vec<TensorDim>,
    #[prost(bool, tag = "3")]
    pub(super) unknown_rank: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorDim {
    #[prost(int64, tag = "1")]
    pub(super) size: i64,
    #[prost(string, tag = "2")]
    name: String,
}

/// The status of a model's versions, behind room for the envelope. A version whose label is no number is 0.
pub fn encode_status(versions: &[VersionState<'_>]) -> Vec<u8> {
    let status = |state: &VersionState<'_>| ModelVersionStatus {
        version: state.version.parse().unwrap_or(0),
        state: if state.available { AVAILABLE } else { UNLOADING },
        status: Some(StatusProto { error_code: 0, error_message: String::new() }),
    };
    let model_version_status = versions.iter().map(status).collect();
    written(&GetModelStatusResponse { model_version_status })
}

/// The signatures of a version, behind room for the envelope.
pub fn encode_metadata(model: &str, version: &str, signature: &Signature) -> Vec<u8> {
    let infos = |specs: &[TensorSpec]| specs.iter().map(info).collect::<BTreeMap<_, _>>();
    let definition = SignatureDef {
        inputs: infos(&signature.inputs),
        outputs: infos(&signature.outputs),
        method_name: "tensorflow/serving/predict".to_owned(),
    };
    let map = SignatureDefMap { signature_def: [(SIGNATURE.to_owned(), definition)].into() };
    let any = Any {
        type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".to_owned(),
        value: map.encode_to_vec(),
    };
    written(&GetModelMetadataResponse {
        model_spec: Some(ModelSpec {
            name: model.to_owned(),
            version: version.parse().ok().map(|value| Int64Value { value }),
        }),
        metadata: [("signature_def".to_owned(), any)].into(),
    })
}

/// The states of a model's versions, by their names, as a status tells them.
pub(super) fn states(message: &[u8]) -> Result<Vec<&'static str>, DecodeError> {
    let named = |status: &ModelVersionStatus| match status.state {
        10 => "START",
        20 => "LOADING",
        AVAILABLE => "AVAILABLE",
        UNLOADING => "UNLOADING",
        50 => "END",
        _ => "UNKNOWN",
    };
    let said = GetModelStatusResponse::decode(message)?;
    Ok(said.model_version_status.iter().map(named).collect())
}

/// What a model's metadata packs its signatures in; none where it has none.
pub(super) fn signatures(message: &[u8]) -> Result<Option<Vec<u8>>, DecodeError> {
    let mut said = GetModelMetadataResponse::decode(message)?;
    Ok(said.metadata.remove("signature_def").map(|any| any.value))
}

fn info(spec: &TensorSpec) -> (String, TensorInfo) {
    let dim = |dim: &Dim| TensorDim {
        size: dim.wire(),
        name: match dim {
            Dim::Symbol(symbol) => symbol.as_ref().to_owned(),
            Dim::Fixed(_) | Dim::Any(()) => String::new(),
        },
    };
    let info = TensorInfo {
        name: format!("{}:0", spec.name),
        dtype: i32::try_from(number_of(spec.dtype)).unwrap_or(0),
        tensor_shape: Some(TensorShape {
            dim: spec.shape.iter().map(dim).collect(),
            unknown_rank: false,
        }),
    };
    (spec.name.as_ref().to_owned(), info)
}
