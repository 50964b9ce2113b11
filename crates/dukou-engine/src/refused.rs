//! What no request was made of: heads that hyper cannot read, handshakes that fail, connections that
//! stall. They are answered where that can be, and written down all the same.
//!
//! hyper answers a head that it cannot read by itself, with a status and nothing else. [`Rewriter`] puts
//! our sentence, code and id in that answer's place, as it goes out.

use std::{sync::Arc, time::Instant};

use dukou_types::{ErrorCode, Failure, Principal, RequestId};
use http::StatusCode;

use crate::{record::Outcome, reply, security::SecurityEvent, stack::Door, table::Dialect, visit};

/// What is written down of a client that was not heard.
pub struct Unheard(Door);

impl Unheard {
    /// Of a client at this door.
    pub fn of(door: &Door) -> Self {
        Self(door.clone())
    }

    /// A connection that ended without an answer.
    pub fn connection(&self, code: ErrorCode, why: &str) {
        self.0.engine.state.refused(Dialect::V2, code);
        self.event(code, None, Some(why));
    }

    /// An answer that went out without a request.
    pub fn note(&self, failure: &Failure, id: RequestId, status: u16) {
        self.0.engine.recorder.record(&Outcome {
            id,
            trace: None,
            client_id: None,
            listener: &self.0.listener,
            dialect: Dialect::V2,
            operation: "unknown",
            lane: None,
            asked_model: None,
            status,
            error: Some(failure.code),
            received: Instant::now(),
            queue: None,
            compute: None,
            rows: 0,
            batch_rows: 0,
            found: None,
            bytes_in: 0,
            bytes_out: 0,
            principal: &Principal::Unknown,
        });
        self.event(failure.code, Some(id), failure.detail.as_deref());
    }

    fn event(&self, code: ErrorCode, id: Option<RequestId>, detail: Option<&str>) {
        self.0.engine.security.note(&SecurityEvent {
            code,
            listener: &self.0.listener,
            peer: Some(self.0.peer),
            id,
            principal: None,
            model: None,
            detail,
        });
    }
}

/// Puts our answer in the place of hyper's own.
#[derive(Default)]
pub struct Rewriter {
    /// What goes out instead, and how much of it has.
    instead: Option<(Vec<u8>, usize)>,
}

impl Rewriter {
    /// What is to be written in place of `bytes`; none where they are to go out as they are. Asked
    /// again with the same bytes until [`Rewriter::wrote`] says that all is out.
    pub fn instead_of(&mut self, bytes: &[u8], door: &Arc<Door>) -> Option<&[u8]> {
        if self.instead.is_none() {
            let status = own_refusal(bytes)?;
            if door.watch.is_http2() {
                return None;
            }
            let failure = failure_of(status);
            let id = visit::next_id();
            Unheard::of(door).note(&failure, id, status.as_u16());
            self.instead = Some((reply::plain(&failure, status, id), 0));
        }
        self.instead.as_ref().map(|(text, written)| &text[*written..])
    }

    /// So many bytes of it went out; whether that was the last of them.
    pub fn wrote(&mut self, count: usize) -> bool {
        let Some((text, written)) = &mut self.instead else { return true };
        *written += count;
        let all = *written >= text.len();
        if all {
            self.instead = None;
        }
        all
    }
}

/// The status of an answer that is hyper's and not ours: one of 4xx, with no body and without the id
/// that each of ours carries.
fn own_refusal(bytes: &[u8]) -> Option<StatusCode> {
    const LONGEST: usize = 256;
    let is_one = bytes.starts_with(b"HTTP/1.1 4")
        && bytes.len() < LONGEST
        && bytes.ends_with(b"\r\n\r\n")
        && !contains(bytes, reply::REQUEST_ID.as_str().as_bytes())
        && contains(bytes, b"content-length: 0\r\n");
    is_one.then(|| StatusCode::from_bytes(bytes.get(9..12)?).ok()).flatten()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn failure_of(status: StatusCode) -> Failure {
    match status.as_u16() {
        414 => Failure::new(ErrorCode::LimitsHeadTooLarge, "the path is too long"),
        431 => Failure::new(
            ErrorCode::LimitsHeadTooLarge,
            "the head is too large, or has too many headers",
        ),
        _ => Failure::new(ErrorCode::WireInvalidRequest, "the head is not one of HTTP/1.1"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hyper_s_own_answers_are_told_from_ours() {
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\
            date: Wed, 25 Nov 2026 18:00:00 GMT\r\n\r\n";
        assert_eq!(own_refusal(own), Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE));
        for other in [
            &b"HTTP/1.1 404 Not Found\r\ndukou-request-id: 1\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n",
            b"",
        ] {
            assert_eq!(own_refusal(other), None);
        }
    }
}
