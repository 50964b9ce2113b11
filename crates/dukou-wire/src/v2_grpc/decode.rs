//! An inference's message, against the signature of the version that will answer it.
//!
//! Elements stand in `raw_input_contents`, one for each input, or typed inside the inputs. Raw ones are
//! copied once, from the frames that they came in to the buffer that the model is run on.

use std::borrow::Cow;

use bytes::Bytes;
use dukou_types::{
    Buffer, DType, Data, ErrorCode, Failure, Param, Requested, Signature, Tensor, TensorSpec,
};
use smallvec::SmallVec;

use crate::{
    Carriage, Decoded,
    grpc::{Fields, Part, Repeated, Value, broken, text},
    sentence::{self, counted, quoted},
    truths::check_truths,
    v2::{
        check_symbols, chosen, missing_inputs,
        parameters::{
            MOST as MOST_PARAMETERS, Parameters, refuse_shared_memory, take, take_count,
            take_subject, take_timeout, take_top,
        },
        raw_strings,
    },
};

/// The most dimensions a shape may have.
const MOST_DIMENSIONS: usize = 64;

/// Gives the buffer for the input at a position of the signature.
type Lease<'l> = dyn FnMut(usize, usize) -> Buffer + 'l;

/// Decodes an inference's message. The arguments are those of [`crate::v2::decode`]; `message` is what
/// stands in the envelope.
///
/// # Errors
/// Whatever is wrong with the message, by its code and with both sides of a mismatch. Time and memory are
/// linear in it, whatever it claims.
pub fn decode(
    message: &[Bytes],
    signature: &Signature,
    lease: &mut dyn FnMut(usize, usize) -> Buffer,
) -> Result<Decoded, Failure> {
    let mut decoded = Decoded::default();
    let mut inputs: SmallVec<[Input<'_>; 2]> = SmallVec::new();
    let mut raw: SmallVec<[Part<'_>; 2]> = SmallVec::new();
    let mut outputs: SmallVec<[usize; 4]> = SmallVec::new();
    let mut fields = Fields::of(Part::whole(message));
    while let Some(field) = fields.next()? {
        match field.number {
            3 => {
                let id = field.text("id")?;
                decoded.client_id = (!id.is_empty()).then(|| id.into());
            }
            4 => read_parameter(field.part("parameters")?, &mut decoded.parameters)?,
            5 => {
                inputs.push(Input::read(field.part("inputs")?)?);
                // Nothing is kept of inputs by the million that no model has.
                if inputs.len() > signature.inputs.len() {
                    return Err(surplus(&inputs, signature));
                }
            }
            6 => {
                let (position, most) = read_output(field.part("outputs")?, signature, &outputs)?;
                outputs.push(position);
                decoded.top.push(most);
            }
            7 => raw.push(field.part("raw_input_contents")?),
            _ => {}
        }
    }
    if !raw.is_empty() && raw.len() != inputs.len() {
        let message = format!(
            "there are {} and {} of `raw_input_contents`; each input has one",
            counted(inputs.len(), "input"),
            raw.len()
        );
        return Err(Failure::new(ErrorCode::WireElementCount, message));
    }
    decoded.inputs = tensors(&inputs, &raw, signature, lease)?;
    check_symbols(signature, &decoded.inputs)?;
    decoded.top = chosen(decoded.top);
    take_reserved(&mut decoded)?;
    decoded.carriage = Carriage::Message;
    if !outputs.is_empty() {
        decoded.outputs = Requested::Only(outputs);
    }
    Ok(decoded)
}

/// The inputs with their elements, in the signature's order.
fn tensors(
    inputs: &[Input<'_>],
    raw: &[Part<'_>],
    signature: &Signature,
    lease: &mut Lease<'_>,
) -> Result<SmallVec<[Tensor; 2]>, Failure> {
    let mut tensors: SmallVec<[Option<Tensor>; 2]> =
        signature.inputs.iter().map(|_| None).collect();
    for (place, input) in inputs.iter().enumerate() {
        let position =
            signature.input(&input.name).ok_or_else(|| unknown(&input.name, signature))?;
        let spec = &signature.inputs[position];
        input.check(spec)?;
        if tensors[position].is_some() {
            return Err(twice(&input.name));
        }
        let data = match raw.get(place) {
            Some(raw) => input.raw(*raw, spec.dtype, position, lease)?,
            None => input.typed(spec.dtype, position, lease)?,
        };
        tensors[position] = Some(Tensor {
            name: spec.name.clone(),
            dtype: spec.dtype,
            shape: input.shape.clone(),
            data,
        });
    }
    if tensors.iter().any(Option::is_none) {
        return Err(missing_inputs(signature, |position| tensors[position].is_some()));
    }
    Ok(tensors.into_iter().flatten().collect())
}

#[cold]
fn unknown(name: &str, signature: &Signature) -> Failure {
    let message = format!(
        "the model has no input {}; its inputs are {}",
        quoted(name),
        sentence::specs(&signature.inputs)
    );
    Failure::new(ErrorCode::RequestUnknownInput, message)
}

#[cold]
fn twice(name: &str) -> Failure {
    Failure::new(ErrorCode::RequestDuplicateInput, format!("input {} came twice", quoted(name)))
}

/// Of more inputs than a model has, the first that is not its own, or that came before.
#[cold]
fn surplus(inputs: &[Input<'_>], signature: &Signature) -> Failure {
    if let Some(input) = inputs.iter().find(|input| signature.input(&input.name).is_none()) {
        return unknown(&input.name, signature);
    }
    let came_before = |place: usize| inputs[..place].iter().any(|i| i.name == inputs[place].name);
    let place = (0..inputs.len()).find(|&place| came_before(place)).unwrap_or_default();
    twice(&inputs[place].name)
}

/// One of `inputs`.
struct Input<'a> {
    name: Cow<'a, str>,
    dtype: Cow<'a, str>,
    shape: Vec<usize>,
    contents: Repeated<'a>,
}

/// `InferTensorContents`, by field: its name and whose elements it carries.
pub(super) const CONTENTS: [(&str, &[DType]); 8] = [
    ("bool_contents", &[DType::Bool]),
    ("int_contents", &[DType::Int8, DType::Int16, DType::Int32]),
    ("int64_contents", &[DType::Int64]),
    ("uint_contents", &[DType::Uint8, DType::Uint16, DType::Uint32]),
    ("uint64_contents", &[DType::Uint64]),
    ("fp32_contents", &[DType::Fp32]),
    ("fp64_contents", &[DType::Fp64]),
    ("bytes_contents", &[DType::Bytes]),
];

impl<'a> Input<'a> {
    fn read(part: Part<'a>) -> Result<Self, Failure> {
        let mut input = Self {
            name: "".into(),
            dtype: "".into(),
            shape: Vec::new(),
            contents: Repeated::default(),
        };
        let mut parameters = Parameters::new();
        let mut fields = Fields::of(part);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => input.name = field.text("name")?,
                2 => input.dtype = field.text("datatype")?,
                3 => field.numbers("shape", |extent| input.push_extent(extent as i64))?,
                4 => read_parameter(field.part("parameters")?, &mut parameters)?,
                5 => input.read_contents(field.part("contents")?)?,
                _ => {}
            }
        }
        let owner = || input.owner();
        refuse_shared_memory(&parameters, &owner).map_err(|stop| stop.in_body(&[]))?;
        if input.elements().is_none_or(|count| count > isize::MAX.unsigned_abs() / 8) {
            let message = format!(
                "{} has shape {}, whose product is larger than can be counted",
                input.owner(),
                sentence::shape(&input.shape)
            );
            return Err(Failure::new(ErrorCode::WireShapeOverflow, message));
        }
        Ok(input)
    }

    fn owner(&self) -> String {
        format!("input {}", quoted(&self.name))
    }

    fn push_extent(&mut self, extent: i64) -> Result<(), Failure> {
        let refuse = |words: &str| {
            let message = format!("`shape` of {} {words}", self.owner());
            Failure::new(ErrorCode::WireInvalidField, message)
        };
        if self.shape.len() == MOST_DIMENSIONS {
            return Err(refuse(&format!("has more than {MOST_DIMENSIONS} dimensions")));
        }
        let extent = usize::try_from(extent)
            .map_err(|_| refuse(&format!("must be whole numbers from 0 up; {extent} came")))?;
        self.shape.push(extent);
        Ok(())
    }

    fn read_contents(&mut self, part: Part<'a>) -> Result<(), Failure> {
        let mut fields = Fields::of(part);
        while let Some(field) = fields.next()? {
            let place = (field.number as usize).wrapping_sub(1);
            let Some((name, _)) = CONTENTS.get(place) else { continue };
            // An empty packed list says nothing.
            if matches!(field.value, Value::Bytes(part) if part.is_empty() && place != 7) {
                continue;
            }
            if !self.contents.is_empty() && self.contents.name() != *name {
                let message = format!(
                    "{} has elements in `{}` and in `{name}`; one of them carries them",
                    self.owner(),
                    self.contents.name()
                );
                return Err(Failure::new(ErrorCode::WireInvalidField, message));
            }
            self.contents.push(name, &field);
        }
        Ok(())
    }

    /// Elements that the shape says; `None` where they cannot be counted.
    fn elements(&self) -> Option<usize> {
        Tensor::elements(&self.shape)
    }

    /// Compares it with the spec.
    fn check(&self, spec: &TensorSpec) -> Result<(), Failure> {
        if *self.dtype != *spec.dtype.name() {
            let known = DType::parse(&self.dtype).is_some();
            let (code, came) = match &*self.dtype {
                "" => (ErrorCode::WireMissingField, "`datatype` is missing".to_owned()),
                _ if known => (ErrorCode::RequestWrongDtype, format!("{} came", self.dtype)),
                other => (ErrorCode::WireUnsupportedDtype, format!("{} came", quoted(other))),
            };
            let message = format!("{} is {}, {came}", self.owner(), spec.dtype);
            return Err(Failure::new(code, message));
        }
        if !spec.admits(&self.shape) {
            let message = format!(
                "{} has shape {}, {} came",
                self.owner(),
                sentence::declared(&spec.shape),
                sentence::shape(&self.shape)
            );
            return Err(Failure::new(ErrorCode::RequestWrongShape, message));
        }
        Ok(())
    }

    /// The elements, from raw bytes.
    fn raw(
        &self,
        raw: Part<'_>,
        dtype: DType,
        position: usize,
        lease: &mut Lease<'_>,
    ) -> Result<Data, Failure> {
        if !self.contents.is_empty() {
            let message = format!(
                "{} has elements in `{}` and in `raw_input_contents`; one of them carries them",
                self.owner(),
                self.contents.name()
            );
            return Err(Failure::new(ErrorCode::WireInvalidField, message));
        }
        let elements = self.elements().unwrap_or(usize::MAX);
        let Some(size) = dtype.size() else {
            let strings = raw_strings(&raw.kept(), elements, &|| self.owner())?;
            return Ok(Data::Strings(strings));
        };
        if elements.checked_mul(size) != Some(raw.len()) {
            let message = format!(
                "{} has shape {} of {dtype}, which is {}; its `raw_input_contents` has {}",
                self.owner(),
                sentence::shape(&self.shape),
                counted(elements.saturating_mul(size), "byte"),
                raw.len()
            );
            return Err(Failure::new(ErrorCode::WireElementCount, message));
        }
        let mut buffer = lease(position, raw.len());
        buffer.resize(raw.len());
        raw.copy_to(buffer.bytes_mut());
        check_truths(dtype, buffer.bytes(), &|| self.owner())?;
        Ok(Data::Owned(buffer))
    }

    /// The elements, from the field of their dtype.
    fn typed(&self, dtype: DType, position: usize, lease: &mut Lease<'_>) -> Result<Data, Failure> {
        let field = CONTENTS.iter().find(|(_, dtypes)| dtypes.contains(&dtype));
        let Some((field, _)) = field else {
            let message =
                format!("{} is {dtype}, which travels only as `raw_input_contents`", self.owner());
            return Err(Failure::new(ErrorCode::WireUnsupportedDtype, message));
        };
        if !self.contents.is_empty() && self.contents.name() != *field {
            let message = format!(
                "{} is {dtype}, whose elements stand in `{field}`; `{}` came",
                self.owner(),
                self.contents.name()
            );
            return Err(Failure::new(ErrorCode::WireInvalidField, message));
        }
        let elements = self.elements().unwrap_or(usize::MAX);
        let miscounted = |came: usize| {
            let message = format!(
                "{} has shape {}, which is {}; `{field}` holds {came}",
                self.owner(),
                sentence::shape(&self.shape),
                counted(elements, "element")
            );
            Failure::new(ErrorCode::WireElementCount, message)
        };
        let Some(size) = dtype.size() else {
            let strings = self.contents.strings()?;
            return match strings.len() {
                came if came == elements => Ok(Data::Strings(strings)),
                came => Err(miscounted(came)),
            };
        };
        // Never more than what came could fill, whatever the shape claims.
        let room = elements.min(self.contents.most(dtype));
        let mut buffer = lease(position, room * size);
        buffer.resize(room * size);
        match self.contents.fill(dtype, &mut buffer, &|| self.owner())? {
            came if came == elements => Ok(Data::Owned(buffer)),
            came => Err(miscounted(came)),
        }
    }
}

/// The position of a requested output, and how many of its classes are asked for.
fn read_output(
    part: Part<'_>,
    signature: &Signature,
    before: &[usize],
) -> Result<(usize, usize), Failure> {
    let (mut name, mut parameters) = (Cow::Borrowed(""), Parameters::new());
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text("name")?,
            2 => read_parameter(field.part("parameters")?, &mut parameters)?,
            _ => {}
        }
    }
    let Some(position) = signature.output(&name) else {
        let outputs = sentence::specs(&signature.outputs);
        let message =
            format!("the model has no output {}; its outputs are {outputs}", quoted(&name));
        return Err(Failure::new(ErrorCode::RequestUnknownOutput, message));
    };
    let owner = || format!("output {}", quoted(&name));
    if before.contains(&position) {
        let message = format!("{} is asked for twice", owner());
        return Err(Failure::new(ErrorCode::WireInvalidField, message));
    }
    refuse_shared_memory(&parameters, &owner).map_err(|stop| stop.in_body(&[]))?;
    let says_top = parameters.iter().any(|(key, _)| &**key == "classification");
    let top = take_top(&mut parameters).map_err(|stop| stop.in_body(&[]))?;
    // Over REST it is as good as nothing, over gRPC a mistake: so has Triton it.
    if says_top && top == 0 {
        let message = format!("{}: parameter `classification` must be more than 0", owner());
        return Err(Failure::new(ErrorCode::WireInvalidField, message));
    }
    Ok((position, top))
}

/// One entry of a map of parameters; a later one of the same name takes the place of an earlier.
fn read_parameter(part: Part<'_>, parameters: &mut Parameters) -> Result<(), Failure> {
    let (mut name, mut value) = (Cow::Borrowed(""), None);
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => name = field.text("parameters")?,
            2 => value = read_value(field.part("parameters")?)?,
            _ => {}
        }
    }
    let Some(value) = value else { return Ok(()) };
    if let Some((_, before)) = parameters.iter_mut().find(|(key, _)| **key == *name) {
        *before = value;
        return Ok(());
    }
    if parameters.len() == MOST_PARAMETERS {
        let message = format!("there are more than {MOST_PARAMETERS} parameters");
        return Err(Failure::new(ErrorCode::WireInvalidField, message));
    }
    parameters.push((name.into(), value));
    Ok(())
}

/// An `InferParameter`: the last of its choices that came.
fn read_value(part: Part<'_>) -> Result<Option<Param>, Failure> {
    let mut value = None;
    let mut fields = Fields::of(part);
    while let Some(field) = fields.next()? {
        value = Some(match (field.number, field.value) {
            (1, Value::Varint(truth)) => Param::Bool(truth != 0),
            (2, Value::Varint(number)) => Param::Int(number as i64),
            (3, Value::Bytes(part)) => Param::String(text(part, "string_param")?.into()),
            (4, Value::Fixed64(bytes)) => Param::Double(f64::from_le_bytes(bytes)),
            (5, Value::Varint(number)) => Param::Int(i64::try_from(number).map_err(|_| {
                let message =
                    format!("a `uint64_param` is {number}; parameters are up to {}", i64::MAX);
                Failure::new(ErrorCode::WireInvalidField, message)
            })?),
            (1..=5, _) => {
                return Err(broken("a parameter has another wire type than its choice".to_owned()));
            }
            _ => continue,
        });
    }
    Ok(value)
}

/// Priority, timeout and subject; what asks for nothing that is not done anyhow.
fn take_reserved(decoded: &mut Decoded) -> Result<(), Failure> {
    if decoded.parameters.is_empty() {
        return Ok(());
    }
    let parameters = &mut decoded.parameters;
    let in_message = |stop: crate::json::Stop| stop.in_body(&[]);
    let priority = take_count(parameters, "priority", u64::from(u32::MAX)).map_err(in_message)?;
    decoded.priority = priority.and_then(|priority| u32::try_from(priority).ok()).unwrap_or(0);
    decoded.timeout = take_timeout(parameters).map_err(in_message)?;
    decoded.subject = take_subject(parameters).map_err(in_message)?;
    // What only REST has a choice of.
    let _always = take(&mut decoded.parameters, "binary_data_output");
    // A request has one answer, and in a stream it always says that it is the last.
    let _said = take(&mut decoded.parameters, "triton_enable_empty_final_response");
    refuse_sequence(&mut decoded.parameters)
}

/// Refuses a request that is a part of a sequence; takes away what says that it is none.
fn refuse_sequence(parameters: &mut Parameters) -> Result<(), Failure> {
    let id = take(parameters, "sequence_id");
    let marks = [take(parameters, "sequence_start"), take(parameters, "sequence_end")];
    let is_one = match id {
        None | Some(Param::Int(0)) => false,
        Some(Param::String(text)) => !text.is_empty(),
        Some(_) => true,
    };
    if is_one || marks.contains(&Some(Param::Bool(true))) {
        return Err(Failure::new(
            ErrorCode::WireUnsupported,
            "dukou does not have the sequence extension: every request is answered by itself",
        ));
    }
    Ok(())
}
