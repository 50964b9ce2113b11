//! A prediction's message, both ways: `input` is a map of parts, `prediction` the body of REST.

use bytes::Bytes;
use dukou_types::{Failure, InferResponse, Signature};

use crate::{
    DecodeLimits, Decoded, EncodeContext, Encoded,
    grpc::{Fields, Part, push_bytes},
    tensorflow::Lease,
    torchserve,
};

/// Decodes a prediction's request: each entry of `input` as a part of a form, without a content type.
///
/// # Errors
/// Whatever is wrong with the message, by its code and with both sides of a mismatch.
pub fn decode(
    message: &[Bytes],
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    let mut parts = Vec::new();
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        if field.number == 3 {
            parts.push(entry(field.part("input")?)?);
        }
    }
    torchserve::decode_parts(&parts, signature, limits, lease)
}

/// An entry of the map.
fn entry(part: Part<'_>) -> Result<(String, Bytes), Failure> {
    let (mut name, mut value) = (String::new(), Bytes::new());
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text("input")?.into_owned(),
            2 => value = field.part("input")?.kept(),
            _ => {}
        }
    }
    Ok((name, value))
}

/// Appends an answer's message to `out`.
///
/// # Errors
/// Those of [`torchserve::encode`].
pub fn encode(
    response: &InferResponse,
    context: &EncodeContext<'_>,
    out: &mut Vec<u8>,
) -> Result<Encoded, Failure> {
    let mut prediction = Vec::with_capacity(256);
    torchserve::encode(response, context, &mut prediction)?;
    push_bytes(out, 1, &prediction);
    Ok(Encoded::default())
}
