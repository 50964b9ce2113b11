//! The binary extension: tensors as raw bytes behind the JSON.
//!
//! `Inference-Header-Content-Length` says how many bytes of the body are JSON; the raw bytes of each
//! tensor that has a `binary_data_size` follow in the order of the JSON, little-endian and row-major.
//! An element of `BYTES` is its length in four bytes, then itself.

use std::ops::Range;

use bytes::Bytes;
use dukou_types::{Data, ErrorCode, Failure, Tensor};
use http::{HeaderMap, HeaderName};

use super::tensor::{Lease, ReadTensor};
use crate::{
    rope,
    sentence::{self, counted, quoted},
    truths::check_truths,
};

/// The header that says how much of a body is JSON.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// The same as a name that need not be parsed.
static HEADER_LENGTH_NAME: HeaderName = HeaderName::from_static(HEADER_LENGTH);

/// Bytes of JSON in a body of `total` bytes; `None` where all of it is.
pub(super) fn header_length(headers: &HeaderMap, total: usize) -> Result<Option<usize>, Failure> {
    let Some(value) = headers.get(&HEADER_LENGTH_NAME) else {
        return Ok(None);
    };
    let length = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match length.and_then(|text| text.parse::<usize>().ok()) {
        Some(length) if length <= total => Ok(Some(length)),
        _ => {
            let came = quoted(&String::from_utf8_lossy(value.as_bytes()));
            let message = format!(
                "`Inference-Header-Content-Length` must be the bytes of JSON, at most the {total} of the body; {came} came"
            );
            Err(Failure::new(ErrorCode::WireInvalidField, message))
        }
    }
}

/// The raw bytes of a body, taken from the front by one tensor after the other.
pub(super) struct RawData<'r> {
    rope: &'r [Bytes],
    rest: Range<usize>,
    announced: bool,
}

impl<'r> RawData<'r> {
    /// What stands behind the JSON.
    pub(super) fn new(rope: &'r [Bytes], header_length: Option<usize>) -> Self {
        let total = rope::length(rope);
        Self {
            rope,
            rest: header_length.unwrap_or(total)..total,
            announced: header_length.is_some(),
        }
    }

    /// Gives a tensor that was read without data its elements.
    pub(super) fn fill(
        &mut self,
        read: ReadTensor,
        noun: &str,
        lease: &mut Lease<'_>,
    ) -> Result<Tensor, Failure> {
        let ReadTensor { mut tensor, position, raw_bytes } = read;
        let Some(bytes) = raw_bytes else {
            return Ok(tensor);
        };
        let owner = || format!("{noun} {}", quoted(&tensor.name));
        if !self.announced {
            let message = format!(
                "{} says that its data stands behind the JSON; the header `Inference-Header-Content-Length` is missing",
                owner()
            );
            return Err(Failure::new(ErrorCode::WireMissingField, message));
        }
        if bytes > self.rest.len() {
            let message = format!(
                "{} says that it has {}; {} of the body are left",
                owner(),
                counted(bytes, "raw byte"),
                self.rest.len()
            );
            return Err(Failure::new(ErrorCode::WireElementCount, message));
        }
        let range = self.rest.start..self.rest.start + bytes;
        self.rest.start = range.end;
        let elements = Tensor::elements(&tensor.shape).unwrap_or(usize::MAX);
        tensor.data = match tensor.dtype.size() {
            None => Data::Strings(strings(&rope::gather(self.rope, range), elements, &owner)?),
            Some(size) => {
                if elements.checked_mul(size) != Some(bytes) {
                    let message = format!(
                        "{} has shape {} of {}, which is {}; `binary_data_size` says {bytes}",
                        owner(),
                        sentence::shape(&tensor.shape),
                        tensor.dtype,
                        counted(elements.saturating_mul(size), "byte"),
                    );
                    return Err(Failure::new(ErrorCode::WireElementCount, message));
                }
                let mut buffer = lease(position, bytes);
                buffer.resize(bytes);
                rope::copy(self.rope, range, buffer.bytes_mut());
                check_truths(tensor.dtype, buffer.bytes(), &owner)?;
                Data::Owned(buffer)
            }
        };
        Ok(tensor)
    }

    /// Demands that nothing is left.
    pub(super) fn end(&self) -> Result<(), Failure> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let message = format!(
            "{} are left behind the last tensor's raw data",
            counted(self.rest.len(), "byte")
        );
        Err(Failure::new(ErrorCode::WireElementCount, message))
    }
}

/// Elements of `BYTES`: each its length, then itself.
pub(crate) fn strings(
    raw: &Bytes,
    elements: usize,
    owner: &dyn Fn() -> String,
) -> Result<Vec<Bytes>, Failure> {
    // Each takes at least the four bytes of its length.
    let mut strings = Vec::with_capacity(elements.min(raw.len() / 4));
    let mut at = 0;
    while at < raw.len() {
        let length =
            raw.get(at..at + 4).and_then(|prefix| prefix.try_into().ok()).map(u32::from_le_bytes);
        let range = length
            .and_then(|length| Some(at + 4..(at + 4).checked_add(usize::try_from(length).ok()?)?));
        match range.filter(|range| range.end <= raw.len()) {
            Some(range) if strings.len() < elements => {
                at = range.end;
                strings.push(raw.slice(range));
            }
            Some(_) => return Err(miscounted(owner, elements, "more")),
            None => {
                let message = format!(
                    "{}: an element's length reaches past the end of its raw data",
                    owner()
                );
                return Err(Failure::new(ErrorCode::WireElementCount, message));
            }
        }
    }
    if strings.len() == elements {
        Ok(strings)
    } else {
        Err(miscounted(owner, elements, &strings.len().to_string()))
    }
}

#[cold]
fn miscounted(owner: &dyn Fn() -> String, elements: usize, came: &str) -> Failure {
    let message = format!(
        "{}: its shape is {}; its raw data holds {came}",
        owner(),
        counted(elements, "element")
    );
    Failure::new(ErrorCode::WireElementCount, message)
}

/// Appends a tensor's raw bytes.
pub(crate) fn push_raw(out: &mut Vec<u8>, tensor: &Tensor) {
    match &tensor.data {
        Data::Owned(buffer) => out.extend_from_slice(buffer.bytes()),
        Data::Shared(shared) => out.extend_from_slice(shared.as_ref()),
        Data::Strings(strings) => {
            for string in strings {
                // Longer than four gigabytes has no form on this wire; a body limit stands before it.
                let length = u32::try_from(string.len()).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(string);
            }
        }
    }
}
