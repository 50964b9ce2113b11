//! The other side: a request's message written, an answer's read.

use bytes::Bytes;
use dukou_types::{Buffer, DType, Data, Failure, Tensor};

use super::{
    decode::CONTENTS,
    encode::{push_parameter, push_raws, push_tensors},
};
use crate::{
    Encoded,
    grpc::{Fields, Part, Repeated, Value, broken, push_bytes, push_message},
    truths::check_truths,
    v2::{Answer, RequestOptions, raw_strings},
};

/// The most outputs that an answer may have.
const MOST_OUTPUTS: usize = 1024;

/// Appends an inference's message to `out`; inputs go as raw bytes.
pub fn encode_request(
    (model, version): (&str, &str),
    inputs: &[Tensor],
    options: &RequestOptions<'_>,
    out: &mut Vec<u8>,
) -> Encoded {
    push_bytes(out, 1, model.as_bytes());
    push_bytes(out, 2, version.as_bytes());
    push_bytes(out, 3, options.client_id.unwrap_or_default().as_bytes());
    for (name, value) in options.parameters {
        push_parameter(out, 4, name, value);
    }
    push_tensors(out, 5, inputs);
    for name in options.outputs {
        push_message(out, 6, |output| push_bytes(output, 1, name.as_bytes()));
    }
    Encoded { inserts: push_raws(out, 7, inputs), ..Encoded::default() }
}

/// Reads an answer's message; elements are raw bytes, or typed inside the outputs.
///
/// # Errors
/// `wire.invalid-message`, `wire.element-count`.
pub fn decode_response(message: &[Bytes]) -> Result<Answer, Failure> {
    let (mut answer, mut raw, mut typed) = (Answer::default(), Vec::new(), Vec::new());
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        match field.number {
            1 => answer.model = field.text("model_name")?.into_owned(),
            2 => answer.version = field.text("model_version")?.into_owned(),
            3 => {
                let id = field.text("id")?.into_owned();
                answer.client_id = (!id.is_empty()).then_some(id);
            }
            5 => {
                if answer.outputs.len() == MOST_OUTPUTS {
                    return Err(broken(format!("it has more than {MOST_OUTPUTS} outputs")));
                }
                let (tensor, contents) = read_tensor(field.part("outputs")?)?;
                answer.outputs.push(tensor);
                typed.push(contents);
            }
            6 => raw.push(field.part("raw_output_contents")?),
            _ => {}
        }
    }
    if raw.is_empty() {
        for (tensor, contents) in answer.outputs.iter_mut().zip(&typed) {
            tensor.data = read_typed(tensor, contents)?;
        }
        return Ok(answer);
    }
    if raw.len() != answer.outputs.len() {
        return Err(broken(format!(
            "it has {} outputs and {} of `raw_output_contents`",
            answer.outputs.len(),
            raw.len()
        )));
    }
    for (tensor, raw) in answer.outputs.iter_mut().zip(raw) {
        tensor.data = read_data(tensor, raw)?;
    }
    Ok(answer)
}

fn read_data(tensor: &Tensor, raw: Part<'_>) -> Result<Data, Failure> {
    let elements = Tensor::elements(&tensor.shape).unwrap_or(usize::MAX);
    let Some(size) = tensor.dtype.size() else {
        let owner = || format!("output `{}`", tensor.name);
        return raw_strings(&raw.kept(), elements, &owner).map(Data::Strings);
    };
    if elements.checked_mul(size) != Some(raw.len()) {
        return Err(broken(format!(
            "output `{}` has {elements} elements of {} and {} bytes",
            tensor.name,
            tensor.dtype,
            raw.len()
        )));
    }
    let mut buffer = Buffer::zeroed(raw.len());
    raw.copy_to(buffer.bytes_mut());
    check_truths(tensor.dtype, buffer.bytes(), &|| format!("output `{}`", tensor.name))?;
    Ok(Data::Owned(buffer))
}

/// The elements, from the field of their dtype.
fn read_typed(tensor: &Tensor, contents: &Repeated<'_>) -> Result<Data, Failure> {
    let elements = Tensor::elements(&tensor.shape).unwrap_or(usize::MAX);
    let owner = || format!("output `{}`", tensor.name);
    let field = CONTENTS.iter().find(|(_, dtypes)| dtypes.contains(&tensor.dtype));
    let named = field.is_some_and(|(name, _)| *name == contents.name());
    if !named && elements > 0 {
        let dtype = tensor.dtype;
        return Err(broken(format!("{} has no elements of {dtype}", owner())));
    }
    let miscounted =
        |came: usize| broken(format!("{} has {elements} elements, and {came} came", owner()));
    let Some(size) = tensor.dtype.size() else {
        let strings = contents.strings()?;
        let came = strings.len();
        return if came == elements { Ok(Data::Strings(strings)) } else { Err(miscounted(came)) };
    };
    // Never more than what came could fill, whatever the shape claims.
    let mut buffer = Buffer::zeroed(elements.min(contents.most(tensor.dtype)) * size);
    match contents.fill(tensor.dtype, &mut buffer, &owner)? {
        came if came == elements => Ok(Data::Owned(buffer)),
        came => Err(miscounted(came)),
    }
}

fn read_contents<'a>(part: Part<'a>, contents: &mut Repeated<'a>) -> Result<(), Failure> {
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        let Some((name, _)) = CONTENTS.get((field.number as usize).wrapping_sub(1)) else {
            continue;
        };
        // An empty packed list says nothing.
        if !matches!(field.value, Value::Bytes(part) if part.is_empty() && field.number != 8) {
            contents.push(name, &field);
        }
    }
    Ok(())
}

fn read_tensor<'a>(part: Part<'a>) -> Result<(Tensor, Repeated<'a>), Failure> {
    let mut contents = Repeated::default();
    let mut tensor = Tensor {
        name: "".into(),
        dtype: DType::Bytes,
        shape: Vec::new(),
        data: Data::Strings(Vec::new()),
    };
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => tensor.name = field.text("name")?.into(),
            2 => {
                let name = field.text("datatype")?;
                tensor.dtype = DType::parse(&name)
                    .ok_or_else(|| broken(format!("it has an output of `{name}`")))?;
            }
            3 => field.numbers("shape", |extent| {
                tensor.shape.push(usize::try_from(extent).unwrap_or(usize::MAX));
                Ok(())
            })?,
            5 => read_contents(field.part("contents")?, &mut contents)?,
            _ => {}
        }
    }
    Ok((tensor, contents))
}
