//! A body for `/predictions`, against the signature of the version that will answer it.

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, Requested, Signature};
use http::{HeaderMap, header::CONTENT_TYPE};

use super::{
    form,
    inputs::{Form, Inputs, Sent, looks_like_json},
};
use crate::{
    Carriage, DecodeLimits, Decoded,
    json::{Scanner, Stop},
    keras::npy,
    multipart, rope,
    sentence::{self, quoted},
    tensorflow::{Lease, Values, object_stands},
};

/// Decodes a body by its content type, or by its looks where that says nothing.
///
/// # Errors
/// Whatever is wrong with the body, by its code and with both sides of a mismatch.
pub fn decode(
    rope: &[Bytes],
    headers: &HeaderMap,
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    let total = rope::admitted(rope, limits)?;
    let body = rope::gather(rope, 0..total);
    if body.is_empty() {
        let message =
            format!("the body is empty; the model takes {}", sentence::specs(&signature.inputs));
        return Err(Failure::new(ErrorCode::RequestMissingInput, message));
    }
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = said.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let depth = limits.json_depth;
    let mut inputs = Inputs::new(signature, depth);
    match &*kind {
        "multipart/form-data" => {
            let boundary =
                multipart::boundary(said).ok_or_else(|| multipart::without_boundary(said))?;
            for part in multipart::parts(&body, boundary)? {
                // Fields that are no inputs are a handler's own.
                let Some(position) = inputs.place(&part.name) else { continue };
                let form = Form::of(&part.content_type);
                inputs.read_bytes(position, &part.content, written(form, &part.content), lease)?;
            }
        }
        // `curl -d` says so of whatever it sends.
        "application/x-www-form-urlencoded" if !looks_like_json(&body) => {
            let text = std::str::from_utf8(&body).map_err(|_| no_form())?;
            for (name, value) in form::pairs(text) {
                let Some(position) = inputs.place(&name) else { continue };
                let value = Bytes::copy_from_slice(value.as_bytes());
                inputs.read_bytes(position, &value, Form::Text, lease)?;
            }
        }
        kind => {
            let form = Form::of(kind);
            let text_model = matches!(&*signature.inputs, [only] if only.dtype.size().is_none());
            let json = match form {
                Form::Json => true,
                Form::Raw => false,
                Form::Text | Form::Unsaid => {
                    looks_like_json(&body) || (form == Form::Text && !text_model)
                }
            };
            if json && !body.starts_with(npy::MAGIC) {
                return document(&body, inputs, signature, depth, lease);
            }
            let position = inputs.only("the body")?;
            inputs.read_bytes(position, &body, form, lease)?;
        }
    }
    let (tensors, sent) = inputs.finish()?;
    Ok(decoded(tensors, sent.into()))
}

/// Decodes the parts of a call: each an input by its name, without a content type. An only one that holds a
/// JSON document is what a body would be.
///
/// # Errors
/// As [`decode`].
pub fn decode_parts(
    parts: &[(String, Bytes)],
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    let mut inputs = Inputs::new(signature, limits.json_depth);
    if let [(name, value)] = parts
        && matches!(&**name, "data" | "body")
        && looks_like_json(value)
    {
        return document(value, inputs, signature, limits.json_depth, lease);
    }
    for (name, value) in parts {
        let Some(position) = inputs.place(name) else { continue };
        inputs.read_bytes(position, value, Form::Unsaid, lease)?;
    }
    let (tensors, sent) = inputs.finish()?;
    Ok(decoded(tensors, sent.into()))
}

/// A file of a form comes with a content type that its client guessed from the file's name: what looks
/// like JSON is JSON there.
fn written(form: Form, content: &[u8]) -> Form {
    match form {
        Form::Raw if looks_like_json(content) && std::str::from_utf8(content).is_ok() => {
            Form::Unsaid
        }
        form => form,
    }
}

impl From<Sent> for Carriage {
    fn from(sent: Sent) -> Self {
        match sent {
            Sent::Rows => Self::BareRows,
            Sent::Row => Self::BareRow,
        }
    }
}

fn decoded(inputs: smallvec::SmallVec<[dukou_types::Tensor; 2]>, carriage: Carriage) -> Decoded {
    Decoded { inputs, outputs: Requested::All, carriage, ..Decoded::default() }
}

/// A JSON body: a bare value, `{"instances": rows}`, `{"data": value}`, or the inputs by name, which may
/// stand in `inputs`.
fn document(
    body: &Bytes,
    mut inputs: Inputs<'_>,
    signature: &Signature,
    depth: usize,
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    let mut scanner = Scanner::new(body, depth, true);
    if !object_stands(&mut scanner) {
        // Bare rows of several inputs are objects with their names.
        if signature.inputs.len() > 1 {
            let mut values = Values::new(signature, body);
            let mut whole = || -> Result<(), Stop> {
                values.read_rows(&mut scanner, "the body", lease)?;
                scanner.end().map_err(Stop::from)
            };
            whole().map_err(|stop| stop.in_body(body))?;
            return Ok(decoded(values.finish("the body")?, Carriage::BareRows));
        }
        let position = inputs.only("the body")?;
        inputs.read_bytes(position, body, Form::Json, lease)?;
        let (tensors, sent) = inputs.finish()?;
        return Ok(decoded(tensors, sent.into()));
    }
    let mut rows: Option<Values<'_>> = None;
    let mut whole = || -> Result<(), Stop> {
        scanner.object(|scanner, key| {
            if signature.input(&key).is_none() {
                if key == "instances" {
                    let mut values = Values::new(signature, body);
                    values.read_rows(scanner, &key, lease)?;
                    return match rows.replace(values) {
                        None => Ok(()),
                        Some(_) => Err(twice(&key)),
                    };
                }
                if key == "inputs" && object_stands(scanner) {
                    return scanner
                        .object(|scanner, key| member(&mut inputs, scanner, &key, body, lease));
                }
            }
            member(&mut inputs, scanner, &key, body, lease)
        })?;
        scanner.end().map_err(Stop::from)
    };
    whole().map_err(|stop| stop.in_body(body))?;
    if let Some(values) = rows {
        return Ok(decoded(values.finish("instances")?, Carriage::Rows));
    }
    let (tensors, sent) = inputs.finish()?;
    Ok(decoded(tensors, sent.into()))
}

/// A value under a name; what is no input is a handler's own and passed over.
fn member(
    inputs: &mut Inputs<'_>,
    scanner: &mut Scanner<'_>,
    key: &str,
    body: &Bytes,
    lease: &mut Lease<'_>,
) -> Result<(), Stop> {
    let position = inputs.place(key).or_else(|| {
        // A whole tensor for the only input.
        (key == "inputs").then(|| inputs.only("`inputs`").ok()).flatten()
    });
    match position {
        Some(position) => inputs.read_json(position, scanner, body, lease),
        None => scanner.skip().map_err(Stop::from),
    }
}

#[cold]
fn twice(key: &str) -> Stop {
    Stop::new(ErrorCode::WireInvalidField, format!("{} stands twice in one object", quoted(key)))
}

#[cold]
fn no_form() -> Failure {
    Failure::new(ErrorCode::WireInvalidField, "the body is no form: it is not UTF-8")
}

#[cfg(test)]
#[path = "decode_test.rs"]
mod tests;
