//! Classify, Regress and MultiInference: requests of `tf.Example`s, and answers of classes and values.

use std::borrow::Cow;

use bytes::Bytes;
use dukou_types::{Buffer, DType, ErrorCode, Failure, InferResponse, Signature};

use super::{address::Spec, decode::check_signature, encode::push_spec};
use crate::{
    Carriage, DecodeLimits, Decoded, EncodeContext, Telling,
    grpc::{Fields, Part, Repeated, push_bytes, push_message},
    tensorflow::{Example, Examples, Feature, check_telling, classes, example_tensors, values},
};

/// Gives the buffer for the input at a position of the signature.
type Lease<'l> = dyn FnMut(usize, usize) -> Buffer + 'l;

/// Decodes the examples of a request; `telling` is how its answer is told.
///
/// # Errors
/// Whatever is wrong with the message, and what [`check_telling`] names.
pub(super) fn decode(
    message: &[Bytes],
    telling: Telling,
    (signature, limits): (&Signature, &DecodeLimits),
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    check_signature(&Spec::of(message)?.signature)?;
    decode_input(message, (telling, false), (signature, limits), lease)
}

/// Decodes a request of several inferences over one input. A model has one signature, and none is asked
/// twice: so there is one task.
///
/// # Errors
/// The same; `wire.invalid-field` for a method that is neither.
pub(super) fn decode_several(
    message: &[Bytes],
    (signature, limits): (&Signature, &DecodeLimits),
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    let mut telling = None;
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            let task = field.part("tasks")?;
            check_signature(&Spec::of_task(task)?.signature)?;
            if telling.is_some() {
                return Err(Failure::new(
                    ErrorCode::WireInvalidField,
                    "Duplicate evaluation of signature: serving_default",
                ));
            }
            telling = Some(method(task)?);
        }
    }
    let Some(telling) = telling else {
        return Err(Failure::new(ErrorCode::WireMissingField, "Inference request has no tasks"));
    };
    decode_input(message, (telling, true), (signature, limits), lease)
}

/// How the answer of a task is told.
fn method(task: Part<'_>) -> Result<Telling, Failure> {
    let mut name = Cow::Borrowed("");
    let mut fields = Fields::of(task);
    while let Some(field) = fields.next()? {
        if field.number == 2 {
            name = field.text("method_name")?;
        }
    }
    match &*name {
        "tensorflow/serving/classify" => Ok(Telling::Classes),
        "tensorflow/serving/regress" => Ok(Telling::Values),
        other => {
            let message = format!(
                "Unsupported signature method_name: {}",
                crate::sentence::quoted(other).trim_matches('`')
            );
            Err(Failure::new(ErrorCode::WireInvalidField, message))
        }
    }
}

fn decode_input(
    message: &[Bytes],
    (telling, several): (Telling, bool),
    (signature, limits): (&Signature, &DecodeLimits),
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    check_telling(signature, telling)?;
    let mut examples = Examples::default();
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        if field.number == 2 {
            examples = read_input(field.part("input")?)?;
        }
    }
    let inputs = example_tensors(&examples, signature, limits.body_bytes, lease)?;
    let carriage = Carriage::Results { telling, several };
    Ok(Decoded { inputs, carriage, ..Decoded::default() })
}

/// The examples of an `Input`, and their context where there is one.
fn read_input(input: Part<'_>) -> Result<Examples<'_>, Failure> {
    let mut examples = Examples::default();
    let mut choices = Fields::of(input);
    while let Some(choice) = choices.next()? {
        if !matches!(choice.number, 1 | 2) {
            continue;
        }
        // Of two lists, the later one counts.
        examples = Examples::default();
        let mut fields = Fields::of(choice.part("input")?);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => examples.rows.push(read_example(field.part("examples")?)?),
                2 => examples.context = read_example(field.part("context")?)?,
                _ => {}
            }
        }
    }
    Ok(examples)
}

fn read_example(part: Part<'_>) -> Result<Example<'_>, Failure> {
    let mut example = Example::new();
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            let mut entries = Fields::of(field.part("features")?);
            while let Some(entry) = entries.next()? {
                if entry.number == 1
                    && let Some(named) = read_entry(entry.part("feature")?)?
                {
                    example.push(named);
                }
            }
        }
    }
    Ok(example)
}

/// A feature with its name; none where it holds no list.
fn read_entry(part: Part<'_>) -> Result<Option<(Cow<'_, str>, Feature)>, Failure> {
    let (mut name, mut feature) = (Cow::Borrowed(""), None);
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text("feature")?,
            2 => feature = read_feature(field.part("feature")?)?,
            _ => {}
        }
    }
    Ok(feature.map(|feature| (name, feature)))
}

fn read_feature(part: Part<'_>) -> Result<Option<Feature>, Failure> {
    let mut feature = None;
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        let mut list = Repeated::default();
        let mut values = Fields::of(field.part("feature")?);
        while let Some(value) = values.next()? {
            if value.number == 1 {
                list.push("value", &value);
            }
        }
        feature = Some(match field.number {
            1 => Feature::Bytes(list.strings()?),
            2 => Feature::Floats(numbers(&list, DType::Fp32)?),
            3 => Feature::Integers(numbers(&list, DType::Int64)?),
            _ => continue,
        });
    }
    Ok(feature)
}

fn numbers<T: bytemuck::Pod>(list: &Repeated<'_>, dtype: DType) -> Result<Vec<T>, Failure> {
    let mut buffer = Buffer::zeroed(list.most(dtype) * size_of::<T>());
    let count = list.fill(dtype, &mut buffer, &|| "a feature".to_owned())?;
    Ok(buffer.typed::<T>()[..count].to_vec())
}

/// Appends an answer's message to `out`.
pub(super) fn encode(
    response: &InferResponse,
    context: &EncodeContext<'_>,
    (telling, several): (Telling, bool),
    out: &mut Vec<u8>,
) {
    let spec = |out: &mut Vec<u8>, number| {
        push_message(out, number, |spec| push_spec(spec, context.model, context.version));
    };
    let result = |out: &mut Vec<u8>, number| {
        push_message(out, number, |result| push_result(result, response, context, telling));
    };
    if several {
        push_message(out, 1, |one| {
            spec(one, 1);
            result(one, if telling == Telling::Classes { 2 } else { 3 });
        });
    } else {
        result(out, 1);
        spec(out, 2);
    }
}

/// Appends the fields of a `ClassificationResult` or a `RegressionResult`.
fn push_result(
    out: &mut Vec<u8>,
    response: &InferResponse,
    context: &EncodeContext<'_>,
    telling: Telling,
) {
    match telling {
        Telling::Classes => {
            for row in classes(&response.outputs, context.labels) {
                push_message(out, 1, |classifications| {
                    for (label, score) in row {
                        push_message(classifications, 1, |class| {
                            push_bytes(class, 1, label.as_bytes());
                            push_float(class, 2, score);
                        });
                    }
                });
            }
        }
        Telling::Values => {
            for value in values(&response.outputs) {
                push_message(out, 1, |regression| push_float(regression, 1, value));
            }
        }
    }
}

/// Appends a field of a float; nothing where it is zero.
fn push_float(out: &mut Vec<u8>, number: u8, value: f32) {
    if value.to_bits() != 0 {
        out.push(number << 3 | 5);
        out.extend_from_slice(&value.to_le_bytes());
    }
}
