//! gRPC over HTTP/2: what its dialects share. Bytes to messages and back, without I/O.
//!
//! A head names only a method; the model stands in the first message. So each of these dialects has an
//! `address` that looks at the head and one that looks at the message behind it, and tensors are read
//! over frames as they came: what a message carries is copied once, to where it is run.

mod elements;
mod fields;
mod frame;
pub mod health;
mod part;
mod reply;
mod status;

pub use frame::{ACCEPTED, ENCODING, PREFIX, accepted, announced, check_size, open, prefix, seal};
pub(crate) use reply::{call, call_with, open_reply};
pub use reply::{call_headers, format_timeout};
pub use status::{encode_words, number, of as status_of, parse_timeout};

pub(crate) use elements::Repeated;
pub(crate) use fields::{
    Field, Fields, Value, broken, push_bytes, push_length, push_message, push_number, push_varint,
    text, varint, varint_len,
};
pub(crate) use part::Part;

use dukou_types::{ErrorCode, Failure};
use http::{Method, header::CONTENT_TYPE};

use crate::{Head, sentence::quoted};

/// The content type of calls and answers.
pub const CONTENT: &str = "application/grpc";

/// Whether a head is that of a call, whatever it calls.
pub fn is_call(head: &Head<'_>) -> bool {
    head.method == Method::POST
        && head.headers.get(CONTENT_TYPE).is_some_and(|value| {
            let rest = value.as_bytes().strip_prefix(CONTENT.as_bytes());
            rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
        })
}

/// The method of a service that a path names; `None` where it is not the service's.
pub(crate) fn method_of<'p>(path: &'p str, service: &str) -> Option<&'p str> {
    path.strip_prefix('/')?.strip_prefix(service)?.strip_prefix('/')
}

/// Whether the messages are protobuf, which is all that we read.
pub(crate) fn check_content(head: &Head<'_>) -> Result<(), Failure> {
    let kind = head.headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let subtype = kind.get(CONTENT.len()..).unwrap_or_default();
    if !subtype.starts_with(b"+") || subtype == b"+proto" || subtype.starts_with(b"+proto;") {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::WireUnsupported,
        format!("messages are protobuf; {} came", quoted(&String::from_utf8_lossy(kind))),
    ))
}

/// A path that is nobody's.
#[cold]
pub(crate) fn no_method(path: &str) -> Failure {
    Failure::new(ErrorCode::WireUnknownPath, format!("there is no method {}", quoted(path)))
}

/// A message without tensors behind room for its envelope.
pub(crate) fn written(message: &impl prost::Message) -> Vec<u8> {
    let mut out = Vec::with_capacity(PREFIX + message.encoded_len());
    out.resize(PREFIX, 0);
    out.extend_from_slice(&message.encode_to_vec());
    out
}
