//! TensorFlow Serving's requests, over REST and over gRPC.

use dukou_wire::Dialect;
use http::HeaderMap;

use crate::answers::infer;

/// Rows or columns, `b64` among them.
pub fn predict(input: &[u8]) {
    infer(Dialect::TensorFlow, "/v1/models/m:predict", &HeaderMap::new(), input);
}

/// Examples as JSON.
pub fn examples(input: &[u8]) {
    for path in ["/v1/models/m:classify", "/v1/models/m:regress"] {
        infer(Dialect::TensorFlow, path, &HeaderMap::new(), input);
    }
}

/// A `PredictRequest`.
pub fn predict_call(input: &[u8]) {
    call("Predict", input);
}

/// Requests of `tf.Example`s.
pub fn examples_call(input: &[u8]) {
    for method in ["Classify", "Regress", "MultiInference"] {
        call(method, input);
    }
}

fn call(method: &str, input: &[u8]) {
    let path = format!("/tensorflow.serving.PredictionService/{method}");
    infer(Dialect::TensorFlowGrpc, &path, &HeaderMap::new(), input);
}
