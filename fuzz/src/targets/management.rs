//! What changes or tells what is served: bodies of REST and messages of calls.

use bytes::Bytes;
use dukou_types::{Failure, ModelName};
use dukou_wire::{Dialect, Operation, Target, address_first};

use super::head;
use crate::{
    answers::refusal,
    pieces::{cut, first_line, whole},
};

/// Has something read in one frame and in several, and demands that both say the same.
fn alike<T: PartialEq + std::fmt::Debug>(
    dialect: Dialect,
    body: &[u8],
    read: impl Fn(&[Bytes]) -> Result<T, Failure>,
) -> Option<T> {
    let said = read(&whole(body));
    assert_eq!(said, read(&cut(body)), "frames matter");
    said.map_err(|failure| refusal(dialect, &failure)).ok()
}

fn change(operation: Operation) -> Target {
    Target::Change { operation, model: ModelName::parse("m").ok(), version: None }
}

/// Bodies of the model repository extension.
pub fn v2(input: &[u8]) {
    alike(Dialect::V2, input, |rope| Dialect::V2.decode_index(rope));
    for operation in [Operation::Load, Operation::Unload] {
        let target = change(operation);
        alike(Dialect::V2, input, |rope| dukou_wire::v2::decode_change(&target, rope));
    }
}

/// `METHOD path?query`, the content type, and a body, as TorchServe's management API has them.
pub fn torchserve(input: &[u8]) {
    let (_, rest) = first_line(input);
    let (_, body) = first_line(rest);
    head::read(input, |head| {
        let Ok(asked) = address_first(head, Some(Dialect::TorchServe)) else { return };
        if asked.dialect != Dialect::TorchServe || !matches!(asked.target, Target::Change { .. }) {
            return;
        }
        let read = |rope: &[Bytes]| Dialect::TorchServe.decode_change(head, &asked.target, rope);
        let change = alike(Dialect::TorchServe, body, read);
        if let Some(change) = change
            && let Target::Change { operation, model, .. } = &asked.target
        {
            assert_eq!(change.operation(), *operation);
            assert!(model.is_none() || model.as_ref() == change.model());
        }
    });
}

/// The methods of a service: what each is about, and what is to be changed by it.
fn calls(dialect: Dialect, service: &str, methods: &[&str], message: &[u8]) {
    for method in methods {
        let path = format!("/{service}/{method}");
        let target = alike(dialect, message, |rope| dialect.address_message(&path, rope));
        let Some(target @ Target::Change { .. }) = target else { continue };
        let head = dukou_wire::Head {
            method: &http::Method::POST,
            path: &path,
            query: None,
            headers: &http::HeaderMap::new(),
        };
        let change = alike(dialect, message, |rope| dialect.decode_change(&head, &target, rope));
        if let (Some(change), Target::Change { operation, model, .. }) = (change, &target) {
            assert_eq!(change.operation(), *operation);
            assert_eq!(change.model(), model.as_ref());
        }
    }
}

/// Messages of the Open Inference Protocol that name a model, a version or an operation.
pub fn v2_grpc(input: &[u8]) {
    let methods = [
        "ModelInfer",
        "ModelReady",
        "ModelMetadata",
        "ModelConfig",
        "ModelStatistics",
        "RepositoryModelLoad",
        "RepositoryModelUnload",
    ];
    calls(Dialect::V2Grpc, "inference.GRPCInferenceService", &methods, input);
    alike(Dialect::V2Grpc, input, |rope| Dialect::V2Grpc.decode_index(rope));
}

/// The same of TensorFlow Serving.
pub fn tensorflow_grpc(input: &[u8]) {
    let predictions = ["Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata"];
    let service = "tensorflow.serving.PredictionService";
    calls(Dialect::TensorFlowGrpc, service, &predictions, input);
    let service = "tensorflow.serving.ModelService";
    calls(Dialect::TensorFlowGrpc, service, &["GetModelStatus"], input);
    alike(Dialect::TensorFlowGrpc, input, dukou_wire::tensorflow_grpc::decode_change);
}

/// The same of TorchServe.
pub fn torchserve_grpc(input: &[u8]) {
    let service = dukou_wire::torchserve_grpc::INFERENCE;
    calls(Dialect::TorchServeGrpc, service, &["Predictions", "StreamPredictions"], input);
    let methods = [
        "ListModels",
        "DescribeModel",
        "RegisterModel",
        "ScaleWorker",
        "SetDefault",
        "UnregisterModel",
    ];
    calls(Dialect::TorchServeGrpc, dukou_wire::torchserve_grpc::MANAGEMENT, &methods, input);
}
