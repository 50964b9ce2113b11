//! What passes between a dialect and the request path: a body decoded, an answer to encode.

use std::{sync::Arc, time::Duration};

use dukou_types::{Param, Requested, Tensor};
use smallvec::SmallVec;

use crate::rope::Inserts;

/// What a decoder may spend on one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeLimits {
    /// How deep objects and lists may stand in each other. Never more than 512.
    pub json_depth: usize,
    /// The largest body, in bytes.
    pub body_bytes: usize,
}

/// A body, decoded against the signature of the version that will answer it.
#[derive(Clone, Debug, Default)]
pub struct Decoded {
    /// The client's own id, to be given back.
    pub client_id: Option<Arc<str>>,
    /// 0 is the default; 1 the most urgent.
    pub priority: u32,
    /// How long the answer is of use, from the request's arrival on.
    pub timeout: Option<Duration>,
    /// Whose rows these are, where the client said it.
    pub subject: Option<Arc<str>>,
    /// Anything else that the client said.
    pub parameters: Vec<(Arc<str>, Param)>,
    /// One tensor an input, in the signature's order.
    pub inputs: SmallVec<[Tensor; 2]>,
    /// Which outputs to answer.
    pub outputs: Requested,
    /// How the client wants them carried.
    pub carriage: Carriage,
    /// Of each answered output the classes with the highest scores, so many, in place of all its scores; 0
    /// and past the end: all as it is.
    pub top: SmallVec<[usize; 4]>,
}

/// How outputs travel: inside the JSON, or as raw bytes behind it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Carriage {
    /// All as JSON.
    #[default]
    Json,
    /// All as raw bytes.
    Binary,
    /// All as JSON, one value a row.
    Rows,
    /// All as JSON, one nested value an output.
    Columns,
    /// All as JSON, one bare value a row.
    BareRows,
    /// All as JSON, the bare value of the only row.
    BareRow,
    /// As a Keras server answers: one value a row, with the names of classes.
    Predictions,
    /// How right the answers are, instead of them.
    Scores(Arc<Truth>),
    /// One by one, in the order of the answer's outputs: whether it goes as raw bytes.
    Each(SmallVec<[bool; 4]>),
    /// As classes or values, as TensorFlow Serving's Classify and Regress answer.
    Results {
        /// How a row is told.
        telling: Telling,
        /// Whether they stand in an answer to several inferences.
        several: bool,
    },
    /// In a message of gRPC.
    Message,
}

/// How a row of an answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Its classes with their scores.
    Classes,
    /// One number.
    Values,
}

impl Carriage {
    /// Whether the answer's output at this position goes as raw bytes.
    pub fn is_binary(&self, position: usize) -> bool {
        match self {
            Self::Json
            | Self::Rows
            | Self::Columns
            | Self::BareRows
            | Self::BareRow
            | Self::Predictions
            | Self::Results { .. }
            | Self::Scores(_) => false,
            Self::Binary | Self::Message { .. } => true,
            Self::Each(each) => each.get(position).copied().unwrap_or(false),
        }
    }
}

/// What is true of each row, as its asker said it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth(Vec<Label>);

#[derive(Clone, Debug, PartialEq)]
enum Label {
    Number(f64),
    Text(Box<str>),
}

impl Truth {
    pub(crate) fn push_number(&mut self, number: f64) {
        self.0.push(Label::Number(number));
    }

    pub(crate) fn push_text(&mut self, text: &str) {
        self.0.push(Label::Text(text.into()));
    }

    /// Rows.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// A row's truth as a number, where it is one.
    pub(crate) fn number(&self, row: usize) -> Option<f64> {
        match self.0.get(row)? {
            Label::Number(number) => Some(*number),
            Label::Text(_) => None,
        }
    }

    /// Whether this is a row's truth; a number is what is written the same.
    pub(crate) fn is(&self, row: usize, said: &str) -> bool {
        match self.0.get(row) {
            Some(Label::Number(number)) => said.parse() == Ok(*number),
            Some(Label::Text(text)) => **text == *said,
            None => false,
        }
    }
}

/// What an answer says besides its tensors.
#[derive(Clone, Copy, Debug)]
pub struct EncodeContext<'a> {
    /// The model that answered.
    pub model: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The client's own id, where it gave one.
    pub client_id: Option<&'a str>,
    /// How the client wants the outputs carried ([`Decoded::carriage`]).
    pub carriage: &'a Carriage,
    /// The names of the model's classes, in their order; empty where they have none.
    pub labels: &'a [Box<str>],
}

/// What a door must say in the headers of an encoded body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Bytes of JSON before the raw tensors: the value of [`crate::v2::HEADER_LENGTH`]. `None` where
    /// the whole body is JSON.
    pub header_length: Option<usize>,
    /// What stands in the body without being copied into it, and where.
    pub inserts: Inserts,
}

impl Encoded {
    /// The content type of the body.
    pub const fn content_type(&self) -> &'static str {
        match self.header_length {
            None => "application/json",
            Some(_) => "application/octet-stream",
        }
    }
}
