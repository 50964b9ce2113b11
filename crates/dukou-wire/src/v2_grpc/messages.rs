//! What a server says of itself and of its models, each behind room for its envelope.

use dukou_types::TensorSpec;
use prost::Message;

use super::encode::push_truth;
use crate::{
    grpc::{PREFIX, written},
    v2::{EXTENSIONS, ModelDescription},
};

/// Those of Triton's extensions that only calls have.
const MORE: [&str; 3] = ["model_configuration", "model_repository", "statistics"];

fn truth(truth: bool) -> Vec<u8> {
    let mut out = vec![0; PREFIX];
    push_truth(&mut out, 1, truth);
    out
}

/// `ServerLiveResponse`.
pub fn encode_live(live: bool) -> Vec<u8> {
    truth(live)
}

/// `ServerReadyResponse`.
pub fn encode_ready(ready: bool) -> Vec<u8> {
    truth(ready)
}

/// `ModelReadyResponse`.
pub fn encode_model_ready(ready: bool) -> Vec<u8> {
    truth(ready)
}

/// The status of shared memory: no region is registered.
pub fn encode_no_regions() -> Vec<u8> {
    vec![0; PREFIX]
}

#[derive(Clone, PartialEq, Message)]
struct ServerMetadataResponse {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, repeated, tag = "3")]
    extensions: Vec<String>,
}

/// The server's name, its version and the extensions it speaks.
pub fn encode_server_metadata(version: &str) -> Vec<u8> {
    written(&ServerMetadataResponse {
        name: "dukou".to_owned(),
        version: version.to_owned(),
        extensions: EXTENSIONS.iter().chain(&MORE).map(|&name| name.to_owned()).collect(),
    })
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelMetadataResponse {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    versions: Vec<String>,
    #[prost(string, tag = "3")]
    platform: String,
    #[prost(message, repeated, tag = "4")]
    pub(super) inputs: Vec<TensorMetadata>,
    #[prost(message, repeated, tag = "5")]
    pub(super) outputs: Vec<TensorMetadata>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorMetadata {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) datatype: String,
    #[prost(int64, repeated, tag = "3")]
    pub(super) shape: Vec<i64>,
}

impl TensorMetadata {
    fn of(spec: &TensorSpec) -> Self {
        Self {
            name: spec.name.as_ref().to_owned(),
            datatype: spec.dtype.name().to_owned(),
            shape: spec.wire_shape(),
        }
    }
}

/// Name, versions, platform, inputs and outputs of a model; -1 for dimensions that are free.
pub fn encode_model_metadata(model: &ModelDescription<'_>) -> Vec<u8> {
    written(&ModelMetadataResponse {
        name: model.name.to_owned(),
        versions: model.versions.iter().map(|&version| version.to_owned()).collect(),
        platform: model.platform.to_owned(),
        inputs: model.signature.inputs.iter().map(TensorMetadata::of).collect(),
        outputs: model.signature.outputs.iter().map(TensorMetadata::of).collect(),
    })
}
