//! An inference's body, against the signature of the version that will answer it.

use std::sync::Arc;

use bytes::Bytes;
use dukou_types::{Buffer, Dim, ErrorCode, Failure, Requested, Signature, Tensor};
use http::HeaderMap;
use smallvec::SmallVec;

use super::{
    bare,
    binary::{RawData, header_length},
    parameters::{
        self, Once, Parameters, list_or, object_or, read_parameters, refuse_shared_memory,
        take_top, take_truth,
    },
    tensor::{Lease, ReadTensor, Rules, read_tensor},
};
use crate::{
    Carriage, DecodeLimits, Decoded,
    json::{Scanner, Stop},
    rope,
    sentence::{self, quoted},
};

/// Decodes an inference's body.
///
/// `rope` is the body as it arrived; frames are gathered once, and not at all where there is only one.
/// `lease(position, bytes)` gives the buffer for the input at that position of the signature; elements
/// are parsed straight into it. A request that is refused drops the buffers it leased.
///
/// # Errors
/// Whatever is wrong with the body, by its code and with both sides of a mismatch. Time and memory are
/// linear in the body, whatever it claims.
pub fn decode(
    rope: &[Bytes],
    headers: &HeaderMap,
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut dyn FnMut(usize, usize) -> Buffer,
) -> Result<Decoded, Failure> {
    let (json, header_length) = open(rope, headers, limits)?;
    if header_length == Some(0) {
        return bare::decode(rope, signature, lease);
    }
    let mut scanner = Scanner::new(&json, limits.json_depth, false).with_words();
    let mut reading = Reading::new(signature, &json);
    reading.read(&mut scanner, lease).map_err(|stop| stop.in_body(&json))?;
    reading.finish(RawData::new(rope, header_length), lease)
}

/// The JSON of a body, and how long it is where raw data follows.
pub(super) fn open(
    rope: &[Bytes],
    headers: &HeaderMap,
    limits: &DecodeLimits,
) -> Result<(Bytes, Option<usize>), Failure> {
    let total = rope::admitted(rope, limits)?;
    let header_length = header_length(headers, total)?;
    Ok((rope::gather(rope, 0..header_length.unwrap_or(total)), header_length))
}

/// A body, as far as it was read.
struct Reading<'a> {
    signature: &'a Signature,
    json: &'a Bytes,
    client_id: Option<Arc<str>>,
    parameters: Parameters,
    /// By position in the signature.
    inputs: SmallVec<[Option<ReadTensor>; 2]>,
    /// Positions in the order of the body: the order of raw data.
    order: SmallVec<[usize; 2]>,
    has_inputs: bool,
    outputs: SmallVec<[usize; 4]>,
    binary: SmallVec<[bool; 4]>,
    top: SmallVec<[usize; 4]>,
}

impl<'a> Reading<'a> {
    fn new(signature: &'a Signature, json: &'a Bytes) -> Self {
        Self {
            signature,
            json,
            client_id: None,
            parameters: Parameters::new(),
            inputs: signature.inputs.iter().map(|_| None).collect(),
            order: SmallVec::new(),
            has_inputs: false,
            outputs: SmallVec::new(),
            binary: SmallVec::new(),
            top: SmallVec::new(),
        }
    }

    fn read(&mut self, scanner: &mut Scanner<'_>, lease: &mut Lease<'_>) -> Result<(), Stop> {
        let mut once = Once::default();
        object_or(scanner, "the body")?;
        scanner.object(|scanner, key| match &*key {
            "id" => once.note(0, &key).and_then(|()| self.read_id(scanner)),
            "parameters" => {
                once.note(1, &key)?;
                self.parameters = read_parameters(scanner)?;
                Ok(())
            }
            "inputs" => once.note(2, &key).and_then(|()| self.read_inputs(scanner, lease)),
            "outputs" => once.note(3, &key).and_then(|()| self.read_outputs(scanner)),
            _ => scanner.skip().map_err(Stop::from),
        })?;
        scanner.end().map_err(Stop::from)
    }

    fn read_id(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        if !scanner.null()? {
            let id = scanner
                .text()
                .map_err(|fault| fault.in_field(scanner.body(), "`id`", "a string"))?;
            // None, as Triton takes it: an answer does not say it either.
            self.client_id = (!id.is_empty()).then(|| id.into());
        }
        Ok(())
    }

    fn read_inputs(
        &mut self,
        scanner: &mut Scanner<'_>,
        lease: &mut Lease<'_>,
    ) -> Result<(), Stop> {
        list_or(scanner, "`inputs`")?;
        let rules = Rules {
            specs: Some(&self.signature.inputs),
            noun: "input",
            halves_as_numbers: false,
            body: self.json,
        };
        self.has_inputs = true;
        scanner.list(|scanner| {
            let read = read_tensor(scanner, rules, lease)?;
            let position = read.position;
            match self.inputs.get_mut(position) {
                Some(slot @ None) => *slot = Some(read),
                _ => {
                    let message = format!("input {} came twice", quoted(&read.tensor.name));
                    return Err(Stop::new(ErrorCode::RequestDuplicateInput, message));
                }
            }
            self.order.push(position);
            Ok(())
        })
    }

    fn read_outputs(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        if scanner.null()? {
            return Ok(());
        }
        list_or(scanner, "`outputs`")?;
        scanner.list(|scanner| self.read_output(scanner))
    }

    fn read_output(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        object_or(scanner, "every element of `outputs`")?;
        let (mut once, mut name, mut parameters) = (Once::default(), None, Parameters::new());
        scanner.object(|scanner, key| match &*key {
            "name" => {
                once.note(0, &key)?;
                name = Some(scanner.text().map_err(|fault| {
                    fault.in_field(scanner.body(), "`name` of one output", "a string")
                })?);
                Ok(())
            }
            "parameters" => {
                once.note(1, &key)?;
                parameters = read_parameters(scanner)?;
                Ok(())
            }
            _ => scanner.skip().map_err(Stop::from),
        })?;
        let Some(name) = name else {
            return Err(Stop::new(
                ErrorCode::WireMissingField,
                "one output lacks `name`".to_owned(),
            ));
        };
        let Some(position) = self.signature.output(&name) else {
            let outputs = sentence::specs(&self.signature.outputs);
            let message =
                format!("the model has no output {}; its outputs are {outputs}", quoted(&name));
            return Err(Stop::new(ErrorCode::RequestUnknownOutput, message));
        };
        if self.outputs.contains(&position) {
            let message = format!("output {} is asked for twice", quoted(&name));
            return Err(Stop::new(ErrorCode::WireInvalidField, message));
        }
        let owner = || format!("output {}", quoted(&name));
        refuse_shared_memory(&parameters, &owner)?;
        self.top.push(take_top(&mut parameters)?);
        self.binary.push(take_truth(&mut parameters, "binary_data")?);
        self.outputs.push(position);
        Ok(())
    }

    /// Checks the request as a whole.
    fn finish(mut self, mut raw: RawData<'_>, lease: &mut Lease<'_>) -> Result<Decoded, Failure> {
        if self.inputs.iter().any(Option::is_none) {
            return Err(self.missing());
        }
        let mut tensors: SmallVec<[Option<Tensor>; 2]> = self.inputs.iter().map(|_| None).collect();
        for &position in &self.order {
            if let Some(read) = self.inputs[position].take() {
                tensors[position] = Some(raw.fill(read, "input", lease)?);
            }
        }
        raw.end()?;
        let inputs: SmallVec<[Tensor; 2]> = tensors.into_iter().flatten().collect();
        check_symbols(self.signature, &inputs)?;
        let (priority, timeout, all_binary) =
            take_reserved(&mut self.parameters).map_err(|stop| stop.in_body(self.json))?;
        let subject = parameters::take_subject(&mut self.parameters)
            .map_err(|stop| stop.in_body(self.json))?;
        let carriage = match (self.outputs.is_empty(), self.binary.contains(&true)) {
            (true, _) if all_binary => Carriage::Binary,
            (false, true) => Carriage::Each(self.binary),
            _ => Carriage::Json,
        };
        let outputs =
            if self.outputs.is_empty() { Requested::All } else { Requested::Only(self.outputs) };
        Ok(Decoded {
            client_id: self.client_id,
            priority,
            timeout,
            subject,
            parameters: self.parameters,
            inputs,
            outputs,
            carriage,
            top: chosen(self.top),
        })
    }

    #[cold]
    fn missing(&self) -> Failure {
        let takes = sentence::specs(&self.signature.inputs);
        if !self.has_inputs {
            let message = format!("the body lacks `inputs`; the model takes {takes}");
            return Failure::new(ErrorCode::WireMissingField, message);
        }
        missing_inputs(self.signature, |position| self.inputs[position].is_some())
    }
}

/// Inputs that did not come, by name, and those that the model takes.
#[cold]
pub(crate) fn missing_inputs(signature: &Signature, came: impl Fn(usize) -> bool) -> Failure {
    let takes = sentence::specs(&signature.inputs);
    let lacking: Vec<_> = signature
        .inputs
        .iter()
        .enumerate()
        .filter(|(position, _)| !came(*position))
        .map(|(_, spec)| quoted(&spec.name))
        .take(16)
        .collect();
    let message = format!("the request lacks {}; the model takes {takes}", lacking.join(", "));
    Failure::new(ErrorCode::RequestMissingInput, message)
}

/// How many classes each output is asked for; nothing where none is.
pub(crate) fn chosen(top: SmallVec<[usize; 4]>) -> SmallVec<[usize; 4]> {
    if top.iter().all(|&most| most == 0) { SmallVec::new() } else { top }
}

/// Priority, timeout, and whether all outputs shall be raw.
fn take_reserved(
    parameters: &mut Parameters,
) -> Result<(u32, Option<std::time::Duration>, bool), Stop> {
    if parameters.is_empty() {
        return Ok((0, None, false));
    }
    let priority = parameters::take_count(parameters, "priority", u64::from(u32::MAX))?;
    let priority = priority.and_then(|priority| u32::try_from(priority).ok()).unwrap_or(0);
    Ok((
        priority,
        parameters::take_timeout(parameters)?,
        take_truth(parameters, "binary_data_output")?,
    ))
}

/// Demands that a symbol stands for one extent throughout the request.
pub(crate) fn check_symbols(signature: &Signature, inputs: &[Tensor]) -> Result<(), Failure> {
    let mut known: SmallVec<[(&str, usize, &str); 4]> = SmallVec::new();
    for (spec, tensor) in signature.inputs.iter().zip(inputs) {
        for (dim, &extent) in spec.shape.iter().zip(&tensor.shape) {
            let Dim::Symbol(symbol) = dim else { continue };
            match known.iter().find(|(name, ..)| **name == **symbol) {
                None => known.push((symbol, extent, &spec.name)),
                Some((_, before, _)) if *before == extent => {}
                Some((_, before, elsewhere)) => {
                    let message = format!(
                        "{} is {before} in input {} and {extent} in input {}; it must be the same throughout a request",
                        quoted(symbol),
                        quoted(elsewhere),
                        quoted(&spec.name),
                    );
                    return Err(Failure::new(ErrorCode::RequestWrongShape, message));
                }
            }
        }
    }
    Ok(())
}
