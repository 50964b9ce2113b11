//! Inputs without dtype or shape of their own: both are the signature's, and the nesting says the rest.
//! Every dialect whose JSON is only values reads them so.

use bytes::Bytes;
use dukou_types::{Buffer, Dim, ErrorCode, Failure, Signature, Tensor, TensorSpec};
use smallvec::SmallVec;

use crate::{
    json::{Column, Extents, Fault, Kind, Scanner, Stop, token},
    sentence::{self, quoted},
};

/// Gives the buffer for the input at a position of the signature.
pub(crate) type Lease<'l> = dyn FnMut(usize, usize) -> Buffer + 'l;

/// The inputs of one request, as far as they were read.
pub(crate) struct Values<'a> {
    signature: &'a Signature,
    body: &'a Bytes,
    columns: SmallVec<[Option<Read>; 2]>,
}

/// What came for one input.
struct Read {
    column: Column,
    /// Of one value.
    extents: Extents,
    values: usize,
}

impl<'a> Values<'a> {
    /// Nothing yet; `body` is what the scanners will read.
    pub(crate) fn new(signature: &'a Signature, body: &'a Bytes) -> Self {
        Self { signature, body, columns: signature.inputs.iter().map(|_| None).collect() }
    }

    /// Reads the list of `instances`: one row each, bare where the model has one input, by name
    /// otherwise. Gives how many there are.
    pub(crate) fn read_rows(
        &mut self,
        scanner: &mut Scanner<'_>,
        field: &str,
        lease: &mut Lease<'_>,
    ) -> Result<usize, Stop> {
        if scanner.peek() != b'[' {
            let fault = scanner.other_kind();
            return Err(fault.in_field(
                scanner.body(),
                &quoted(field),
                "a list with a row an element",
            ));
        }
        let mut first = scanner.clone();
        let named = first_is_named(&mut first)?;
        let Some(named) = named else {
            let message = format!("{} is empty; it holds a row an element", quoted(field));
            return Err(Stop::new(ErrorCode::WireInvalidField, message));
        };
        if !named {
            let position = self.only_input(field)?;
            let extents = self.append(position, scanner, lease)?;
            let rows = extents.first().copied().unwrap_or(0);
            return Ok(rows);
        }
        let mut row = 0;
        scanner.list(|scanner| {
            if !object_stands(scanner) {
                let fault = scanner.other_kind();
                return Err(fault.in_field(
                    scanner.body(),
                    &format!("element {row} of {}", quoted(field)),
                    "an object with the inputs by name, as the first one is",
                ));
            }
            scanner.object(|scanner, key| {
                let Some(position) = self.signature.input(&key) else {
                    return Err(self.unknown(&key, row, field));
                };
                if self.values_of(position) != row {
                    let message =
                        format!("element {row} of {} has {} twice", quoted(field), quoted(&key));
                    return Err(Stop::new(ErrorCode::RequestDuplicateInput, message));
                }
                self.append(position, scanner, lease).map(drop)
            })?;
            row += 1;
            match (0..self.columns.len()).find(|&input| self.values_of(input) != row) {
                None => Ok(()),
                Some(_) => Err(self.lacking(row, field)),
            }
        })?;
        for read in self.columns.iter_mut().flatten() {
            read.extents.insert(0, row);
        }
        Ok(row)
    }

    /// Reads `inputs`: whole tensors by name, or one value where the model has one input.
    pub(crate) fn read_columns(
        &mut self,
        scanner: &mut Scanner<'_>,
        field: &str,
        lease: &mut Lease<'_>,
    ) -> Result<(), Stop> {
        if !object_stands(scanner) {
            let position = self.only_input(field)?;
            return self.append(position, scanner, lease).map(drop);
        }
        scanner.object(|scanner, key| match self.signature.input(&key) {
            None => scanner.skip().map_err(Stop::from),
            Some(position) if self.values_of(position) > 0 => {
                let message = format!("{} has {} twice", quoted(field), quoted(&key));
                Err(Stop::new(ErrorCode::RequestDuplicateInput, message))
            }
            Some(position) => self.append(position, scanner, lease).map(drop),
        })
    }

    /// One tensor an input, of shapes that the signature allows.
    pub(crate) fn finish(mut self, field: &str) -> Result<SmallVec<[Tensor; 2]>, Failure> {
        if let Some(missing) = self.columns.iter().position(Option::is_none) {
            let name = quoted(&self.signature.inputs[missing].name);
            let message = format!(
                "Missing named input: {} in {} object.; the model takes {}",
                name.trim_matches('`'),
                quoted(field),
                sentence::specs(&self.signature.inputs)
            );
            return Err(Failure::new(ErrorCode::RequestMissingInput, message));
        }
        let read = self.columns.drain(..).flatten().zip(&self.signature.inputs);
        let tensors: SmallVec<[Tensor; 2]> = read
            .map(|(read, spec)| Tensor {
                name: spec.name.clone(),
                dtype: spec.dtype,
                shape: read.extents.to_vec(),
                data: read.column.into_data(),
            })
            .collect();
        check_shapes(&self.signature.inputs, &tensors)?;
        Ok(tensors)
    }

    fn values_of(&self, position: usize) -> usize {
        self.columns.get(position).and_then(Option::as_ref).map_or(0, |read| read.values)
    }

    /// The position of the only input.
    fn only_input(&self, field: &str) -> Result<usize, Stop> {
        if self.signature.inputs.len() == 1 {
            return Ok(0);
        }
        let message = format!(
            "{} holds bare values, and the model takes {} inputs: give them by name, {}",
            quoted(field),
            self.signature.inputs.len(),
            sentence::specs(&self.signature.inputs)
        );
        Err(Stop::new(ErrorCode::RequestMissingInput, message))
    }

    /// Reads one value for the input at this position.
    fn append(
        &mut self,
        position: usize,
        scanner: &mut Scanner<'_>,
        lease: &mut Lease<'_>,
    ) -> Result<Extents, Stop> {
        let spec = &self.signature.inputs[position];
        let slot = &mut self.columns[position];
        let read = slot.get_or_insert_with(|| {
            let size = spec.dtype.size().unwrap_or(0);
            // The usual width of a number in text.
            let room = (scanner.remaining() / 8).max(16) * size;
            let buffer = if size == 0 { Buffer::default() } else { lease(position, room) };
            Read { column: Column::new(spec.dtype, buffer), extents: Extents::new(), values: 0 }
        });
        let start = scanner.place();
        let extents = read
            .column
            .append(scanner, self.body)
            .map_err(|fault| blame(fault, spec, scanner.body()))?;
        if read.values > 0 && extents != read.extents {
            let message = format!(
                "input {}: the rows before have shape {}, and {} came at byte {start}",
                quoted(&spec.name),
                sentence::shape(&read.extents),
                sentence::shape(&extents)
            );
            return Err(Stop::new(ErrorCode::RequestWrongShape, message));
        }
        read.extents.clone_from(&extents);
        read.values += 1;
        Ok(extents)
    }

    #[cold]
    fn unknown(&self, key: &str, row: usize, field: &str) -> Stop {
        let message = format!(
            "element {row} of {}: JSON object: does not have named input: {}; the model takes {}",
            quoted(field),
            quoted(key).trim_matches('`'),
            sentence::specs(&self.signature.inputs)
        );
        Stop::new(ErrorCode::RequestUnknownInput, message)
    }

    #[cold]
    fn lacking(&self, row: usize, field: &str) -> Stop {
        let keys: Vec<&str> =
            self.signature.inputs.iter().map(|spec| &*spec.name).take(16).collect();
        let message = format!(
            "element {} of {}: JSON object: keys must be equal to: {}",
            row - 1,
            quoted(field),
            keys.join(",")
        );
        Stop::new(ErrorCode::RequestMissingInput, message)
    }
}

/// Whether an object with names stands here, and not bytes as `{"b64"}`.
pub(crate) fn object_stands(scanner: &mut Scanner<'_>) -> bool {
    if scanner.peek() != b'{' {
        return false;
    }
    let mut look = scanner.clone();
    let (mut keys, mut bytes) = (0, false);
    let read = look.object(|scanner, key| {
        keys += 1;
        bytes = keys == 1 && key == "b64" && scanner.peek() == b'"';
        // One look is enough: bytes have no second key.
        if bytes { scanner.skip() } else { Err(Fault::new(Kind::WrongType, 0)) }
    });
    !(read.is_ok() && keys == 1 && bytes)
}

/// Whether the first element of the list that stands here is an object with names; `None` for an
/// empty list.
fn first_is_named(scanner: &mut Scanner<'_>) -> Result<Option<bool>, Stop> {
    let mut named = None;
    let looked = scanner.list(|scanner| {
        named = Some(object_stands(scanner));
        Err(Fault::new(Kind::WrongType, 0))
    });
    match (named, looked) {
        (Some(named), _) => Ok(Some(named)),
        (None, Ok(())) => Ok(None),
        (None, Err(fault)) => Err(fault.into()),
    }
}

/// What is wrong with an element, by the name of its input.
#[cold]
pub(crate) fn blame(fault: Fault, spec: &TensorSpec, body: &[u8]) -> Stop {
    blame_as("input", fault, spec, body)
}

/// The same of an input or an output, as `noun` says.
#[cold]
pub(crate) fn blame_as(noun: &str, fault: Fault, spec: &TensorSpec, body: &[u8]) -> Stop {
    let (at, name) = (fault.at, quoted(&spec.name));
    let came = token(body, at);
    match fault.kind {
        Kind::WrongType | Kind::NotWhole | Kind::OutOfRange | Kind::NotFinite => Stop::new(
            ErrorCode::WireNotANumber,
            format!(
                "JSON Value: {came} at byte {at} is not of expected type: {noun} {name} is {}",
                spec.dtype
            ),
        ),
        Kind::Ragged => Stop::new(
            ErrorCode::WireElementCount,
            format!(
                "{noun} {name}: Encountered list at unexpected size or level: lists of one depth must be \
                 of one length ({came} at byte {at})"
            ),
        ),
        Kind::NotBase64 => Stop::new(
            ErrorCode::WireInvalidField,
            format!("{noun} {name}: Unable to base64 decode {came} at byte {at}"),
        ),
        _ => fault.into(),
    }
}

/// Demands the declared shapes, and that a symbol stands for one extent throughout the request.
pub(crate) fn check_shapes(specs: &[TensorSpec], tensors: &[Tensor]) -> Result<(), Failure> {
    let mut known: SmallVec<[(&str, usize); 4]> = SmallVec::new();
    for (spec, tensor) in specs.iter().zip(tensors) {
        let fits = spec.admits(&tensor.shape)
            && spec.shape.iter().zip(&tensor.shape).all(|(dim, &extent)| {
                let Dim::Symbol(symbol) = dim else { return true };
                match known.iter().find(|(name, _)| **name == **symbol) {
                    Some((_, before)) => *before == extent,
                    None => {
                        known.push((symbol, extent));
                        true
                    }
                }
            });
        if !fits {
            let message = format!(
                "input {} has shape {}, and the model takes {}",
                quoted(&spec.name),
                sentence::shape(&tensor.shape),
                sentence::declared(&spec.shape)
            );
            return Err(Failure::new(ErrorCode::RequestWrongShape, message));
        }
    }
    Ok(())
}
