//! Inputs taken apart: a first line, frames.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The first line, where an input says something besides its body, and what stands behind it.
pub(crate) fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|&byte| byte == b'\n') {
        Some(end) => (&input[..end], &input[end + 1..]),
        None => (&[], input),
    }
}

/// A header with this value; none where no header can have it.
pub(crate) fn header(name: &'static str, value: &[u8]) -> HeaderMap {
    let value = HeaderValue::from_bytes(value).ok().filter(|value| !value.is_empty());
    value.map(|value| (HeaderName::from_static(name), value)).into_iter().collect()
}

/// A body in one frame.
pub(crate) fn whole(body: &[u8]) -> [Bytes; 1] {
    [Bytes::copy_from_slice(body)]
}

/// The same body in several, one of them empty, cut at places that differ from body to body.
pub(crate) fn cut(body: &[u8]) -> [Bytes; 5] {
    let mixed = body.iter().fold(body.len(), |sum, &byte| sum.wrapping_mul(31) + usize::from(byte));
    let mut places = [mixed, mixed / 7, mixed / 61].map(|place| place % (body.len() + 1));
    places.sort_unstable();
    let [first, second, third] = places;
    [
        Bytes::copy_from_slice(&body[..first]),
        Bytes::copy_from_slice(&body[first..second]),
        Bytes::new(),
        Bytes::copy_from_slice(&body[second..third]),
        Bytes::copy_from_slice(&body[third..]),
    ]
}
