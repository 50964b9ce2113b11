//! What goes back: a head and a rope of bytes. Errors are put into the dialect's shape here.

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, RequestId};
use dukou_wire::{Dialect, Head, v2};
use http::{
    HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER, WWW_AUTHENTICATE,
    },
    request::Parts,
};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use smallvec::SmallVec;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{address::head_of, visit::Visit};

/// The version that answered.
pub const VERSION: HeaderName = HeaderName::from_static("dukou-version");
/// The revision of the table that chose it.
pub const REVISION: HeaderName = HeaderName::from_static("dukou-revision");
/// The engine's id of the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("dukou-request-id");

/// How a request that a cache looked at came to its answer.
pub const CACHE: HeaderName = HeaderName::from_static("dukou-cache");

/// A body in pieces, none of which is copied on its way out.
#[derive(Debug, Default)]
pub struct Rope {
    pieces: SmallVec<[Bytes; 2]>,
    next: usize,
}

impl Rope {
    /// A body of these pieces.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        Self { pieces: pieces.into_iter().filter(|piece| !piece.is_empty()).collect(), next: 0 }
    }

    /// Bytes that are left to send.
    pub fn len(&self) -> usize {
        self.pieces[self.next..].iter().map(Bytes::len).sum()
    }

    /// Whether nothing is left to send.
    pub fn is_empty(&self) -> bool {
        self.next == self.pieces.len()
    }
}

impl From<Bytes> for Rope {
    fn from(bytes: Bytes) -> Self {
        Self::new([bytes])
    }
}

impl Body for Rope {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.next;
        let Some(piece) = self.pieces.get_mut(next).map(std::mem::take) else {
            return Poll::Ready(None);
        };
        self.next += 1;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len() as u64)
    }
}

/// A failure, as its asker sees it: the status of its code, and the dialect's body with its sentence.
pub fn failed(failure: &Failure, id: RequestId, head: &Parts) -> Response<Rope> {
    let asked = head_of(head);
    let (dialect, target) = match dukou_wire::address(&asked) {
        Ok(asked) => (asked.dialect, Some(asked.target)),
        Err(_) => (Dialect::of(&asked), None),
    };
    let body = dialect.encode_error(failure, target.as_ref(), id);
    let mut response = Response::new(Rope::from(Bytes::from(body)));
    *response.status_mut() =
        StatusCode::from_u16(dialect.status(failure)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if matches!(failure.http_status(), 429 | 503) {
        // Whole seconds, and none that would be too early.
        let seconds = failure.retry_after.map_or(1, |time| time.as_millis().div_ceil(1000).max(1));
        headers.insert(RETRY_AFTER, u64::try_from(seconds).unwrap_or(u64::MAX).into());
    }
    if failure.http_status() == 401 {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"dukou\""));
    }
    if failure.code == ErrorCode::WireWrongMethod {
        headers.insert(ALLOW, HeaderValue::from_static(allowed(head)));
    }
    response
}

/// The methods of a path that has others than the one that came.
fn allowed(head: &Parts) -> &'static str {
    match dukou_wire::address(&Head { method: &Method::GET, ..head_of(head) }) {
        Err(failure) if failure.code == ErrorCode::WireWrongMethod => "POST",
        _ => "GET, HEAD",
    }
}

/// Puts under an answer what every answer carries: who answered, and the request's id.
pub fn sign(response: &mut Response<Rope>, head: &Parts, visit: &Visit<'_>, closing: bool) {
    let length = response.body().len();
    let headers = response.headers_mut();
    match (visit.lane(), &visit.served_by) {
        // Another server answered: its own version and revision, and where it said none, none.
        (_, Some(served_by)) => {
            for (name, text) in [(VERSION, &served_by.version), (REVISION, &served_by.revision)] {
                if let Some(value) = text.as_deref().and_then(|t| HeaderValue::from_str(t).ok()) {
                    headers.insert(name, value);
                }
            }
        }
        // Ours would be of another sequence than those of the replicas.
        (Some(lane), None) if lane.version.way.remote().is_some() => {}
        (Some(lane), None) => {
            headers.insert(VERSION, lane.version_header.clone());
            headers.insert(REVISION, lane.revision_header.clone());
        }
        (None, None) => {}
    }
    if let Some(revision) = &visit.revision {
        headers.insert(REVISION, revision.clone());
    }
    let id = visit.id;
    headers.insert(REQUEST_ID, id_value(id));
    // The client is told that this connection ends, so that it does not lose its next request on it.
    // HTTP/2 has a frame for it.
    if closing && head.version < Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if head.method == Method::HEAD {
        headers.insert(CONTENT_LENGTH, length.into());
        *response.body_mut() = Rope::default();
    }
}

/// 16 hex digits.
fn id_value(id: RequestId) -> HeaderValue {
    let mut digits = [0; 16];
    for (place, digit) in digits.iter_mut().enumerate() {
        *digit = b"0123456789abcdef"[(id.0 >> (60 - 4 * place)) as usize & 15];
    }
    HeaderValue::from_bytes(&digits).unwrap_or(HeaderValue::from_static(""))
}

/// A failure as a whole HTTP/1.1 response, for what no request was made of: a connection that no
/// worker serves, a head that cannot be read.
pub fn plain(failure: &Failure, status: StatusCode, id: RequestId) -> Vec<u8> {
    let body = v2::encode_error(failure, id);
    let again = if matches!(status.as_u16(), 429 | 503) { "retry-after: 1\r\n" } else { "" };
    let mut text = format!(
        "HTTP/1.1 {} {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{again}\
         {REQUEST_ID}: {id}\r\nconnection: close\r\n\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default(),
        body.len()
    )
    .into_bytes();
    text.extend_from_slice(&body);
    text
}

/// The status of a code.
pub fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// How much of a body must come within the time that a head may take: a network that is slower than
/// this carries no tensors, and a client that is slower means to hold a place.
const PACE: usize = 16 * 1024;

/// Reads a body that must not be longer than `limit`, as the frames it came in.
///
/// # Errors
/// `request.body-too-large` as soon as it is known to be, before the rest is read;
/// `limits.slow-body` where less than [`PACE`] comes in `patience`; `wire.invalid-request` where its
/// framing is broken; `server.cancelled` where the asker left in the middle of it.
pub async fn read_body<B>(
    body: B,
    limit: usize,
    patience: Duration,
) -> Result<SmallVec<[Bytes; 2]>, Failure>
where
    B: Body<Data = Bytes, Error: StdError + 'static>,
{
    let too_large = |came: u64| {
        let message = format!(
            "the body has {came} bytes or more, and `limits.body_bytes` of the serving table allows {limit}"
        );
        Failure::new(ErrorCode::RequestBodyTooLarge, message)
    };
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(announced));
    }
    let mut body = std::pin::pin!(body);
    let mut frames = SmallVec::new();
    let mut came = 0_usize;
    let mut pace = (Instant::now() + patience, PACE);
    loop {
        // What is there already needs no timer.
        let frame = match at_once(body.frame()).await {
            Some(frame) => frame,
            None => timeout_at(pace.0, body.frame()).await.map_err(|_| slow_body(patience))?,
        };
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| broken_body(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        came = came.saturating_add(data.len());
        if came > limit {
            return Err(too_large(came as u64));
        }
        if came >= pace.1 {
            pace = (Instant::now() + patience, came + PACE);
        }
        if !data.is_empty() {
            frames.push(data);
        }
    }
    Ok(frames)
}

/// What a future gives without waiting.
async fn at_once<F: Future>(future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

fn slow_body(patience: Duration) -> Failure {
    let message = format!(
        "of the body, less than {PACE} bytes came in {} ms, which is `limits.header_ms`",
        patience.as_millis()
    );
    Failure::new(ErrorCode::LimitsSlowBody, message)
}

/// A client that left, or one whose chunks are no chunks.
fn broken_body(error: &(dyn StdError + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if matches!(kind, Some(io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)) {
            let message = "the body's chunks are not as HTTP/1.1 has them";
            return Failure::new(ErrorCode::WireInvalidRequest, message);
        }
        cause = error.source();
    }
    Failure::new(ErrorCode::ServerCancelled, "the body ended before it was complete")
}

/// Bodies up to this size are read away where they are not wanted.
const SMALL_BODY: u64 = 64 * 1024;
/// How long that may take: what is small has mostly come with its head.
const READ_AWAY: Duration = Duration::from_millis(250);

/// Reads an unwanted body to its end and says whether that was done. A large one, one of unknown size,
/// and one that its client would send only when told to, are left alone.
pub async fn read_away<B>(head: &Parts, body: B) -> bool
where
    B: Body<Data = Bytes, Error: StdError + 'static>,
{
    let small = body.size_hint().exact().is_some_and(|length| length <= SMALL_BODY);
    if !small || head.headers.contains_key(EXPECT) {
        return false;
    }
    let reading = read_body(body, SMALL_BODY as usize, READ_AWAY);
    matches!(timeout(READ_AWAY, reading).await, Ok(Ok(_)))
}
