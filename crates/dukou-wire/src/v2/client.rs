//! The other side of the wire: a request written, an answer read.
//!
//! The load generator, golden samples, the `remote` backend and tests speak through it.

use std::sync::Arc;

use bytes::Bytes;
use dukou_types::{Buffer, DType, ErrorCode, Failure, Param, Signature, Tensor};
use http::HeaderMap;

use super::{
    binary::{RawData, push_raw},
    decode::open,
    encode::{push_list, push_parameters, push_tensors},
    parameters::{Once, list_or, object_or},
    tensor::{ReadTensor, Rules, read_tensor},
};
use crate::{
    DecodeLimits, Encoded,
    json::{Scanner, Stop, push_text},
    sentence::quoted,
};

/// What a request says besides its inputs.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestOptions<'a> {
    /// The client's own id.
    pub client_id: Option<&'a str>,
    /// Parameters: `priority`, `timeout` in microseconds, and the caller's own.
    pub parameters: &'a [(Arc<str>, Param)],
    /// The outputs to ask for; all where empty.
    pub outputs: &'a [&'a str],
    /// Whether inputs travel as raw bytes, and outputs are asked for so.
    pub binary: bool,
}

/// Appends an inference's body to `out`.
///
/// # Errors
/// Where an input cannot travel as JSON: `wire.unsupported-dtype` for FP16, BF16 and `BYTES` that are
/// not UTF-8, `wire.not-a-number` for NaN and the infinities.
pub fn encode_request(
    inputs: &[Tensor],
    options: &RequestOptions<'_>,
    out: &mut Vec<u8>,
) -> Result<Encoded, Failure> {
    let before = out.len();
    out.push(b'{');
    if let Some(id) = options.client_id {
        out.extend_from_slice(b"\"id\":");
        push_text(out, id);
        out.push(b',');
    }
    let mut parameters = options.parameters.to_vec();
    if options.binary && options.outputs.is_empty() {
        parameters.push(("binary_data_output".into(), Param::Bool(true)));
    }
    if !parameters.is_empty() {
        out.extend_from_slice(b"\"parameters\":");
        push_parameters(out, &parameters);
        out.push(b',');
    }
    out.extend_from_slice(b"\"inputs\":");
    let binary = |_| options.binary;
    let finite = if options.binary { Ok(()) } else { inputs.iter().try_for_each(check_finite) };
    if let Err(failure) = finite.and_then(|()| push_tensors(out, inputs, "input", &binary)) {
        out.truncate(before);
        return Err(failure);
    }
    if !options.outputs.is_empty() {
        out.extend_from_slice(b",\"outputs\":");
        push_list(out, options.outputs.iter(), |out, name| {
            out.extend_from_slice(b"{\"name\":");
            push_text(out, name);
            if options.binary {
                out.extend_from_slice(b",\"parameters\":{\"binary_data\":true}");
            }
            out.push(b'}');
        });
    }
    out.push(b'}');
    let json = out.len() - before;
    if options.binary {
        inputs.iter().for_each(|input| push_raw(out, input));
    }
    Ok(Encoded {
        header_length: (options.binary && !inputs.is_empty()).then_some(json),
        ..Encoded::default()
    })
}

fn check_finite(tensor: &Tensor) -> Result<(), Failure> {
    let bytes = tensor.bytes().unwrap_or_default();
    let finite = match tensor.dtype {
        DType::Fp32 => bytes
            .chunks_exact(4)
            .all(|chunk| bytemuck::pod_read_unaligned::<f32>(chunk).is_finite()),
        DType::Fp64 => bytes
            .chunks_exact(8)
            .all(|chunk| bytemuck::pod_read_unaligned::<f64>(chunk).is_finite()),
        _ => true,
    };
    if finite {
        return Ok(());
    }
    let message = format!(
        "input {} holds NaN or an infinity, which JSON does not have; send it as binary tensor data",
        quoted(&tensor.name)
    );
    Err(Failure::new(ErrorCode::WireNotANumber, message))
}

/// An answer as it was read.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The client's own id, given back.
    pub client_id: Option<String>,
    /// The model that answered.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The outputs, in the order in which they came.
    pub outputs: Vec<Tensor>,
}

/// Reads an answer's body; `null` in floating data is NaN, and bare `NaN` and infinities are
/// themselves, as some servers write them. Where a signature is given, names, dtypes and shapes must
/// be of it.
///
/// # Errors
/// What is wrong with the body.
pub fn decode_response(
    rope: &[Bytes],
    headers: &HeaderMap,
    signature: Option<&Signature>,
    limits: &DecodeLimits,
) -> Result<Answer, Failure> {
    let (json, header_length) = open(rope, headers, limits)?;
    let mut scanner = Scanner::new(&json, limits.json_depth, true);
    let rules = Rules {
        specs: signature.map(|signature| &*signature.outputs),
        noun: "output",
        halves_as_numbers: true,
        body: &json,
    };
    let (mut answer, read) =
        read_answer(&mut scanner, rules).map_err(|stop| stop.in_body(&json))?;
    let mut raw = RawData::new(rope, header_length);
    for tensor in read {
        answer.outputs.push(raw.fill(tensor, "output", &mut fresh)?);
    }
    raw.end()?;
    Ok(answer)
}

/// A buffer from nowhere in particular.
fn fresh(_position: usize, bytes: usize) -> Buffer {
    Buffer::zeroed(bytes)
}

fn read_answer(
    scanner: &mut Scanner<'_>,
    rules: Rules<'_>,
) -> Result<(Answer, Vec<ReadTensor>), Stop> {
    let (mut answer, mut outputs, mut once) = (Answer::default(), None, Once::default());
    object_or(scanner, "the body")?;
    scanner.object(|scanner, key| {
        match &*key {
            "id" => {
                once.note(0, &key)?;
                if !scanner.null()? {
                    answer.client_id = Some(text(scanner, "`id`")?);
                }
            }
            "model_name" => {
                once.note(1, &key)?;
                answer.model = text(scanner, "`model_name`")?;
            }
            "model_version" => {
                once.note(2, &key)?;
                if !scanner.null()? {
                    answer.version = text(scanner, "`model_version`")?;
                }
            }
            "outputs" => {
                once.note(3, &key)?;
                outputs = Some(read_list(scanner, rules, "`outputs`")?);
            }
            _ => scanner.skip()?,
        }
        Ok::<_, Stop>(())
    })?;
    scanner.end()?;
    match outputs {
        Some(outputs) => Ok((answer, outputs)),
        None => {
            Err(Stop::new(ErrorCode::WireMissingField, "the answer lacks `outputs`".to_owned()))
        }
    }
}

fn text(scanner: &mut Scanner<'_>, field: &str) -> Result<String, Stop> {
    let text = scanner.text().map_err(|fault| fault.in_field(scanner.body(), field, "a string"))?;
    Ok(text.into_owned())
}

fn read_list(
    scanner: &mut Scanner<'_>,
    rules: Rules<'_>,
    field: &str,
) -> Result<Vec<ReadTensor>, Stop> {
    let mut tensors = Vec::new();
    list_or(scanner, field)?;
    scanner.list(|scanner| {
        tensors.push(read_tensor(scanner, rules, &mut fresh)?);
        Ok::<_, Stop>(())
    })?;
    Ok(tensors)
}

/// Reads a bare list of V2 tensor objects, `[{"name","datatype","shape","data"}]`, as golden samples
/// hold them. `allow_non_finite` takes bare `NaN`, `Infinity` and `-Infinity`; FP16 and BF16 may stand
/// as numbers.
///
/// # Errors
/// What is wrong with the text.
pub fn parse_tensors(json: &[u8], allow_non_finite: bool) -> Result<Vec<Tensor>, Failure> {
    let body = Bytes::copy_from_slice(json);
    let mut scanner = Scanner::new(&body, 100, allow_non_finite);
    let rules = Rules { specs: None, noun: "tensor", halves_as_numbers: true, body: &body };
    let read = read_list(&mut scanner, rules, "the body").and_then(|read| {
        scanner.end()?;
        Ok(read)
    });
    let mut raw = RawData::new(&[], None);
    let read = read.map_err(|stop| stop.in_body(&body))?;
    read.into_iter().map(|read| raw.fill(read, "tensor", &mut fresh)).collect()
}

/// The code and the sentence of a failure's body: both where dukou wrote it, the sentence alone where
/// another server did.
pub fn decode_error(body: &[u8]) -> Option<(Option<String>, String)> {
    let mut scanner = Scanner::new(body, 100, true);
    let (mut code, mut message) = (None, None);
    scanner
        .object(|scanner, key| {
            match &*key {
                "error" => message = Some(text(scanner, "`error`")?),
                "code" => code = Some(text(scanner, "`code`")?),
                _ => scanner.skip()?,
            }
            Ok::<_, Stop>(())
        })
        .ok()?;
    Some((code, message?))
}
