//! A predict request's body, against the signature of the version that will answer it.

use bytes::Bytes;
use dukou_types::{Buffer, ErrorCode, Failure, Requested, Signature};

use super::{
    SIGNATURE, Values,
    example_json::{self, telling_of},
};
use crate::{
    Carriage, DecodeLimits, Decoded,
    json::{Scanner, Stop},
    rope,
    sentence::quoted,
};

/// Decodes a predict request's body, `instances` (a row an element) or `inputs` (whole tensors), or what
/// the path's verb takes instead: `examples`.
///
/// Arguments are those of [`crate::v2::decode`]. Keys that the protocol does not have are passed over,
/// and so is what follows the object, as TensorFlow Serving does.
///
/// # Errors
/// Whatever is wrong with the body, by its code and with both sides of a mismatch.
pub fn decode(
    rope: &[Bytes],
    path: &str,
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut dyn FnMut(usize, usize) -> Buffer,
) -> Result<Decoded, Failure> {
    let total = rope::admitted(rope, limits)?;
    let body = rope::gather(rope, 0..total);
    if body.is_empty() {
        let message = "JSON Parse error: The document is empty";
        return Err(Failure::new(ErrorCode::WireInvalidJson, message));
    }
    if let Some(telling) = telling_of(path) {
        return example_json::decode(&body, telling, signature, limits, lease);
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
            let carriage = if key == "instances" { Carriage::Rows } else { Carriage::Columns };
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
        "signature_name" => read_signature_name(scanner),
        _ => scanner.skip().map_err(Stop::from),
    })
}

/// Reads the name of the only signature that a model has.
pub(super) fn read_signature_name(scanner: &mut Scanner<'_>) -> Result<(), Stop> {
    let name = scanner
        .text()
        .map_err(|fault| fault.in_field(scanner.body(), "`signature_name`", "a string"))?;
    if name.is_empty() || name == SIGNATURE {
        return Ok(());
    }
    let said = quoted(&name);
    let message = format!(
        "Serving signature name: \"{}\" not found in signature def; there is `{SIGNATURE}`",
        said.trim_matches('`')
    );
    Err(Stop::new(ErrorCode::WireInvalidField, message))
}
