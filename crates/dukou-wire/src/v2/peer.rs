//! A server of this protocol as who asks sees it: its paths, an inference for it, what it says of a model,
//! and its refusals.

use dukou_types::{DType, Dim, Failure, Signature, TensorSpec};
use serde::Deserialize;
use serde_json::Value;

use super::{RequestOptions, encode_request};
use crate::peer::{Named, Question, Refusal, Written, code_of};

/// Where it says whether it answers.
pub(crate) const READY: &str = "/v2/health/ready";

/// A model's path, or its version's.
pub(crate) fn model_path(named: Named<'_>) -> String {
    match named.version {
        None => format!("/v2/models/{}", named.model),
        Some(version) => format!("/v2/models/{}/versions/{version}", named.model),
    }
}

/// Where an inference is asked.
pub(crate) fn infer_path(named: Named<'_>) -> String {
    format!("{}/infer", model_path(named))
}

/// An inference; tensors go as raw bytes, and are asked for so.
pub(crate) fn written(question: &Question<'_>) -> Result<Written, Failure> {
    let options = RequestOptions {
        client_id: None,
        parameters: question.parameters,
        outputs: question.outputs,
        binary: true,
    };
    let size: usize = question.inputs.iter().map(dukou_types::Tensor::size).sum();
    let mut body = Vec::with_capacity(256 + size);
    let encoded = encode_request(question.inputs, &options, &mut body)?;
    let (content_type, header_length) = (encoded.content_type(), encoded.header_length);
    let body = crate::woven(body, encoded.inserts).concat().into();
    Ok(Written { body, content_type, header_length })
}

#[derive(Deserialize)]
struct Metadata {
    inputs: Vec<Spec>,
    outputs: Vec<Spec>,
    #[serde(default)]
    parameters: Parameters,
}

/// What dukou says besides.
#[derive(Default, Deserialize)]
struct Parameters {
    /// Whether a row's answer does not depend on its neighbours.
    #[serde(default)]
    batchable: bool,
}

#[derive(Deserialize)]
struct Spec {
    name: String,
    datatype: String,
    shape: Vec<i64>,
}

/// Reads the page of a model.
///
/// # Errors
/// What in it is not as the protocol has it.
pub(crate) fn parse_signature(body: &[u8]) -> Result<Signature, String> {
    let metadata: Metadata = serde_json::from_slice(body)
        .map_err(|error| format!("its metadata is not V2's: {error}"))?;
    let specs = |specs: Vec<Spec>| {
        let read = specs.into_iter().map(|said| spec(said.name, &said.datatype, &said.shape));
        read.collect::<Result<Vec<_>, String>>()
    };
    Ok(Signature {
        inputs: specs(metadata.inputs)?,
        outputs: specs(metadata.outputs)?,
        batchable: metadata.parameters.batchable,
    })
}

/// An input or output, as metadata has it.
pub(crate) fn spec(name: String, datatype: &str, shape: &[i64]) -> Result<TensorSpec, String> {
    let dtype = DType::parse(datatype)
        .ok_or_else(|| format!("`{name}` has the unknown datatype `{datatype}`"))?;
    let dim = |&extent: &i64| usize::try_from(extent).map_or(Dim::Any(()), Dim::Fixed);
    Ok(TensorSpec { name: name.into(), dtype, shape: shape.iter().map(dim).collect() })
}

/// What a failure's body says: `error` with our `code` where a dukou wrote it, or what others call it.
pub(crate) fn refusal(status: u16, body: &[u8]) -> Refusal {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |key: &str| said.get(key).and_then(Value::as_str);
    let words = ["error", "detail", "message"].into_iter().find_map(text);
    let words = words.map_or_else(
        || String::from_utf8_lossy(body).trim().to_owned(),
        |words| words.trim().to_owned(),
    );
    Refusal { status, code: text("code").and_then(code_of), words }
}

#[cfg(test)]
mod tests {
    use dukou_types::ErrorCode;

    use super::*;

    #[test]
    fn a_signature_is_read_and_anything_else_is_refused() {
        let body = br#"{"name":"m","versions":["1"],"platform":"onnxruntime_onnx",
            "inputs":[{"name":"x","datatype":"FP32","shape":[-1,4]}],
            "outputs":[{"name":"y","datatype":"INT64","shape":[-1]}],
            "parameters":{"batchable":true}}"#;
        let signature = parse_signature(body).unwrap();
        assert_eq!(signature.inputs[0].shape, [Dim::Any(()), Dim::Fixed(4)]);
        assert!(signature.batchable);
        assert!(parse_signature(b"{}").unwrap_err().contains("not V2's"));
        let odd = br#"{"inputs":[{"name":"x","datatype":"FP8","shape":[]}],"outputs":[]}"#;
        assert_eq!(parse_signature(odd).unwrap_err(), "`x` has the unknown datatype `FP8`");
    }

    #[test]
    fn whoever_wrote_a_refusal_is_understood() {
        let ours = refusal(429, br#"{"error":"full","code":"limits.queue-full"}"#);
        assert_eq!((ours.code, &*ours.words), (Some(ErrorCode::LimitsQueueFull), "full"));
        let theirs = refusal(422, br#"{"detail":"bad shape","code":7}"#);
        assert_eq!((theirs.code, &*theirs.words), (None, "bad shape"));
        assert_eq!(refusal(500, b" oops\n").to_string(), "answered 500: oops");
        assert_eq!(refusal(302, b"").to_string(), "answered 302");
    }
}
