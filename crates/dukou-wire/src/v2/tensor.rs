//! One tensor object of the protocol, read in whatever order its keys stand.
//!
//! Where a signature is known, the name alone gives the dtype and `data` is read at once, even before
//! `datatype` and `shape` have come. Where `data` stands before the name, it is passed over, checked to
//! be JSON, and read when the object has ended.

use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use dukou_types::{Buffer, DType, Data, Dim, ErrorCode, Tensor, TensorSpec};

use super::element;
use super::parameters::{Once, list_or, read_parameters, refuse_shared_memory, take_count};
use crate::{
    json::{Element, Fault, Kind, ReadElements, Scanner, Stop, read_elements, read_strings},
    sentence::{self, counted, quoted},
};

/// The most dimensions a shape may have.
const MOST_DIMENSIONS: usize = 64;

/// Where leases come from: the tensor's position in the signature, and bytes.
pub(super) type Lease<'l> = dyn FnMut(usize, usize) -> Buffer + 'l;

/// What tensors may stand here.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// Those of a signature, or any.
    pub(super) specs: Option<&'a [TensorSpec]>,
    /// What they are called in sentences: `input`, `output`, `tensor`.
    pub(super) noun: &'static str,
    /// Whether FP16 and BF16 may be written as numbers.
    pub(super) halves_as_numbers: bool,
    /// The body, for strings to share.
    pub(super) body: &'a Bytes,
}

/// A tensor object as it was read.
pub(super) struct ReadTensor {
    pub(super) tensor: Tensor,
    /// Its position among the specs; 0 where there are none.
    pub(super) position: usize,
    /// Bytes that stand for it behind the JSON, where its data is not in it. The tensor has no
    /// elements yet.
    pub(super) raw_bytes: Option<usize>,
}

/// The keys of a tensor object, as far as they came.
struct Reading<'a> {
    rules: Rules<'a>,
    name: Option<Arc<str>>,
    position: usize,
    spec: Option<&'a TensorSpec>,
    dtype: Option<DType>,
    shape: Option<Vec<usize>>,
    raw_bytes: Option<usize>,
    data: Option<Data>,
    /// Data that could not be read yet, and where.
    later: Option<usize>,
    /// Data that could not be read, while a better reason may still come.
    failed: Option<Stop>,
}

/// Reads one tensor object.
///
/// # Errors
/// Everything that can be wrong with one; the sentence names the tensor, and both sides.
pub(super) fn read_tensor(
    scanner: &mut Scanner<'_>,
    rules: Rules<'_>,
    lease: &mut Lease<'_>,
) -> Result<ReadTensor, Stop> {
    let mut reading = Reading {
        rules,
        name: None,
        position: 0,
        spec: None,
        dtype: None,
        shape: None,
        raw_bytes: None,
        data: None,
        later: None,
        failed: None,
    };
    if scanner.peek() != b'{' {
        let owner = format!("every {} of the list", rules.noun);
        return Err(scanner.other_kind().in_field(scanner.body(), &owner, "an object"));
    }
    let mut once = Once::default();
    scanner.object(|scanner, key| match &*key {
        "name" => once.note(0, &key).and_then(|()| reading.read_name(scanner)),
        "datatype" => once.note(1, &key).and_then(|()| reading.read_dtype(scanner)),
        "shape" => once.note(2, &key).and_then(|()| reading.read_shape(scanner)),
        "data" => once.note(3, &key).and_then(|()| reading.meet_data(scanner, lease)),
        "parameters" => once.note(4, &key).and_then(|()| reading.read_parameters(scanner)),
        _ => scanner.skip().map_err(Stop::from),
    })?;
    reading.finish(scanner, lease)
}

impl<'a> Reading<'a> {
    /// `input `x``, or `an input` before its name has come.
    fn owner(&self) -> Cow<'static, str> {
        match &self.name {
            Some(name) => format!("{} {}", self.rules.noun, quoted(name)).into(),
            None => format!("one {}", self.rules.noun).into(),
        }
    }

    fn read_name(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        let noun = self.rules.noun;
        let name = scanner.text().map_err(|fault| {
            fault.in_field(scanner.body(), &format!("`name` of one {noun}"), "a string")
        })?;
        let Some(specs) = self.rules.specs else {
            self.name = Some(name.into());
            return Ok(());
        };
        let Some(position) = specs.iter().position(|spec| *spec.name == *name) else {
            let code = if noun == "output" {
                ErrorCode::RequestUnknownOutput
            } else {
                ErrorCode::RequestUnknownInput
            };
            let message = format!(
                "the model has no {noun} {}; its {noun}s are {}",
                quoted(&name),
                sentence::specs(specs)
            );
            return Err(Stop::new(code, message));
        };
        self.position = position;
        self.spec = specs.get(position);
        self.name = self.spec.map(|spec| Arc::clone(&spec.name));
        Ok(())
    }

    fn read_dtype(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        let text = scanner.text().map_err(|fault| {
            fault.in_field(scanner.body(), &format!("`datatype` of {}", self.owner()), "a string")
        })?;
        let Some(dtype) = DType::parse(&text) else {
            let names = DType::ALL.map(DType::name).join(", ");
            let message = format!(
                "{} has the datatype {}; the protocol has {names}",
                self.owner(),
                quoted(&text)
            );
            return Err(Stop::new(ErrorCode::WireUnsupportedDtype, message));
        };
        self.dtype = Some(dtype);
        Ok(())
    }

    fn read_shape(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        let field = |this: &Self| format!("`shape` of {}", this.owner());
        if scanner.peek() != b'[' {
            return Err(scanner.other_kind().in_field(
                scanner.body(),
                &field(self),
                "a list of whole numbers",
            ));
        }
        let mut shape = Vec::with_capacity(self.spec.map_or(4, |spec| spec.shape.len()));
        scanner.list(|scanner| {
            if shape.len() == MOST_DIMENSIONS {
                let message = format!("{} has more than {MOST_DIMENSIONS} dimensions", field(self));
                return Err(Stop::new(ErrorCode::WireInvalidField, message));
            }
            scanner.peek();
            let extent = u64::read(scanner).map_err(|fault| {
                fault.in_field(scanner.body(), &field(self), "a list of whole numbers from 0 up")
            })?;
            shape.push(usize::try_from(extent).unwrap_or(usize::MAX));
            Ok(())
        })?;
        // Bytes, not only elements, must be countable.
        let elements =
            Tensor::elements(&shape).filter(|&elements| elements <= isize::MAX.unsigned_abs() / 8);
        if elements.is_none() {
            let message = format!(
                "{} has shape {}, whose product is larger than can be counted",
                self.owner(),
                sentence::shape(&shape)
            );
            return Err(Stop::new(ErrorCode::WireShapeOverflow, message));
        }
        self.shape = Some(shape);
        Ok(())
    }

    fn read_parameters(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        let mut parameters = read_parameters(scanner)?;
        refuse_shared_memory(&parameters, &|| self.owner().into_owned())?;
        let bytes =
            take_count(&mut parameters, "binary_data_size", isize::MAX.unsigned_abs() as u64)?;
        self.raw_bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
        Ok(())
    }

    /// Reads data now if its dtype is known, or passes it over and remembers where it stood.
    fn meet_data(&mut self, scanner: &mut Scanner<'_>, lease: &mut Lease<'_>) -> Result<(), Stop> {
        self.check()?;
        let place = scanner.place();
        let Some(dtype) = self.spec.map(|spec| spec.dtype).or(if self.rules.specs.is_none() {
            self.dtype
        } else {
            None
        }) else {
            scanner.skip()?;
            self.later = Some(place);
            return Ok(());
        };
        let before = scanner.clone();
        match self.read_data(scanner, dtype, lease) {
            Ok(data) => self.data = Some(data),
            Err(stop) if self.dtype.is_some() && self.shape.is_some() => return Err(stop),
            Err(stop) => {
                // `datatype` or `shape` may still say what the matter really is.
                *scanner = before;
                if scanner.skip().is_err() {
                    return Err(stop);
                }
                self.failed = Some(stop);
            }
        }
        Ok(())
    }

    /// Compares what came so far with the spec.
    fn check(&self) -> Result<(), Stop> {
        let Some(spec) = self.spec else { return Ok(()) };
        if let Some(dtype) = self.dtype.filter(|dtype| *dtype != spec.dtype) {
            let message = format!("{} is {}, {dtype} came", self.owner(), spec.dtype);
            return Err(Stop::new(ErrorCode::RequestWrongDtype, message));
        }
        if let Some(shape) = self.shape.as_ref().filter(|shape| !spec.admits(shape)) {
            let message = format!(
                "{} has shape {}, {} came",
                self.owner(),
                sentence::declared(&spec.shape),
                sentence::shape(shape)
            );
            return Err(Stop::new(ErrorCode::RequestWrongShape, message));
        }
        Ok(())
    }

    /// Elements that there must be, as far as is known.
    fn expected(&self) -> Option<usize> {
        match (&self.shape, self.spec) {
            (Some(shape), _) => Tensor::elements(shape),
            (None, Some(spec)) => spec.shape.iter().try_fold(1_usize, |product, dim| match dim {
                Dim::Fixed(extent) => product.checked_mul(*extent),
                Dim::Symbol(_) | Dim::Any(()) => None,
            }),
            (None, None) => None,
        }
    }

    fn read_data(
        &self,
        scanner: &mut Scanner<'_>,
        dtype: DType,
        lease: &mut Lease<'_>,
    ) -> Result<Data, Stop> {
        if scanner.peek() != b'[' {
            list_or(scanner, format_args!("`data` of {}", self.owner()))?;
        }
        let half = matches!(dtype, DType::Fp16 | DType::Bf16);
        if half && !self.rules.halves_as_numbers {
            let message = format!(
                "{} is {dtype}, which does not travel as JSON; send it as binary tensor data",
                self.owner()
            );
            return Err(Stop::new(ErrorCode::WireUnsupportedDtype, message));
        }
        let expected = self.expected();
        let Some(size) = dtype.size() else {
            // `""` and a comma.
            let how = ReadElements { expected, least_text: 3 };
            let strings = read_strings(scanner, self.rules.body, how);
            return strings.map(Data::Strings).map_err(|fault| self.blame(fault, scanner, dtype));
        };
        // One digit and a comma; `true` and a comma.
        let least_text = if dtype == DType::Bool { 5 } else { 2 };
        let fill = scanner.remaining() / least_text + 1;
        // Never more than the rest of the body could fill, whatever the shape claims. Where no shape
        // came, the usual width of a number in text is a good first guess.
        let room = expected.unwrap_or_else(|| (scanner.remaining() / 8).max(16)).min(fill);
        let mut buffer = lease(self.position, room * size);
        buffer.resize(room * size);
        let how = ReadElements { expected, least_text };
        let count = read_elements(scanner, dtype, &mut buffer, how)
            .map_err(|fault| self.blame(fault, scanner, dtype))?;
        buffer.resize(count * size);
        Ok(Data::Owned(buffer))
    }

    /// What is wrong with the data, by the name of the tensor.
    #[cold]
    fn blame(&self, fault: Fault, scanner: &Scanner<'_>, dtype: DType) -> Stop {
        match fault.kind {
            Kind::TooMany => self.miscounted(None),
            _ => element::blame(fault, &self.owner(), dtype, scanner.body()),
        }
    }

    /// The elements are not as many as the shape says; `None` for more than that.
    #[cold]
    fn miscounted(&self, came: Option<usize>) -> Stop {
        let expected = self.expected().unwrap_or(0);
        let shape = match (&self.shape, self.spec) {
            (Some(shape), _) => sentence::shape(shape),
            (None, Some(spec)) => sentence::declared(&spec.shape),
            (None, None) => "[]".to_owned(),
        };
        let came = came.map_or_else(|| "more".to_owned(), |came| came.to_string());
        let message = format!(
            "{} has shape {shape}, which is {}; `data` holds {came}",
            self.owner(),
            counted(expected, "element")
        );
        Stop::new(ErrorCode::WireElementCount, message)
    }

    /// Checks what came as a whole.
    fn finish(mut self, scanner: &Scanner<'_>, lease: &mut Lease<'_>) -> Result<ReadTensor, Stop> {
        self.check()?;
        let missing = |this: &Self, field: &str| {
            Stop::new(ErrorCode::WireMissingField, format!("{} lacks `{field}`", this.owner()))
        };
        let Some(name) = self.name.clone() else {
            return Err(missing(&self, "name"));
        };
        let Some(dtype) = self.dtype else {
            return Err(missing(&self, "datatype"));
        };
        if self.shape.is_none() {
            return Err(missing(&self, "shape"));
        }
        if let Some(stop) = self.failed.take() {
            return Err(stop);
        }
        if let Some(place) = self.later {
            self.data = Some(self.read_data(&mut scanner.at_place(place), dtype, lease)?);
        }
        let data = match (self.data.take(), self.raw_bytes) {
            (Some(data), None) => {
                let came = match (&data, dtype.size()) {
                    (Data::Strings(strings), _) => strings.len(),
                    (Data::Owned(buffer), Some(size)) => buffer.len() / size,
                    _ => 0,
                };
                if self.expected() != Some(came) {
                    return Err(self.miscounted(Some(came)));
                }
                data
            }
            (None, Some(_)) => Data::Strings(Vec::new()),
            (None, None) => return Err(missing(&self, "data")),
            (Some(_), Some(_)) => {
                let message = format!(
                    "{} has both `data` and `binary_data_size`; one of them carries the elements",
                    self.owner()
                );
                return Err(Stop::new(ErrorCode::WireInvalidField, message));
            }
        };
        let shape = self.shape.take().unwrap_or_default();
        let tensor = Tensor { name, dtype, shape, data };
        Ok(ReadTensor { tensor, position: self.position, raw_bytes: self.raw_bytes })
    }
}
