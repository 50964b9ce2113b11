//! The other side: a predict request written, an answer read, and what a server says of a model.

use bytes::Bytes;
use dukou_types::{DType, Dim, Failure, Signature, Tensor, TensorSpec};
use prost::Message as _;

use super::{
    MODELS, PREDICTIONS,
    describe::{self, SignatureDefMap, TensorInfo},
    tensor::{field_of, number_of, read_as},
};
use crate::{
    DecodeLimits,
    grpc::{self, Fields, PREFIX, Part, push_bytes, push_length, push_message, push_number},
    peer::{Named, Page, Question, Written},
    plain::check_outputs,
    tensorflow::{SIGNATURE, lacking, rankless},
    v2::Answer,
};

/// Where an inference is asked.
pub(crate) fn infer_path() -> String {
    format!("/{PREDICTIONS}/Predict")
}

/// Appends a `ModelSpec`: a number is a version, anything else a label.
fn push_spec(out: &mut Vec<u8>, named: Named<'_>) {
    push_message(out, 1, |spec| {
        push_bytes(spec, 1, named.model.as_bytes());
        match named.version.map(|version| (version, version.parse::<i64>())) {
            None => {}
            Some((_, Ok(number))) => {
                push_message(spec, 2, |wrapped| push_number(wrapped, 1, number as u64));
            }
            Some((label, Err(_))) => push_bytes(spec, 4, label.as_bytes()),
        }
    });
}

/// A predict request; elements go as raw bytes.
pub(crate) fn encode_request(named: Named<'_>, question: &Question<'_>) -> Written {
    let mut out = vec![0; PREFIX];
    push_spec(&mut out, named);
    for tensor in question.inputs {
        push_message(&mut out, 2, |entry| {
            push_bytes(entry, 1, tensor.name.as_bytes());
            push_message(entry, 2, |proto| push_tensor(proto, tensor));
        });
    }
    for name in question.outputs {
        push_bytes(&mut out, 3, name.as_bytes());
    }
    grpc::call(out)
}

fn push_tensor(out: &mut Vec<u8>, tensor: &Tensor) {
    push_number(out, 1, number_of(tensor.dtype));
    push_message(out, 2, |shape| {
        for &extent in &tensor.shape {
            push_message(shape, 2, |dim| push_number(dim, 1, extent as u64));
        }
    });
    match tensor.strings() {
        None => push_bytes(out, 4, tensor.bytes().unwrap_or_default()),
        Some(strings) => {
            let (field, _) = field_of(DType::Bytes);
            for string in strings {
                push_length(out, field, string.len());
                out.extend_from_slice(string);
            }
        }
    }
}

/// Reads a predict answer's message.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn decode_response(
    message: &[Bytes],
    signature: &Signature,
    limits: &DecodeLimits,
) -> Result<Answer, Failure> {
    let mut answer = Answer::default();
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        match field.number {
            1 => {
                let (name, part) = super::decode::entry(field.part("outputs")?)?;
                // What nobody declared is nobody's matter.
                let Some(position) = signature.output(&name) else { continue };
                let spec = &signature.outputs[position];
                let mut lease = dukou_types::Buffer::zeroed;
                let tensor = read_as("output", part, spec, limits.body_bytes, &mut lease)?;
                // Of two entries with one name, the later one counts, and one is kept.
                answer.outputs.retain(|before| before.name != tensor.name);
                answer.outputs.push(tensor);
            }
            2 => answer.version = read_version(field.part("model_spec")?)?,
            _ => {}
        }
    }
    check_outputs(&answer.outputs, &signature.outputs)?;
    Ok(answer)
}

/// The number of the version that answered; empty where it is not said.
fn read_version(spec: Part<'_>) -> Result<String, Failure> {
    let mut version = String::new();
    let mut fields = Fields::of(spec);
    while let Some(field) = fields.next()? {
        if field.number != 2 {
            continue;
        }
        let mut wrapped = Fields::of(field.part("version")?);
        while let Some(value) = wrapped.next()? {
            if value.number == 1 {
                version = (value.number("version")? as i64).to_string();
            }
        }
    }
    Ok(version)
}

/// What is asked to know whether a model answers.
pub(crate) fn status_page(named: Named<'_>) -> Page {
    let mut out = vec![0; PREFIX];
    push_spec(&mut out, named);
    Page { path: format!("/{MODELS}/GetModelStatus"), message: Some(grpc::call(out).body) }
}

/// Whether the model's status says that it answers.
///
/// # Errors
/// Why it does not.
pub(crate) fn check_status(message: &[Bytes]) -> Result<(), String> {
    let states = describe::states(&message.concat())
        .map_err(|error| format!("its status is not TensorFlow Serving's: {error}"))?;
    match states.first() {
        None => Err("its status names no version".to_owned()),
        Some(_) if states.contains(&"AVAILABLE") => Ok(()),
        Some(state) => Err(format!("the model is {state}")),
    }
}

/// What is asked to know what a model takes and gives.
pub(crate) fn metadata_page(named: Named<'_>) -> Page {
    let mut out = vec![0; PREFIX];
    push_spec(&mut out, named);
    push_bytes(&mut out, 2, b"signature_def");
    Page { path: format!("/{PREDICTIONS}/GetModelMetadata"), message: Some(grpc::call(out).body) }
}

/// Reads a model's signatures; inputs and outputs come in the order of their names.
///
/// # Errors
/// What in it is not as the protocol has it, or cannot be asked for.
pub(crate) fn parse_signature(message: &[Bytes]) -> Result<Signature, String> {
    let wrong = |error| format!("its metadata is not TensorFlow Serving's: {error}");
    let packed = describe::signatures(&message.concat()).map_err(wrong)?;
    let packed = packed.ok_or("its metadata has no `signature_def`")?;
    let mut map = SignatureDefMap::decode(&*packed).map_err(wrong)?.signature_def;
    let definition = map.remove(SIGNATURE).ok_or_else(|| lacking(map.keys()))?;
    let specs = |infos: std::collections::BTreeMap<String, TensorInfo>| {
        infos.into_iter().map(|(name, info)| spec(name, &info)).collect::<Result<Vec<_>, String>>()
    };
    let (inputs, outputs) = (specs(definition.inputs)?, specs(definition.outputs)?);
    Ok(Signature { inputs, outputs, batchable: false })
}

fn spec(name: String, info: &TensorInfo) -> Result<TensorSpec, String> {
    let number = u64::try_from(info.dtype).unwrap_or(0);
    let dtype = DType::ALL.into_iter().find(|&dtype| number_of(dtype) == number);
    let dtype =
        dtype.ok_or_else(|| format!("`{name}` has the DataType {number}, which is none here"))?;
    let shape = info.tensor_shape.as_ref().filter(|shape| !shape.unknown_rank);
    let shape = shape.ok_or_else(|| rankless(&name))?;
    let dim = |size: i64| usize::try_from(size).map_or(Dim::Any(()), Dim::Fixed);
    let shape = shape.dim.iter().map(|extent| dim(extent.size)).collect();
    Ok(TensorSpec { name: name.into(), dtype, shape })
}
