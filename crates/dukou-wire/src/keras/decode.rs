//! A body of a Keras server, against the signature of the version that will answer it.

use std::sync::Arc;

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, Requested, Signature, Tensor};
use http::{HeaderMap, header::CONTENT_TYPE};

use super::{
    npy,
    picture::{self, Wanted},
};
use crate::{
    Carriage, DecodeLimits, Decoded, Truth,
    json::{Scanner, Stop},
    multipart, rope,
    sentence::quoted,
    tensorflow::{Lease, Values, object_stands},
};

/// Decodes a body; whether the answers are to be scored, the path says.
///
/// # Errors
/// Whatever is wrong with the body, by its code and with both sides of a mismatch.
pub fn decode(
    rope: &[Bytes],
    (path, headers): (&str, &HeaderMap),
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    let total = rope::admitted(rope, limits)?;
    let scored = path.ends_with("/evaluate");
    let body = rope::gather(rope, 0..total);
    let decoded = |inputs, carriage| Decoded {
        inputs,
        outputs: Requested::All,
        carriage,
        ..Decoded::default()
    };
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let form = content_type.filter(|kind| multipart::is_form(kind));
    let is_array = form.is_some() || body.starts_with(npy::MAGIC) || picture::is_one(&body);
    if is_array {
        if scored {
            let message = "neither an NPY array nor a picture holds labels; send JSON with `instances` and `labels`";
            return Err(Failure::new(ErrorCode::WireMissingField, message));
        }
        let tensor = match form {
            Some(content_type) => read_form(&body, content_type, signature, limits, lease)?,
            None if body.starts_with(npy::MAGIC) => npy::read(&body, signature, lease)?,
            None => picture::read(&[body], Wanted::default(), signature, limits, lease)?,
        };
        return Ok(decoded([tensor].into_iter().collect(), Carriage::Predictions));
    }
    let mut scanner = Scanner::new(&body, limits.json_depth, true);
    let mut values = Values::new(signature, &body);
    let mut found = Found::default();
    found.read(&mut scanner, &mut values, lease).map_err(|stop| stop.in_body(&body))?;
    let Some(field) = found.field else {
        let message = "the body lacks `instances` (a row an element) or `inputs` (whole tensors)";
        return Err(Failure::new(ErrorCode::WireMissingField, message));
    };
    let carriage = match (scored, found.truth) {
        (false, _) => Carriage::Predictions,
        (true, Some(truth)) => Carriage::Scores(Arc::new(truth)),
        (true, None) => {
            let message = "the body lacks `labels`: the truth of each row";
            return Err(Failure::new(ErrorCode::WireMissingField, message));
        }
    };
    Ok(decoded(values.finish(field)?, carriage))
}

/// A form's pictures, a row each, and how its other fields want them; or its one NPY array.
fn read_form(
    body: &Bytes,
    content_type: &str,
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut Lease<'_>,
) -> Result<Tensor, Failure> {
    let boundary = multipart::boundary(content_type)
        .ok_or_else(|| multipart::without_boundary(content_type))?;
    let (mut pictures, mut wanted) = (Vec::new(), Wanted::default());
    for part in multipart::parts(body, boundary)? {
        match &*part.name {
            "resize" | "scale" => wanted.read(&part.name, &part.content)?,
            _ if part.content.starts_with(npy::MAGIC) && pictures.is_empty() => {
                return npy::read(&part.content, signature, lease);
            }
            _ if picture::is_one(&part.content) => pictures.push(part.content),
            name => {
                let message = format!(
                    "the form's part {} is no picture that is read here (PNG or JPEG), no NPY array, and neither `resize` nor `scale`",
                    quoted(name)
                );
                return Err(Failure::new(ErrorCode::WireInvalidField, message));
            }
        }
    }
    picture::read(&pictures, wanted, signature, limits, lease)
}

/// What stood in the body.
#[derive(Default)]
struct Found {
    field: Option<&'static str>,
    truth: Option<Truth>,
}

impl Found {
    fn read(
        &mut self,
        scanner: &mut Scanner<'_>,
        values: &mut Values<'_>,
        lease: &mut Lease<'_>,
    ) -> Result<(), Stop> {
        if scanner.peek() == b'[' {
            self.field = Some("the list");
            values.read_rows(scanner, "the list", lease)?;
            return scanner.end().map_err(Stop::from);
        }
        if !object_stands(scanner) {
            let fault = scanner.other_kind();
            return Err(fault.in_field(scanner.body(), "the body", "an object or a list of rows"));
        }
        scanner.object(|scanner, key| {
            let field = match &*key {
                "instances" => "instances",
                "data" => "data",
                "inputs" => "inputs",
                "labels" | "targets" => {
                    self.truth = Some(read_truth(scanner, &key)?);
                    return Ok(());
                }
                _ => return scanner.skip().map_err(Stop::from),
            };
            if let Some(before) = self.field.replace(field) {
                return Err(Stop::new(
                    ErrorCode::WireInvalidField,
                    format!("a body has one of `instances`, `data` and `inputs`; `{before}` and `{field}` came"),
                ));
            }
            if field == "inputs" {
                values.read_columns(scanner, field, lease)
            } else {
                values.read_rows(scanner, field, lease).map(drop)
            }
        })?;
        scanner.end().map_err(Stop::from)
    }
}

/// The truth of each row: numbers, texts, or one list with a one among zeros for each.
fn read_truth(scanner: &mut Scanner<'_>, key: &str) -> Result<Truth, Stop> {
    let mut truth = Truth::default();
    let mistaken = |scanner: &mut Scanner<'_>| {
        let fault = scanner.other_kind();
        fault.in_field(
            scanner.body(),
            &format!("`{key}`"),
            "a list of numbers, texts or one-hot lists",
        )
    };
    if scanner.peek() != b'[' {
        return Err(mistaken(scanner));
    }
    scanner.list(|scanner| {
        match scanner.peek() {
            b'"' => truth.push_text(&scanner.text()?),
            b'[' => {
                let (mut largest, mut place, mut at) = (f64::NEG_INFINITY, 0, 0);
                scanner.list(|scanner| {
                    let number = scanner.number().map_err(Stop::from)?;
                    if number > largest {
                        (largest, place) = (number, at);
                    }
                    at += 1;
                    Ok::<_, Stop>(())
                })?;
                truth.push_number(f64::from(u32::try_from(place).unwrap_or(u32::MAX)));
            }
            b't' | b'f' => truth.push_number(f64::from(u8::from(scanner.boolean()?))),
            b'-' | b'0'..=b'9' => truth.push_number(scanner.number()?),
            _ => return Err(mistaken(scanner)),
        }
        Ok(())
    })?;
    Ok(truth)
}
