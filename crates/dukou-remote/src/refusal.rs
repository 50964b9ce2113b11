//! What another server's refusal is to our caller: its code, its sentence and its status.

use std::time::Duration;

use dukou_types::{ErrorCode, Failure};
use dukou_wire::Refusal;
use http::{StatusCode, header::RETRY_AFTER};

use crate::{address::Address, connection::Heard};

/// Words of another server's that are passed on.
const LONGEST: usize = 2000;

/// The failure that a refusal is, which was heard so.
pub fn failure(refusal: &Refusal, heard: &Heard, address: &Address) -> Failure {
    let words = cut(&refusal.words);
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_GATEWAY);
    let failure = match refusal.code {
        // Our key was refused, and nothing of the caller's.
        _ if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => Failure::new(
            ErrorCode::ReplicaFailed,
            format!("replica `{address}` refused the key of this server: {words}"),
        ),
        Some(code) => Failure::new(code, words.to_owned()).with_status(status.as_u16()),
        None if status.is_client_error() => {
            Failure::new(ErrorCode::ReplicaRefused, said_by(address, words, status))
                .with_status(status.as_u16())
        }
        None if status.is_server_error() => {
            Failure::new(ErrorCode::ReplicaFailed, said_by(address, words, status))
                .with_status(status.as_u16())
        }
        None => Failure::new(ErrorCode::ReplicaFailed, said_by(address, words, status)),
    };
    match retry_after(heard) {
        Some(time) => failure.with_retry_after(time),
        None => failure,
    }
}

fn said_by(address: &Address, words: &str, status: StatusCode) -> String {
    match words {
        "" => format!("replica `{address}` answered {}", status.as_u16()),
        words => format!("replica `{address}` answered {}: {words}", status.as_u16()),
    }
}

fn cut(words: &str) -> &str {
    if words.len() <= LONGEST {
        return words;
    }
    let end = (0..=LONGEST).rev().find(|end| words.is_char_boundary(*end)).unwrap_or(0);
    &words[..end]
}

fn retry_after(heard: &Heard) -> Option<Duration> {
    let seconds = heard.headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use dukou_wire::{DecodeLimits, Peer};
    use http::HeaderMap;

    use super::*;

    fn of(status: u16, body: &str) -> Failure {
        let heard = Heard {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter([(RETRY_AFTER, "7".parse().unwrap())]),
            body: [bytes::Bytes::copy_from_slice(body.as_bytes())].into_iter().collect(),
            trailers: None,
        };
        let limits = DecodeLimits { json_depth: 8, body_bytes: 1 << 20 };
        let refusal = Peer::V2.open(&heard.reply(), &limits).unwrap_err();
        failure(&refusal, &heard, &Address::parse("http://a:1").unwrap())
    }

    #[test]
    fn code_sentence_and_status_are_passed_on() {
        let ours = of(429, r#"{"error":"full","code":"limits.queue-full"}"#);
        assert_eq!((ours.code, ours.http_status()), (ErrorCode::LimitsQueueFull, 429));
        assert_eq!(ours.message, "full");
        assert_eq!(ours.retry_after, Some(Duration::from_secs(7)));
        let theirs = of(422, r#"{"error":"bad shape"}"#);
        assert_eq!((theirs.code, theirs.http_status()), (ErrorCode::ReplicaRefused, 422));
        assert_eq!(theirs.message, "replica `http://a:1` answered 422: bad shape");
        let newer = of(409, r#"{"error":"x","code":"what.nobody-knows"}"#);
        assert_eq!((newer.code, newer.http_status()), (ErrorCode::ReplicaRefused, 409));
        assert_eq!(of(500, "oops").http_status(), 500);
        assert_eq!(of(302, "").message, "replica `http://a:1` answered 302");
    }

    #[test]
    fn a_key_that_is_refused_is_ours_and_not_the_callers() {
        let refused = of(401, r#"{"error":"no such key","code":"access.bad-key"}"#);
        assert_eq!((refused.code, refused.http_status()), (ErrorCode::ReplicaFailed, 502));
    }

    #[test]
    fn long_words_are_cut_between_letters() {
        let long = of(400, &"渡".repeat(2000));
        assert!(long.message.len() < LONGEST + 100);
    }
}
