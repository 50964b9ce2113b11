//! A message in its envelope: whether it is compressed, how long it is, itself.

use bytes::{Buf as _, Bytes};
use dukou_types::{ErrorCode, Failure};
use http::HeaderMap;
use smallvec::SmallVec;

use super::fields::broken;
use crate::{
    coding::{Coding, WORTH_IT},
    rope::{self, Inserts, Message, woven},
};

/// Bytes before a message: a flag and a length.
pub const PREFIX: usize = 5;
/// The header that names how compressed messages are.
pub const ENCODING: &str = "grpc-encoding";
/// What we read, and what an answer may be written in.
pub const ACCEPTED: &str = "identity,gzip,deflate";

/// What a client says that it compresses messages with.
///
/// # Errors
/// `wire.unsupported` for one that we do not read.
fn coding_of(headers: &HeaderMap) -> Result<Option<Coding>, Failure> {
    let Some(named) = headers.get(ENCODING).filter(|named| *named != "identity") else {
        return Ok(None);
    };
    match named.to_str().ok().and_then(Coding::named) {
        Some(coding) => Ok(Some(coding)),
        None => Err(Failure::new(
            ErrorCode::WireUnsupported,
            format!("`{ENCODING}` may be one of {ACCEPTED}; another one came"),
        )),
    }
}

/// The coding, where the client reads answers in it.
#[must_use]
pub fn accepted(coding: Coding, headers: &HeaderMap) -> Option<Coding> {
    let accepted = headers.get("grpc-accept-encoding")?.to_str().ok()?;
    accepted.split(',').any(|name| name.trim() == coding.name()).then_some(coding)
}

/// How long the message is that these frames begin with, where enough of them is there.
pub fn announced(frames: &[Bytes]) -> Option<usize> {
    let mut prefix = [0; PREFIX];
    if rope::length(frames) < PREFIX {
        return None;
    }
    rope::copy(frames, 0..PREFIX, &mut prefix);
    Some(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize)
}

/// Takes the message out of the frames of a call that has one. Gives what it was compressed with.
///
/// # Errors
/// `wire.invalid-message` where the frames do not hold one whole message and nothing more;
/// `request.body-too-large` where it is larger than `limit`, compressed or not.
pub fn open(
    mut frames: Message,
    headers: &HeaderMap,
    limit: usize,
) -> Result<(Message, Option<Coding>), Failure> {
    let total = rope::length(&frames);
    let Some(length) = announced(&frames) else {
        return Err(broken(format!(
            "{total} bytes came, and a message begins with a flag and its length, which are {PREFIX}"
        )));
    };
    check_size(length, limit)?;
    if total - PREFIX != length {
        return Err(broken(format!(
            "its envelope says that it has {length} bytes; {} came",
            total - PREFIX
        )));
    }
    let flag = frames.iter().find_map(|frame| frame.first()).copied();
    strip(&mut frames);
    let coding = coding_of(headers)?;
    match (flag, coding) {
        (Some(0), _) => Ok((frames, None)),
        (Some(1), Some(coding)) => {
            let inflated =
                coding.inflate(&rope::gather(&frames, 0..length), limit).map_err(|_| {
                    broken(format!("it is not {}, as `{ENCODING}` says", coding.name()))
                })?;
            check_size(inflated.len(), limit)?;
            Ok((SmallVec::from_iter([Bytes::from(inflated)]), Some(coding)))
        }
        (Some(1), None) => {
            Err(broken(format!("it says that it is compressed, and `{ENCODING}` does not say how")))
        }
        _ => Err(broken("its flag is neither 0 nor 1".to_owned())),
    }
}

/// Takes the prefix off.
fn strip(frames: &mut Message) {
    let mut left = PREFIX;
    for frame in frames.iter_mut() {
        let here = frame.len().min(left);
        frame.advance(here);
        left -= here;
    }
    frames.retain(|frame| !frame.is_empty());
}

/// Refuses a message that is too large.
///
/// # Errors
/// `request.body-too-large`.
pub fn check_size(length: usize, limit: usize) -> Result<(), Failure> {
    if length <= limit {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::RequestBodyTooLarge,
        format!(
            "the message has {length} bytes or more, and `limits.body_bytes` of the serving table allows {limit}"
        ),
    ))
}

/// Puts a message into its envelope. `head` begins with [`PREFIX`] bytes of room; `inserts` stand at
/// places of it and are not copied. Compressed where `coding` says so and it is worth it; says whether.
pub fn seal(head: Vec<u8>, inserts: Inserts, coding: Option<Coding>) -> (Message, bool) {
    let length = head.len() - PREFIX + inserts.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    if let Some(coding) = coding.filter(|_| length >= WORTH_IT) {
        let plain = rope::gather(&woven(head, inserts), 0..length + PREFIX);
        if let Some(mut packed) = coding.deflate(&plain[PREFIX..]) {
            let mut sealed = Vec::with_capacity(packed.len() + PREFIX);
            sealed.extend_from_slice(&prefix(1, packed.len()));
            sealed.append(&mut packed);
            return (SmallVec::from_iter([Bytes::from(sealed)]), true);
        }
        let mut head = plain.to_vec();
        head[..PREFIX].copy_from_slice(&prefix(0, length));
        return (SmallVec::from_iter([Bytes::from(head)]), false);
    }
    let mut head = head;
    head[..PREFIX].copy_from_slice(&prefix(0, length));
    (woven(head, inserts), false)
}

/// The flag and the length of a message.
pub fn prefix(flag: u8, length: usize) -> [u8; PREFIX] {
    // A message of four gigabytes has no form on this wire; a limit stands before it.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [flag, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(encoding: Option<&'static str>) -> HeaderMap {
        let pairs = encoding.map(|name| {
            (http::HeaderName::from_static(ENCODING), http::HeaderValue::from_static(name))
        });
        pairs.into_iter().collect()
    }

    fn sealed(coding: Option<Coding>, message: &[u8]) -> Message {
        let head: Vec<u8> = [0; PREFIX].iter().chain(message).copied().collect();
        seal(head, Inserts::new(), coding).0
    }

    #[test]
    fn what_is_sealed_is_opened() {
        let message: Vec<u8> = (0..5000_u32).flat_map(|n| (n % 7).to_le_bytes()).collect();
        for coding in [None, Some(Coding::Gzip), Some(Coding::Deflate)] {
            for message in [&message[..], b"short", b""] {
                let frames = sealed(coding, message);
                let headers = headers(coding.map(Coding::name));
                let (opened, _) = open(frames, &headers, 1 << 20).unwrap();
                assert_eq!(rope::gather(&opened, 0..message.len()), message);
            }
        }
        assert!(rope::length(&sealed(Some(Coding::Gzip), &message)) < message.len() / 4);
    }

    #[test]
    fn inserts_stand_in_their_places() {
        let head = b"\0\0\0\0\0abcd".to_vec();
        let inserts: Inserts =
            [(7, Bytes::from_static(b"--")), (9, Bytes::from_static(b"!"))].into_iter().collect();
        let (pieces, _) = seal(head, inserts, None);
        assert_eq!(&rope::gather(&pieces, 0..12)[..], b"\0\0\0\0\x07ab--cd!");
        assert_eq!(pieces.len(), 4);
    }

    #[test]
    fn an_envelope_that_lies_is_refused() {
        let invalid = |bytes: &[u8], encoding| {
            let frames = SmallVec::from_iter([Bytes::copy_from_slice(bytes)]);
            open(frames, &headers(encoding), 100).map(drop).unwrap_err()
        };
        for (bytes, encoding, code, words) in [
            (&b""[..], None, ErrorCode::WireInvalidMessage, "0 bytes came"),
            (b"\0\0\0\0", None, ErrorCode::WireInvalidMessage, "4 bytes came"),
            (b"\0\0\0\0\x02a", None, ErrorCode::WireInvalidMessage, "has 2 bytes; 1 came"),
            (b"\0\0\0\0\x01ab", None, ErrorCode::WireInvalidMessage, "has 1 bytes; 2 came"),
            (b"\x02\0\0\0\x01a", None, ErrorCode::WireInvalidMessage, "neither 0 nor 1"),
            (b"\x01\0\0\0\x01a", None, ErrorCode::WireInvalidMessage, "does not say how"),
            (b"\x01\0\0\0\x01a", Some("gzip"), ErrorCode::WireInvalidMessage, "is not gzip"),
            (b"\0\0\0\0\x01a", Some("snappy"), ErrorCode::WireUnsupported, "identity,gzip"),
            (b"\0\xff\xff\xff\xff", None, ErrorCode::RequestBodyTooLarge, "`limits.body_bytes`"),
        ] {
            let failure = invalid(bytes, encoding);
            assert_eq!(failure.code, code, "{failure}");
            assert!(failure.message.contains(words), "{failure}");
        }
    }

    #[test]
    fn a_small_message_does_not_become_a_large_one() {
        let bomb = sealed(Some(Coding::Gzip), &vec![0; 1 << 20]);
        assert!(rope::length(&bomb) < 10_000);
        let failure = open(bomb, &headers(Some("gzip")), 20_000).map(drop).unwrap_err();
        assert_eq!(failure.code, ErrorCode::RequestBodyTooLarge);
    }
}
