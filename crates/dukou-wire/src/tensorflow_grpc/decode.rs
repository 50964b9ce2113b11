//! A request's message, against the signature of the version that will answer it.

use std::borrow::Cow;

use bytes::Bytes;
use dukou_types::{Buffer, ErrorCode, Failure, Requested, Signature, Tensor};
use smallvec::SmallVec;

use super::{PREDICTIONS, address::Spec, examples, tensor};
use crate::{
    Carriage, DecodeLimits, Decoded, Telling,
    grpc::{Fields, Part, method_of},
    sentence::quoted,
    tensorflow::{SIGNATURE, check_shapes},
};

/// Names that a refusal shows at most.
const SHOWN: usize = 16;

/// Decodes a request of the method at `path`. The other arguments are those of [`crate::v2::decode`];
/// `message` is what stands in the envelope.
///
/// # Errors
/// Whatever is wrong with the message, by its code and with both sides of a mismatch.
pub fn decode(
    message: &[Bytes],
    path: &str,
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut dyn FnMut(usize, usize) -> Buffer,
) -> Result<Decoded, Failure> {
    match method_of(path, PREDICTIONS) {
        Some("Classify") => examples::decode(message, Telling::Classes, (signature, limits), lease),
        Some("Regress") => examples::decode(message, Telling::Values, (signature, limits), lease),
        Some("MultiInference") => examples::decode_several(message, (signature, limits), lease),
        _ => predict(message, signature, limits, lease),
    }
}

fn predict(
    message: &[Bytes],
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut dyn FnMut(usize, usize) -> Buffer,
) -> Result<Decoded, Failure> {
    check_signature(&Spec::of(message)?.signature)?;
    let mut inputs: SmallVec<[(Cow<'_, str>, Part<'_>); 2]> = SmallVec::new();
    let mut outputs: SmallVec<[usize; 4]> = SmallVec::new();
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        match field.number {
            2 => {
                let (name, tensor) = entry(field.part("inputs")?)?;
                // Of two entries with one name, the later one counts.
                inputs.retain(|(before, _)| *before != name);
                inputs.push((name, tensor));
                // So many names are known to be wrong, and each one more would be compared with all.
                if inputs.len() > signature.inputs.len() + SHOWN {
                    return Err(mismatch(&inputs, signature));
                }
            }
            3 => {
                let name = field.text("output_filter")?;
                outputs.push(filtered(&name, signature, &outputs)?);
            }
            _ => {}
        }
    }
    let agree = inputs.len() == signature.inputs.len()
        && inputs.iter().all(|(name, _)| signature.input(name).is_some());
    if !agree {
        return Err(mismatch(&inputs, signature));
    }
    let mut tensors: SmallVec<[Tensor; 2]> = SmallVec::new();
    for (position, spec) in signature.inputs.iter().enumerate() {
        let Some((_, part)) = inputs.iter().find(|(name, _)| **name == *spec.name) else {
            return Err(mismatch(&inputs, signature));
        };
        let mut lease = |bytes| lease(position, bytes);
        tensors.push(tensor::read(*part, spec, limits.body_bytes, &mut lease)?);
    }
    check_shapes(&signature.inputs, &tensors)?;
    Ok(Decoded {
        inputs: tensors,
        outputs: if outputs.is_empty() { Requested::All } else { Requested::Only(outputs) },
        carriage: Carriage::Message,
        ..Decoded::default()
    })
}

/// Refuses a signature that no model here has.
pub(super) fn check_signature(name: &str) -> Result<(), Failure> {
    if name.is_empty() || name == SIGNATURE {
        return Ok(());
    }
    let name = quoted(name);
    let message = format!("Serving signature key \"{}\" not found.", name.trim_matches('`'));
    Err(Failure::new(ErrorCode::WireInvalidField, message))
}

/// An entry of a map of tensors.
pub(super) fn entry<'a>(part: Part<'a>) -> Result<(Cow<'a, str>, Part<'a>), Failure> {
    let (mut name, mut tensor) = (Cow::Borrowed(""), Part::whole(&[]));
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text("inputs")?,
            2 => tensor = field.part("inputs")?,
            _ => {}
        }
    }
    Ok((name, tensor))
}

/// The position of an output that is asked for.
fn filtered(name: &str, signature: &Signature, before: &[usize]) -> Result<usize, Failure> {
    let shown = quoted(name);
    let shown = shown.trim_matches('`');
    let refuse = |message: String| Err(Failure::new(ErrorCode::RequestUnknownOutput, message));
    match signature.output(name) {
        None => refuse(format!(
            "output tensor alias not found in signature: {shown} Outputs expected to be in the set {{{}}}.",
            names(signature.outputs.iter().map(|spec| &*spec.name))
        )),
        Some(position) if before.contains(&position) => {
            refuse(format!("duplicate output tensor alias: {shown}"))
        }
        Some(position) => Ok(position),
    }
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<String> = names.take(SHOWN).map(quoted).collect();
    names.sort_unstable();
    names.join(",").replace('`', "")
}

/// What was sent against what is taken, in TensorFlow Serving's words.
#[cold]
fn mismatch(inputs: &[(Cow<'_, str>, Part<'_>)], signature: &Signature) -> Failure {
    let sent = || inputs.iter().map(|(name, _)| &**name);
    let taken = || signature.inputs.iter().map(|spec| &*spec.name);
    let message = format!(
        "input size does not match signature: {}!={} len({{{}}}) != len({{{}}}). Sent extra: {{{}}}. Missing \
         but required: {{{}}}.",
        inputs.len(),
        signature.inputs.len(),
        names(sent()),
        names(taken()),
        names(sent().filter(|name| signature.input(name).is_none())),
        names(taken().filter(|name| !sent().any(|other| other == *name))),
    );
    Failure::new(ErrorCode::RequestMissingInput, message)
}
