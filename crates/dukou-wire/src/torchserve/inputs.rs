//! The inputs of one request, each read from wherever it stands: JSON, raw elements, an array of NumPy's.
//!
//! A client may send one row without the dimension of rows, as it would to a handler that stacks them: all
//! inputs then lack it, and the answer is the bare one of that row.

use bytes::Bytes;
use dukou_types::{Buffer, DType, Data, Dim, ErrorCode, Failure, Signature, Tensor, TensorSpec};
use smallvec::SmallVec;

use crate::{
    json::{Column, Scanner, Stop},
    keras::npy,
    sentence::{self, quoted},
    tensorflow::{Lease, blame, check_shapes},
    truths::check_truths,
};

/// What the bytes of a value are, as far as whoever sent them says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// JSON.
    Json,
    /// Elements as they lie in memory.
    Raw,
    /// Text.
    Text,
    /// Nothing was said.
    Unsaid,
}

impl Form {
    /// What a content type says.
    pub(super) fn of(content_type: &str) -> Self {
        match content_type {
            "application/json" => Self::Json,
            "" | "application/x-www-form-urlencoded" => Self::Unsaid,
            kind if kind.starts_with("text/") => Self::Text,
            _ => Self::Raw,
        }
    }
}

/// Whether all of it looks like one JSON object or list.
pub(super) fn looks_like_json(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    matches!((text.first(), text.last()), (Some(b'{'), Some(b'}')) | (Some(b'['), Some(b']')))
}

/// The inputs of one request, as far as they were read.
pub(super) struct Inputs<'a> {
    signature: &'a Signature,
    /// The deepest nesting of JSON.
    depth: usize,
    tensors: SmallVec<[Option<Tensor>; 2]>,
}

/// Whether all rows were sent, or the only one without their dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Rows,
    Row,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(signature: &'a Signature, depth: usize) -> Self {
        Self { signature, depth, tensors: signature.inputs.iter().map(|_| None).collect() }
    }

    /// The input with this name; `data` and `body` are any only input's.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.signature.input(name).or_else(|| {
            let generic = matches!(name, "data" | "body");
            (generic && self.tensors.len() == 1).then_some(0)
        })
    }

    /// The only input.
    pub(super) fn only(&self, what: &str) -> Result<usize, Failure> {
        if self.tensors.len() == 1 {
            return Ok(0);
        }
        let message = format!(
            "{what} is one value, and the model takes {} inputs: give them by name, {}",
            self.tensors.len(),
            sentence::specs(&self.signature.inputs)
        );
        Err(Failure::new(ErrorCode::RequestMissingInput, message))
    }

    /// Reads one JSON value for the input at this position; `body` is what the scanner reads.
    pub(super) fn read_json(
        &mut self,
        position: usize,
        scanner: &mut Scanner<'_>,
        body: &Bytes,
        lease: &mut Lease<'_>,
    ) -> Result<(), Stop> {
        let spec = &self.signature.inputs[position];
        let buffer = match spec.dtype.size() {
            // The usual width of a number in text.
            Some(size) => lease(position, (scanner.remaining() / 8).max(16) * size),
            None => Buffer::default(),
        };
        let mut column = Column::new(spec.dtype, buffer);
        let extents =
            column.append(scanner, body).map_err(|fault| blame(fault, spec, scanner.body()))?;
        let tensor = Tensor {
            name: spec.name.clone(),
            dtype: spec.dtype,
            shape: extents.to_vec(),
            data: column.into_data(),
        };
        self.put(position, tensor).map_err(|failure| Stop::Failure(Box::new(failure)))
    }

    /// Reads the input at this position from all of `bytes`.
    pub(super) fn read_bytes(
        &mut self,
        position: usize,
        bytes: &Bytes,
        form: Form,
        lease: &mut Lease<'_>,
    ) -> Result<(), Failure> {
        let spec = &self.signature.inputs[position];
        if bytes.starts_with(npy::MAGIC) && spec.dtype != DType::Bytes {
            let tensor = npy::read_for(bytes, spec, position, lease)?;
            return self.put(position, tensor);
        }
        let json = match form {
            Form::Json => true,
            Form::Raw => false,
            // A text is a value of its own for a model that takes texts.
            Form::Text | Form::Unsaid if spec.dtype == DType::Bytes => false,
            Form::Text => true,
            Form::Unsaid => looks_like_json(bytes) || is_a_number(bytes),
        };
        if json {
            let mut scanner = Scanner::new(bytes, self.depth, true);
            let mut whole = || -> Result<(), Stop> {
                self.read_json(position, &mut scanner, bytes, lease)?;
                scanner.end().map_err(Stop::from)
            };
            return whole().map_err(|stop| stop.in_body(bytes));
        }
        let tensor = if spec.dtype == DType::Bytes {
            one_text(spec, bytes)
        } else {
            elements(spec, position, bytes, lease)?
        };
        self.put(position, tensor)
    }

    fn put(&mut self, position: usize, tensor: Tensor) -> Result<(), Failure> {
        // Of two parts of one name TorchServe's handlers see the last; what it means here, nobody says.
        if self.tensors[position].is_some() {
            let message = format!("input {} came twice", quoted(&tensor.name));
            return Err(Failure::new(ErrorCode::RequestDuplicateInput, message));
        }
        self.tensors[position] = Some(tensor);
        Ok(())
    }

    /// One tensor an input, of shapes that the signature allows.
    pub(super) fn finish(mut self) -> Result<(SmallVec<[Tensor; 2]>, Sent), Failure> {
        let specs = &self.signature.inputs;
        if let Some(missing) = self.tensors.iter().position(Option::is_none) {
            let message = format!(
                "input {} is missing; the model takes {}",
                quoted(&specs[missing].name),
                sentence::specs(specs)
            );
            return Err(Failure::new(ErrorCode::RequestMissingInput, message));
        }
        let mut tensors: SmallVec<[Tensor; 2]> = self.tensors.drain(..).flatten().collect();
        let mut sent = Sent::Rows;
        for (spec, tensor) in specs.iter().zip(&mut tensors) {
            let row = [&[1], &*tensor.shape].concat();
            if !spec.admits(&tensor.shape) && spec.admits(&row) {
                tensor.shape = row;
                sent = Sent::Row;
            }
        }
        check_shapes(specs, &tensors)?;
        Ok((tensors, sent))
    }
}

/// Whether all of it is one JSON number.
fn is_a_number(bytes: &[u8]) -> bool {
    let text = bytes.trim_ascii();
    text.len() <= 64 && std::str::from_utf8(text).is_ok_and(|text| text.parse::<f64>().is_ok())
}

/// A text for a model that takes one, in as many dimensions as it wants.
fn one_text(spec: &TensorSpec, bytes: &Bytes) -> Tensor {
    Tensor {
        name: spec.name.clone(),
        dtype: spec.dtype,
        // The dimension of rows is left to `finish`: the answer is that of one row.
        shape: vec![1; spec.shape.len().saturating_sub(1)],
        data: Data::Strings(vec![bytes.clone()]),
    }
}

/// Elements as they lie in memory: so many rows as there are bytes for.
fn elements(
    spec: &TensorSpec,
    position: usize,
    bytes: &Bytes,
    lease: &mut Lease<'_>,
) -> Result<Tensor, Failure> {
    let size = spec.dtype.size().unwrap_or(1);
    let shape = shape_of(spec, bytes.len() / size).filter(|_| bytes.len().is_multiple_of(size));
    let Some(shape) = shape else {
        let message = format!(
            "input {}: {} came{}, and elements of {} {} lie in memory as whole rows of {size} bytes an \
             element; send JSON, or say `application/octet-stream` and send those",
            quoted(&spec.name),
            sentence::counted(bytes.len(), "byte"),
            what_it_is(bytes),
            spec.dtype,
            sentence::declared(&spec.shape)
        );
        return Err(Failure::new(ErrorCode::WireElementCount, message));
    };
    check_truths(spec.dtype, bytes, &|| format!("input {}", quoted(&spec.name)))?;
    let mut buffer = lease(position, bytes.len());
    buffer.resize(bytes.len());
    buffer.bytes_mut().copy_from_slice(bytes);
    let (name, dtype) = (spec.name.clone(), spec.dtype);
    Ok(Tensor { name, dtype, shape, data: Data::Owned(buffer) })
}

/// The shape of so many elements, where at most one extent is free; of one row, what is behind its first.
fn shape_of(spec: &TensorSpec, count: usize) -> Option<Vec<usize>> {
    let mut free = None;
    let mut fixed = 1_usize;
    for (place, dim) in spec.shape.iter().enumerate() {
        match dim {
            Dim::Fixed(extent) => fixed = fixed.checked_mul(*extent)?,
            Dim::Symbol(_) | Dim::Any(()) if free.is_none() => free = Some(place),
            Dim::Symbol(_) | Dim::Any(()) => return None,
        }
    }
    if count == 0 || fixed == 0 || !count.is_multiple_of(fixed) {
        return None;
    }
    let extent = count / fixed;
    if free.is_none() && extent != 1 {
        return None;
    }
    let of = |(place, dim): (usize, &Dim)| match dim {
        Dim::Fixed(extent) => *extent,
        _ if free == Some(place) => extent,
        _ => 1,
    };
    let mut shape: Vec<usize> = spec.shape.iter().enumerate().map(of).collect();
    if free == Some(0) && extent == 1 {
        shape.remove(0);
    }
    Some(shape)
}

/// What a body is that a handler would have read, where its first bytes tell.
fn what_it_is(bytes: &[u8]) -> &'static str {
    const KINDS: [(&[u8], &str); 5] = [
        (b"\xff\xd8\xff", " (a JPEG image: no handler decodes it here)"),
        (b"\x89PNG", " (a PNG image: no handler decodes it here)"),
        (b"PK\x03\x04", " (a zip, as `torch.save` writes: nothing pickled is read here)"),
        (b"\x80\x02", " (a pickle: none is read here)"),
        (b"\x80\x04", " (a pickle: none is read here)"),
    ];
    KINDS.iter().find(|(mark, _)| bytes.starts_with(mark)).map_or("", |(_, words)| *words)
}
