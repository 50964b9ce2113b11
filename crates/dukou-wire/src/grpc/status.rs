//! How a call ended, in gRPC's numbers and its percent-encoded words; and how long it may take.

use std::time::Duration;

use dukou_types::{ErrorCode, Failure};

/// gRPC's numbers, those that we give.
pub mod number {
    #![allow(missing_docs, reason = "the names are gRPC's")]
    pub const OK: u16 = 0;
    pub const CANCELLED: u16 = 1;
    pub const INVALID_ARGUMENT: u16 = 3;
    pub const DEADLINE_EXCEEDED: u16 = 4;
    pub const NOT_FOUND: u16 = 5;
    pub const PERMISSION_DENIED: u16 = 7;
    pub const RESOURCE_EXHAUSTED: u16 = 8;
    pub const FAILED_PRECONDITION: u16 = 9;
    pub const ABORTED: u16 = 10;
    pub const UNIMPLEMENTED: u16 = 12;
    pub const INTERNAL: u16 = 13;
    pub const UNAVAILABLE: u16 = 14;
    pub const UNAUTHENTICATED: u16 = 16;
}

/// The number of a failure: that of its HTTP status, but for what HTTP has one status for and gRPC two.
pub fn of(failure: &Failure) -> u16 {
    match failure.code {
        // No such method, where HTTP knows no such path.
        ErrorCode::WireUnknownPath => return number::UNIMPLEMENTED,
        ErrorCode::EngineOutOfMemory => return number::RESOURCE_EXHAUSTED,
        _ => {}
    }
    match failure.http_status() {
        401 => number::UNAUTHENTICATED,
        403 => number::PERMISSION_DENIED,
        404 => number::NOT_FOUND,
        405 | 501 => number::UNIMPLEMENTED,
        408 | 504 => number::DEADLINE_EXCEEDED,
        409 => number::ABORTED,
        413 | 429 | 431 => number::RESOURCE_EXHAUSTED,
        499 => number::CANCELLED,
        502 | 503 => number::UNAVAILABLE,
        400..=498 => number::INVALID_ARGUMENT,
        _ => number::INTERNAL,
    }
}

/// The most bytes of words that a status carries: heads have a limit.
const MOST_WORDS: usize = 2048;

/// Words as `grpc-message` has them: printable ASCII as it is, everything else as `%XX`.
pub fn encode_words(words: &str) -> String {
    let mut end = words.len().min(MOST_WORDS);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    let mut encoded = String::with_capacity(end + 16);
    for &byte in &words.as_bytes()[..end] {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let digit = |half: u8| char::from(b"0123456789ABCDEF"[usize::from(half & 15)]);
            encoded.extend(['%', digit(byte >> 4), digit(byte)]);
        }
    }
    if end < words.len() {
        encoded.push_str("...");
    }
    encoded
}

/// `grpc-timeout`: up to eight digits and a unit.
///
/// # Errors
/// `wire.invalid-field`.
pub fn parse_timeout(text: &str) -> Result<Duration, Failure> {
    let refuse = || {
        Failure::new(
            ErrorCode::WireInvalidField,
            "`grpc-timeout` must be 1 to 8 digits and one of H, M, S, m, u, n",
        )
    };
    let (digits, unit) = text.split_at_checked(text.len().wrapping_sub(1)).ok_or_else(refuse)?;
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let count: u64 = digits.parse().ok().filter(|_| plain).ok_or_else(refuse)?;
    Ok(match unit {
        "H" => Duration::from_secs(count * 3600),
        "M" => Duration::from_secs(count * 60),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return Err(refuse()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_number_and_none_is_ok() {
        for &code in ErrorCode::ALL {
            assert_ne!(of(&Failure::new(code, "")), number::OK, "{code}");
        }
        for (code, expected) in [
            (ErrorCode::RequestUnknownModel, number::NOT_FOUND),
            (ErrorCode::WireUnknownPath, number::UNIMPLEMENTED),
            (ErrorCode::WireUnsupported, number::UNIMPLEMENTED),
            (ErrorCode::RequestWrongShape, number::INVALID_ARGUMENT),
            (ErrorCode::RequestBodyTooLarge, number::RESOURCE_EXHAUSTED),
            (ErrorCode::AccessNoKey, number::UNAUTHENTICATED),
            (ErrorCode::AccessForbidden, number::PERMISSION_DENIED),
            (ErrorCode::LimitsQueueFull, number::RESOURCE_EXHAUSTED),
            (ErrorCode::LimitsDeadline, number::DEADLINE_EXCEEDED),
            (ErrorCode::ServerDraining, number::UNAVAILABLE),
            (ErrorCode::ServerCancelled, number::CANCELLED),
            (ErrorCode::EngineInternal, number::INTERNAL),
        ] {
            assert_eq!(of(&Failure::new(code, "")), expected, "{code}");
        }
        let elsewhere = Failure::new(ErrorCode::ReplicaFailed, "").with_status(500);
        assert_eq!(of(&elsewhere), number::INTERNAL);
    }

    #[test]
    fn words_travel_percent_encoded() {
        assert_eq!(encode_words("no model `m`"), "no model `m`");
        assert_eq!(encode_words("100% 渡\n"), "100%25 %E6%B8%A1%0A");
        let long = encode_words(&"é".repeat(2000));
        assert!(long.len() == 3 * MOST_WORDS + 3 && long.ends_with("%A9..."));
    }

    #[test]
    fn a_timeout_has_a_unit() {
        for (text, expected) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse_timeout(text).unwrap(), expected);
        }
        for wrong in ["", "S", "1", "1s", "123456789m", "-1S", "+1S", "1 S", "1é"] {
            assert!(parse_timeout(wrong).is_err(), "{wrong}");
        }
    }
}
