//! What a server says of itself and of its models.

use dukou_types::{Param, Signature, TensorSpec};

use super::encode::{push_list, push_parameters};
use crate::json::{push_integer, push_text};

/// The extensions of the protocol that are spoken.
pub(crate) const EXTENSIONS: [&str; 7] = [
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
];

/// `{"live":true}`.
pub fn encode_live(live: bool) -> Vec<u8> {
    format!("{{\"live\":{live}}}").into_bytes()
}

/// `{"ready":true}`.
pub fn encode_ready(ready: bool) -> Vec<u8> {
    format!("{{\"ready\":{ready}}}").into_bytes()
}

/// `{"name":"m","ready":true}`.
pub fn encode_model_ready(model: &str, ready: bool) -> Vec<u8> {
    let mut out = b"{\"name\":".to_vec();
    push_text(&mut out, model);
    out.extend_from_slice(format!(",\"ready\":{ready}}}").as_bytes());
    out
}

/// The server's name, its version and the extensions it speaks.
pub fn encode_server_metadata(version: &str) -> Vec<u8> {
    let mut out = b"{\"name\":\"dukou\",\"version\":".to_vec();
    push_text(&mut out, version);
    out.extend_from_slice(b",\"extensions\":");
    push_list(&mut out, EXTENSIONS.iter(), |out, extension| push_text(out, extension));
    out.push(b'}');
    out
}

/// `{"models":["a","b"]}`.
pub fn encode_model_list<'m>(models: impl IntoIterator<Item = &'m str>) -> Vec<u8> {
    let mut out = b"{\"models\":".to_vec();
    push_list(&mut out, models.into_iter(), push_text);
    out.push(b'}');
    out
}

/// What there is to say of a model.
#[derive(Clone, Copy, Debug)]
pub struct ModelDescription<'a> {
    /// Its name.
    pub name: &'a str,
    /// The versions that are loaded.
    pub versions: &'a [&'a str],
    /// What runs it, as the protocol names it (`onnxruntime_onnx`).
    pub platform: &'a str,
    /// The execution provider that runs it first, where that is not the CPU: a parameter of ours.
    pub provider: Option<&'a str>,
    /// Whether rows of several requests may be asked as one: a parameter of ours, for a gateway.
    pub batchable: bool,
    /// What it takes and gives.
    pub signature: &'a Signature,
}

/// Name, versions, platform, inputs and outputs of a model; -1 for dimensions that are free.
pub fn encode_model_metadata(model: &ModelDescription<'_>) -> Vec<u8> {
    let mut out = b"{\"name\":".to_vec();
    push_text(&mut out, model.name);
    out.extend_from_slice(b",\"versions\":");
    push_list(&mut out, model.versions.iter(), |out, version| push_text(out, version));
    out.extend_from_slice(b",\"platform\":");
    push_text(&mut out, model.platform);
    for (key, specs) in
        [(",\"inputs\":", &model.signature.inputs), (",\"outputs\":", &model.signature.outputs)]
    {
        out.extend_from_slice(key.as_bytes());
        push_list(&mut out, specs.iter(), push_spec);
    }
    let mut parameters = Vec::new();
    if let Some(provider) = model.provider {
        parameters.push(("provider".into(), Param::String(provider.into())));
    }
    if model.batchable {
        parameters.push(("batchable".into(), Param::Bool(true)));
    }
    if !parameters.is_empty() {
        out.extend_from_slice(b",\"parameters\":");
        push_parameters(&mut out, &parameters);
    }
    out.push(b'}');
    out
}

fn push_spec(out: &mut Vec<u8>, spec: &TensorSpec) {
    out.extend_from_slice(b"{\"name\":");
    push_text(out, &spec.name);
    out.extend_from_slice(b",\"datatype\":");
    push_text(out, spec.dtype.name());
    out.extend_from_slice(b",\"shape\":");
    push_list(out, spec.wire_shape().into_iter(), push_integer);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use dukou_types::{DType, Dim};

    #[test]
    fn bodies_are_as_the_protocol_has_them() {
        let x = TensorSpec {
            name: "x".into(),
            dtype: DType::Fp32,
            shape: vec![Dim::Symbol("batch".into()), Dim::Any(()), Dim::Fixed(3)],
        };
        let signature = Signature { inputs: vec![x], outputs: vec![], batchable: false };
        let model = ModelDescription {
            name: "m",
            versions: &["1", "2"],
            platform: "onnxruntime_onnx",
            provider: None,
            batchable: false,
            signature: &signature,
        };
        let signature = Signature::default();
        let on_a_device = ModelDescription {
            provider: Some("CUDAExecutionProvider"),
            batchable: true,
            signature: &signature,
            ..model
        };
        for (body, expected) in [
            (encode_live(true), r#"{"live":true}"#),
            (encode_ready(false), r#"{"ready":false}"#),
            (encode_model_ready("m\"", true), r#"{"name":"m\"","ready":true}"#),
            (
                encode_server_metadata("0.1.0"),
                r#"{"name":"dukou","version":"0.1.0","extensions":["classification","model_repository","model_repository(unload_dependents)","model_configuration","binary_tensor_data","parameters","statistics"]}"#,
            ),
            (encode_model_list(["a", "b"]), r#"{"models":["a","b"]}"#),
            (encode_model_list([]), r#"{"models":[]}"#),
            (
                encode_model_metadata(&model),
                r#"{"name":"m","versions":["1","2"],"platform":"onnxruntime_onnx","inputs":[{"name":"x","datatype":"FP32","shape":[-1,-1,3]}],"outputs":[]}"#,
            ),
            (
                encode_model_metadata(&on_a_device),
                r#"{"name":"m","versions":["1","2"],"platform":"onnxruntime_onnx","inputs":[],"outputs":[],"parameters":{"provider":"CUDAExecutionProvider","batchable":true}}"#,
            ),
        ] {
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
    }
}
