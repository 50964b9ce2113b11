//! What a request asks, as bytes that say all of it: two requests with the same bytes have one answer.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use dukou_types::{Data, InferRequest, Param, Principal, Requested};
use quick_cache::Equivalent;

/// A question that is kept with its answer.
#[derive(Clone, Debug)]
pub struct Question {
    hash: u64,
    bytes: Arc<[u8]>,
}

/// A question that is just being asked: the same, in borrowed bytes.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    pub hash: u64,
    pub bytes: &'a [u8],
}

impl Question {
    /// The loaded version that is asked.
    pub fn identity(&self) -> u64 {
        self.bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
    }

    /// Bytes that it takes.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

impl From<Asked<'_>> for Question {
    fn from(asked: Asked<'_>) -> Self {
        Self { hash: asked.hash, bytes: asked.bytes.into() }
    }
}

impl PartialEq for Question {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes) || self.bytes == other.bytes
    }
}

impl Eq for Question {}

// The hash was taken once, over all bytes; it only finds the place. Whether it is the same question is
// decided by the bytes themselves.
impl Hash for Question {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl Equivalent<Question> for Asked<'_> {
    fn equivalent(&self, question: &Question) -> bool {
        *self.bytes == *question.bytes
    }
}

/// Appends all that an answer may depend on, with every part's length before it, so that no two
/// questions have the same bytes: the loaded version, who asks, the inputs with their names, dtypes and
/// shapes, the outputs that are wanted and the parameters.
///
/// The request's id, deadline, trace and priority are no part of the question.
pub fn write_question(identity: u64, request: &InferRequest, bytes: &mut Vec<u8>) {
    let InferRequest {
        principal,
        inputs,
        outputs,
        parameters,
        id: _,
        client_id: _,
        deadline: _,
        cancel: _,
        trace: _,
        priority: _,
    } = request;
    bytes.extend_from_slice(&identity.to_le_bytes());
    write_principal(principal, bytes);
    number(inputs.len(), bytes);
    for input in inputs {
        text(&input.name, bytes);
        bytes.push(input.dtype as u8);
        number(input.shape.len(), bytes);
        input.shape.iter().for_each(|&extent| number(extent, bytes));
        match &input.data {
            Data::Owned(buffer) => blob(buffer.bytes(), bytes),
            Data::Shared(shared) => blob(shared.as_ref(), bytes),
            Data::Strings(strings) => {
                number(strings.len(), bytes);
                strings.iter().for_each(|string| blob(string, bytes));
            }
        }
    }
    match outputs {
        Requested::All => bytes.push(0),
        Requested::Only(positions) => {
            bytes.push(1);
            number(positions.len(), bytes);
            positions.iter().for_each(|&position| number(position, bytes));
        }
    }
    number(parameters.len(), bytes);
    for (name, value) in parameters {
        text(name, bytes);
        match value {
            Param::Bool(value) => bytes.extend_from_slice(&[0, u8::from(*value)]),
            Param::Int(value) => {
                bytes.push(1);
                bytes.extend_from_slice(&value.to_le_bytes());
            }
            Param::Double(value) => {
                bytes.push(2);
                bytes.extend_from_slice(&value.to_bits().to_le_bytes());
            }
            Param::String(value) => {
                bytes.push(3);
                text(value, bytes);
            }
        }
    }
}

fn write_principal(principal: &Principal, bytes: &mut Vec<u8>) {
    match principal {
        Principal::Unknown => bytes.push(0),
        Principal::Loopback => bytes.push(1),
        Principal::Anonymous => bytes.push(2),
        Principal::Engine => bytes.push(3),
        Principal::Named(name) => {
            bytes.push(4);
            text(name, bytes);
        }
    }
}

fn number(value: usize, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&(value as u64).to_le_bytes());
}

fn text(value: &str, bytes: &mut Vec<u8>) {
    blob(value.as_bytes(), bytes);
}

fn blob(value: &[u8], bytes: &mut Vec<u8>) {
    number(value.len(), bytes);
    bytes.extend_from_slice(value);
}
