//! TorchServe's predictions, over REST and over gRPC.

use dukou_wire::Dialect;
use http::HeaderMap;

use crate::{
    answers::infer,
    pieces::{first_line, header},
};

/// A line with the content type, and a body: raw, JSON, a form, a multipart form.
pub fn body(input: &[u8]) {
    let (kind, body) = first_line(input);
    infer(Dialect::TorchServe, "/predictions/m", &header("content-type", kind), body);
}

/// A `PredictionsRequest`.
pub fn predict_call(input: &[u8]) {
    let path = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions";
    infer(Dialect::TorchServeGrpc, path, &HeaderMap::new(), input);
}
