//! The other side: a body that a handler without preprocessing takes, an answer as one without
//! postprocessing gives it, and health.

use bytes::Bytes;
use dukou_types::{DType, Data, Failure, Signature, Tensor};
use serde::Deserialize;

use crate::{
    DecodeLimits,
    peer::{Named, Question, Refusal, Written, code_of},
    plain::{self, Stands},
    rope,
    tensorflow::{push_named, push_row, push_tensor},
    v2::Answer,
};

/// Where health stands.
pub(crate) const PING: &str = "/ping";

/// Where an inference is asked.
pub(crate) fn infer_path(named: Named<'_>) -> String {
    match named.version {
        None => format!("/predictions/{}", named.model),
        Some(version) => format!("/predictions/{}/{version}", named.model),
    }
}

/// One row bare, for a handler stacks the requests of its batch; several rows as a list. Several inputs by
/// their names.
pub(crate) fn encode_request(question: &Question<'_>) -> Written {
    plain::json(document(question))
}

pub(crate) fn document(question: &Question<'_>) -> Vec<u8> {
    let inputs = question.inputs;
    // A row that is one element stands in its list: a bare number is a body to nobody.
    let alone = plain::rows(question) == Some(1) && inputs.iter().all(|i| i.shape.len() > 1);
    let push = |out: &mut Vec<u8>, tensor: &Tensor| {
        if alone { push_row(out, tensor, 0) } else { push_tensor(out, tensor) }
    };
    let mut body = Vec::with_capacity(64);
    match inputs {
        [only] => push(&mut body, only),
        several => push_named(&mut body, several, push),
    }
    body
}

/// Reads an answer: rows, a bare row, outputs by name, or one text for a model that gives texts.
///
/// # Errors
/// What is wrong with the body.
pub(crate) fn decode_response(
    rope: &[Bytes],
    signature: &Signature,
    limits: &DecodeLimits,
) -> Result<Answer, Failure> {
    let failure = match plain::read_answer(rope, signature, limits, Stands::Bare) {
        Ok(answer) => return Ok(answer),
        Err(failure) => failure,
    };
    let [only] = &*signature.outputs else { return Err(failure) };
    let shape = vec![1; only.shape.len()];
    if only.dtype != DType::Bytes || !only.admits(&shape) {
        return Err(failure);
    }
    let text = rope::gather(rope, 0..rope::length(rope));
    if text.first().is_none_or(|first| matches!(first, b'{' | b'[' | b'"')) {
        return Err(failure);
    }
    let data = Data::Strings(vec![text]);
    let outputs = vec![Tensor { name: only.name.clone(), dtype: only.dtype, shape, data }];
    Ok(Answer { outputs, ..Answer::default() })
}

#[derive(Deserialize)]
struct Health {
    status: String,
}

/// Whether the page of health says that it is well.
///
/// # Errors
/// Why it does not.
pub(crate) fn check_health(body: &[u8]) -> Result<(), String> {
    let said: Health = serde_json::from_slice(body)
        .map_err(|error| format!("its health is not TorchServe's: {error}"))?;
    match &*said.status {
        "Healthy" => Ok(()),
        other => Err(format!("it says that it is {other}")),
    }
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    r#type: String,
    message: String,
    /// Ours.
    error: Option<String>,
    detail: Option<String>,
}

/// What a failure's body says.
pub(crate) fn refusal(status: u16, body: &[u8]) -> Refusal {
    let Ok(said) = serde_json::from_slice::<Problem>(body) else {
        return Refusal { status, code: None, words: words(body) };
    };
    // It says 503 of a handler that failed, which asking somebody else does not mend.
    let failed = status == 503 && said.r#type == "InternalServerException";
    Refusal {
        status: if failed { 500 } else { status },
        code: said.error.as_deref().and_then(code_of),
        words: said.detail.unwrap_or(said.message),
    }
}

fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().to_owned()
}
