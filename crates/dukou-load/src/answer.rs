//! Reading one HTTP/1.1 answer from bytes as they come.

use dukou_wire::v2::HEADER_LENGTH;

use crate::outcome::Loss;

/// Above this an answer is refused: nothing is read without bound.
pub const LARGEST: usize = 256 << 20;
const HEADERS: usize = 64;

/// How far reading has come.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Partial,
    /// A whole answer.
    Complete(Answer),
}

/// A whole answer. Ranges are positions in the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Whether the server will close the connection.
    pub closes: bool,
    /// The body, chunks joined.
    pub body: Body,
    /// The value of `dukou-version`, where it was asked for.
    pub version: Option<String>,
    /// Bytes of JSON before raw tensors, where V2 says it.
    pub header_length: Option<usize>,
}

/// Where the body is.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// In the read bytes, from here to their end.
    Tail(usize),
    /// Came in chunks; joined.
    Joined(Vec<u8>),
}

/// Reads what has come so far. `ended` says that the peer has closed its side.
pub fn read(bytes: &[u8], ended: bool, wants_version: bool) -> Result<Progress, Loss> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let start = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if ended => return Err(Loss::Reset),
        Ok(httparse::Status::Partial) if bytes.len() > 1 << 20 => return Err(Loss::Protocol),
        Ok(httparse::Status::Partial) => return Ok(Progress::Partial),
        Err(_) => return Err(Loss::Protocol),
    };
    let status = head.code.ok_or(Loss::Protocol)?;
    let mut length = None;
    let mut chunked = false;
    let mut closes = head.version == Some(0);
    let (mut version, mut header_length) = (None, None);
    for header in head.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            length = Some(decimal(header.value).ok_or(Loss::Protocol)?);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            chunked = header.value.eq_ignore_ascii_case(b"chunked");
        } else if header.name.eq_ignore_ascii_case("connection") {
            closes = header.value.eq_ignore_ascii_case(b"close");
        } else if header.name.eq_ignore_ascii_case(HEADER_LENGTH) {
            header_length = Some(decimal(header.value).ok_or(Loss::Protocol)?);
        } else if wants_version && header.name.eq_ignore_ascii_case("dukou-version") {
            version = Some(String::from_utf8_lossy(header.value).into_owned());
        }
    }
    let rest = &bytes[start..];
    let body = match (chunked, length) {
        (true, _) => match join_chunks(rest)? {
            Some(joined) => Body::Joined(joined),
            None => {
                return if ended { Err(Loss::Reset) } else { Ok(Progress::Partial) };
            }
        },
        (false, Some(length)) if rest.len() == length => Body::Tail(start),
        // Nothing was asked for that more bytes could answer.
        (false, Some(length)) if rest.len() > length => return Err(Loss::Protocol),
        (false, Some(length)) if length > LARGEST => return Err(Loss::Protocol),
        (false, Some(_)) => {
            return if ended { Err(Loss::Reset) } else { Ok(Progress::Partial) };
        }
        (false, None) if status == 204 || status == 304 => Body::Tail(bytes.len()),
        (false, None) if ended => Body::Tail(start),
        (false, None) if rest.len() > LARGEST => return Err(Loss::Protocol),
        (false, None) => return Ok(Progress::Partial),
    };
    let closes = closes || ended;
    Ok(Progress::Complete(Answer { status, closes, body, version, header_length }))
}

fn decimal(text: &[u8]) -> Option<usize> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// The joined chunks, or nothing where the last has not come.
fn join_chunks(mut rest: &[u8]) -> Result<Option<Vec<u8>>, Loss> {
    let mut joined = Vec::new();
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Loss::Protocol),
        };
        let size = usize::try_from(size).map_err(|_| Loss::Protocol)?;
        if size > LARGEST || joined.len() + size > LARGEST {
            return Err(Loss::Protocol);
        }
        let Some(chunk) = rest.get(start..start + size) else {
            return Ok(None);
        };
        joined.extend_from_slice(chunk);
        rest = &rest[start + size..];
        match rest {
            [b'\r', b'\n', after @ ..] => rest = after,
            // Trailers are not read: after the last chunk we take the empty line only.
            [] | [b'\r'] => return Ok(None),
            _ => return Err(Loss::Protocol),
        }
        if size == 0 {
            return if rest.is_empty() { Ok(Some(joined)) } else { Err(Loss::Protocol) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(bytes: &[u8]) -> Answer {
        match read(bytes, false, true) {
            Ok(Progress::Complete(answer)) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_prefix_is_partial_and_the_whole_is_complete() {
        for whole in [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nDukou-Version: 2\r\n\r\nabc"[..],
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        ] {
            for end in 0..whole.len() {
                assert_eq!(read(&whole[..end], false, false), Ok(Progress::Partial), "{end}");
                assert_eq!(read(&whole[..end], true, false), Err(Loss::Reset), "{end}");
            }
            let answer = complete(whole);
            assert_eq!(answer.status, 200);
            let body = match &answer.body {
                Body::Tail(start) => &whole[*start..],
                Body::Joined(joined) => joined,
            };
            assert_eq!(body, b"abc");
            assert!(!answer.closes);
        }
    }

    #[test]
    fn the_version_header_is_read() {
        let answer = complete(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\ndukou-version: 7\r\n\r\n");
        assert_eq!(answer.version.as_deref(), Some("7"));
    }

    #[test]
    fn closing_is_noticed() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        assert!(complete(head).closes);
        assert!(complete(b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n").closes);
    }

    #[test]
    fn what_is_not_http_is_said_to_be_so() {
        for bytes in [
            &b"SSH-2.0-x\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            assert_eq!(read(bytes, false, false), Err(Loss::Protocol));
        }
    }
}
