//! The other side: a prediction asked, its answer read, and health.

use bytes::Bytes;
use dukou_types::{Failure, Signature};

use super::INFERENCE;
use crate::{
    DecodeLimits, Message,
    grpc::{self, Fields, PREFIX, Part, push_bytes, push_message},
    peer::{Named, Page, Question, Written},
    torchserve,
    v2::Answer,
};

/// Where an inference is asked.
pub(crate) fn infer_path() -> String {
    format!("/{INFERENCE}/Predictions")
}

/// A prediction's request: what REST would be sent, as the part `data`.
pub(crate) fn encode_request(named: Named<'_>, question: &Question<'_>) -> Written {
    let mut out = vec![0; PREFIX];
    push_bytes(&mut out, 1, named.model.as_bytes());
    push_bytes(&mut out, 2, named.version.unwrap_or_default().as_bytes());
    push_message(&mut out, 3, |entry| {
        push_bytes(entry, 1, b"data");
        let alone = match question.inputs {
            // A part is no JSON by its looks where it is one bare text.
            [only] if only.shape.is_empty() => only.strings().and_then(<[Bytes]>::first),
            _ => None,
        };
        match alone {
            Some(text) => push_bytes(entry, 2, text),
            None => push_bytes(entry, 2, &torchserve::document(question)),
        }
    });
    grpc::call(out)
}

/// Reads an answer's message: what REST would answer.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_response(
    message: &[Bytes],
    signature: &Signature,
    limits: &DecodeLimits,
) -> Result<Answer, Failure> {
    torchserve::decode_response(&first(message)?, signature, limits)
}

/// What is asked to know whether the server answers.
pub(crate) fn ping_page() -> Page {
    let message = Some(grpc::call(vec![0; PREFIX]).body);
    Page { path: format!("/{INFERENCE}/Ping"), message }
}

/// Whether it says that it is well.
///
/// # Errors
/// Why it does not.
pub(crate) fn check_health(message: &[Bytes]) -> Result<(), String> {
    let text = first(message).map_err(|failure| failure.message.into_owned())?;
    torchserve::check_health(&text.concat())
}

/// The bytes of the first field: all that these answers have.
fn first(message: &[Bytes]) -> Result<Message, Failure> {
    let mut found = Message::new();
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            found = [field.part("prediction")?.kept()].into_iter().collect();
        }
    }
    Ok(found)
}
