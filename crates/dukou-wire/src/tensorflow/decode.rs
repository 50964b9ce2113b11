//! A predict request's body, against the signature of the version that will answer it.

use bytes::Bytes;
use dukou_types::{Buffer, ErrorCode, Failure, Requested, Signature};

use super::{SIGNATURE, Values};
use crate::{
    Carriage, DecodeLimits, Decoded,
    json::{Scanner, Stop},
    rope,
    sentence::{counted, quoted},
};

/// Decodes a predict request's body: `instances` (a row an element) or `inputs` (whole tensors).
///
/// Arguments are those of [`crate::v2::decode`]. Keys that the protocol does not have are passed over,
/// and so is what follows the object, as TensorFlow Serving does.
///
/// # Errors
/// Whatever is wrong with the body, by its code and with both sides of a mismatch.
pub fn decode(
    rope: &[Bytes],
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut dyn FnMut(usize, usize) -> Buffer,
) -> Result<Decoded, Failure> {
    let total = rope::length(rope);
    if total > limits.body_bytes {
        let message =
            format!("the body has {}; the limit is {}", counted(total, "byte"), limits.body_bytes);
        return Err(Failure::new(ErrorCode::RequestBodyTooLarge, message));
    }
    let body = rope::gather(rope, 0..total);
    if body.is_empty() {
        let message = "JSON Parse error: The document is empty";
        return Err(Failure::new(ErrorCode::WireInvalidJson, message));
    }
    // Bare `NaN` and `Infinity` are numbers here.
    let mut scanner = Scanner::new(&body, limits.json_depth, true);
    let mut values = Values::new(signature, &body);
    let mut format = None;
    read(&mut scanner, &mut values, &mut format, lease).map_err(|stop| stop.in_body(&body))?;
    let Some(carriage) = format else {
        let message = "Missing 'inputs' or 'instances' key";
        return Err(Failure::new(ErrorCode::WireMissingField, message));
    };
    let field = if carriage == Carriage::Rows { "instances" } else { "inputs" };
    Ok(Decoded {
        inputs: values.finish(field)?,
        outputs: Requested::All,
        carriage,
        ..Decoded::default()
    })
}

fn read(
    scanner: &mut Scanner<'_>,
    values: &mut Values<'_>,
    format: &mut Option<Carriage>,
    lease: &mut dyn FnMut(usize, usize) -> Buffer,
) -> Result<(), Stop> {
    if scanner.peek() != b'{' {
        let fault = scanner.other_kind();
        return Err(fault.in_field(scanner.body(), "the body", "an object"));
    }
    scanner.object(|scanner, key| match &*key {
        "instances" | "inputs" => {
            let carriage =
                if key == "instances" { Carriage::Rows } else { Carriage::Columns };
            if format.replace(carriage).is_some() {
                return Err(Stop::new(
                    ErrorCode::WireInvalidField,
                    "a request has either `instances` or `inputs`, once; more came".to_owned(),
                ));
            }
            if key == "instances" {
                values.read_rows(scanner, &key, lease).map(drop)
            } else {
                values.read_columns(scanner, &key, lease)
            }
        }
        "signature_name" => {
            let name = scanner
                .text()
                .map_err(|fault| fault.in_field(scanner.body(), "`signature_name`", "a string"))?;
            if !(name.is_empty() || name == SIGNATURE) {
                let said = quoted(&name);
                let message = format!(
                    "Serving signature name: \"{}\" not found in signature def; there is `{SIGNATURE}`",
                    said.trim_matches('`')
                );
                return Err(Stop::new(ErrorCode::WireInvalidField, message));
            }
            Ok(())
        }
        _ => scanner.skip().map_err(Stop::from),
    })
}
