//! A call as who makes it sees it: its envelope, how it ended, and how long it may take.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;

use super::{CONTENT, number, open, seal};
use crate::{
    DecodeLimits, Inserts, Message,
    peer::{Refusal, Reply, Written, code_of},
};

/// A message behind room for its envelope, as a call's body.
pub(crate) fn call(message: Vec<u8>) -> Written {
    call_with(message, Inserts::new())
}

/// The same with what stands at places of it.
pub(crate) fn call_with(message: Vec<u8>, inserts: Inserts) -> Written {
    let (mut pieces, _) = seal(message, inserts, None);
    let body = match &mut *pieces {
        [whole] => std::mem::take(whole),
        pieces => Bytes::from(pieces.concat()),
    };
    Written { body, content_type: CONTENT, header_length: None }
}

/// The message of an answer.
///
/// # Errors
/// How the call ended where that was not well, with the status of HTTP that is the nearest.
pub(crate) fn open_reply(reply: &Reply<'_>, limits: &DecodeLimits) -> Result<Message, Refusal> {
    let foreign = |words: String| Refusal { status: 502, code: None, words };
    if reply.status != 200 {
        let words = format!("{} to a call of gRPC: it does not speak it here", reply.status);
        return Err(foreign(words));
    }
    // Where there is no message, what would follow it stands before it.
    let said = |name: &str| {
        let found = reply.trailers.and_then(|trailers| trailers.get(name));
        found.or_else(|| reply.headers.get(name))?.to_str().ok()
    };
    let Some(status) = said("grpc-status").and_then(|text| text.parse().ok()) else {
        return Err(foreign("its answer has no `grpc-status`: it is none of gRPC".to_owned()));
    };
    if status != number::OK {
        return Err(Refusal {
            status: http_status(status),
            code: said("dukou-code").and_then(code_of),
            words: said("grpc-message").map(decode_words).unwrap_or_default(),
        });
    }
    let frames: Message = reply.body.iter().cloned().collect();
    match open(frames, reply.headers, limits.body_bytes) {
        Ok((message, _)) => Ok(message),
        Err(failure) => Err(foreign(failure.message.into_owned())),
    }
}

/// The status of HTTP that is nearest to one of gRPC's.
const fn http_status(status: u16) -> u16 {
    match status {
        number::CANCELLED => 499,
        number::INVALID_ARGUMENT | number::FAILED_PRECONDITION | 11 => 400,
        number::DEADLINE_EXCEEDED => 504,
        number::NOT_FOUND => 404,
        6 | number::ABORTED => 409,
        number::PERMISSION_DENIED => 403,
        number::RESOURCE_EXHAUSTED => 429,
        number::UNIMPLEMENTED => 501,
        number::UNAVAILABLE => 503,
        number::UNAUTHENTICATED => 401,
        _ => 500,
    }
}

/// Words as `grpc-message` carries them; what is not percent-encoded as it should be stands as it came.
fn decode_words(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut words = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(decoded) => {
                words.push(decoded);
                at += 3;
            }
            None => {
                words.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&words).trim().to_owned()
}

/// The value of `grpc-timeout` for what is left of a deadline.
#[must_use]
pub fn format_timeout(left: Duration) -> String {
    // Eight digits are the most: of milliseconds, a day and more.
    let milliseconds = left.as_millis().clamp(1, 99_999_999);
    format!("{milliseconds}m")
}

/// The headers that every call has.
#[must_use]
pub fn call_headers() -> HeaderMap {
    let pairs = [("te", "trailers"), ("grpc-accept-encoding", super::ACCEPTED)];
    let of = |(name, value)| {
        (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
    };
    pairs.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use dukou_types::ErrorCode;

    use super::*;
    use crate::grpc::{encode_words, parse_timeout};

    const LIMITS: DecodeLimits = DecodeLimits { json_depth: 8, body_bytes: 100 };

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let of = |(name, value): &(&'static str, &str)| {
            (http::HeaderName::from_static(name), value.parse().unwrap())
        };
        pairs.iter().map(of).collect()
    }

    #[test]
    fn words_and_timeouts_travel_both_ways() {
        for words in ["no model `m`", "100% 渡", "%zz %"] {
            assert_eq!(decode_words(&encode_words(words)), words);
        }
        assert_eq!(decode_words("%zz %4"), "%zz %4");
        for left in [Duration::ZERO, Duration::from_millis(1500), Duration::from_secs(1 << 30)] {
            let read = parse_timeout(&format_timeout(left)).unwrap();
            assert!(read >= Duration::from_millis(1) && read <= left.max(Duration::from_millis(1)));
        }
    }

    #[test]
    fn how_a_call_ended_is_understood_wherever_it_stands() {
        let body = call(b"\0\0\0\0\0abc".to_vec()).body;
        let well = headers(&[("grpc-status", "0")]);
        let none = HeaderMap::new();
        let of = |status, headers, trailers, body: &[Bytes]| {
            open_reply(&Reply { status, headers, trailers, body }, &LIMITS)
        };
        let message = of(200, &none, Some(&well), std::slice::from_ref(&body)).unwrap();
        assert_eq!(message.concat(), b"abc");
        let refused = headers(&[
            ("grpc-status", "8"),
            ("grpc-message", "full %E6%B8%A1"),
            ("dukou-code", "limits.queue-full"),
        ]);
        for (headers, trailers) in [(&refused, None), (&none, Some(&refused))] {
            let refusal = of(200, headers, trailers, &[]).unwrap_err();
            assert_eq!(refusal.code, Some(ErrorCode::LimitsQueueFull));
            assert_eq!((refusal.status, &*refusal.words), (429, "full 渡"));
        }
        for (status, headers, words) in [
            (404, &none, "404 to a call of gRPC"),
            (200, &none, "no `grpc-status`"),
            (200, &well, "begins with a flag"),
        ] {
            let refusal = of(status, headers, None, &[]).unwrap_err();
            assert!(refusal.status == 502 && refusal.words.contains(words), "{refusal}");
        }
    }
}
