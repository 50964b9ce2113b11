//! What goes back: a head and a rope of bytes. Errors are put into the dialect's shape here.

use std::{
    convert::Infallible,
    error::Error as StdError,
    fmt,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, RequestId};
use dukou_wire::{Coding, Dialect, Head, Inserts, Message, Target, grpc, v2};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version,
    header::{
        ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, RETRY_AFTER, WWW_AUTHENTICATE,
    },
    request::Parts,
};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, SizeHint};
use smallvec::SmallVec;
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    address::{address, dialect_of, first_of, head_of},
    stream::Live,
    visit::Visit,
};

/// The version that answered.
pub const VERSION: HeaderName = HeaderName::from_static("dukou-version");
/// The revision of the table that chose it.
pub const REVISION: HeaderName = HeaderName::from_static("dukou-revision");
/// The engine's id of the request.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("dukou-request-id");

/// How a request that a cache looked at came to its answer.
pub const CACHE: HeaderName = HeaderName::from_static("dukou-cache");

/// How a call ended, by gRPC's number.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// The same in words.
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// When a call that was refused may be tried again, in milliseconds.
const GRPC_PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Our stable code of a call's failure.
const CODE: HeaderName = HeaderName::from_static("dukou-code");
/// What its asker can do.
const REMEDY: HeaderName = HeaderName::from_static("dukou-remedy");

/// A body in pieces, none of which is copied on its way out.
#[derive(Default)]
pub struct Rope {
    pieces: SmallVec<[Bytes; 2]>,
    next: usize,
    /// What follows the pieces of a call's answer.
    trailers: Option<Box<HeaderMap>>,
    /// What is still being made.
    live: Option<Box<Live>>,
}

impl Rope {
    /// A body of these pieces.
    pub fn new(pieces: impl IntoIterator<Item = Bytes>) -> Self {
        let pieces = pieces.into_iter().filter(|piece| !piece.is_empty()).collect();
        Self { pieces, ..Self::default() }
    }

    /// A body that is still being made.
    pub fn live(live: Live) -> Self {
        Self { live: Some(Box::new(live)), ..Self::default() }
    }

    /// A call's answer that went well: one message, with room for its envelope before it. Says whether it
    /// was compressed.
    pub fn message(text: Vec<u8>, inserts: Inserts, coding: Option<Coding>) -> (Self, bool) {
        let (pieces, compressed) = grpc::seal(text, inserts, coding);
        (Self { pieces, trailers: Some(Box::new(ended_well())), ..Self::default() }, compressed)
    }

    /// Whether it is a call's answer.
    pub const fn is_message(&self) -> bool {
        self.trailers.is_some() || self.live.is_some()
    }

    /// The same with each piece made another, of the same content.
    pub fn map(mut self, each: impl FnMut(Bytes) -> Bytes) -> Self {
        self.pieces = std::mem::take(&mut self.pieces).into_iter().map(each).collect();
        self
    }

    /// What is left of it.
    pub fn into_pieces(self) -> Message {
        self.pieces.into_iter().skip(self.next).collect()
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
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(live) = &mut self.live {
            return live.poll(context).map(|frame| frame.map(Ok));
        }
        let next = self.next;
        let Some(piece) = self.pieces.get_mut(next).map(std::mem::take) else {
            let trailers = self.trailers.take();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(*trailers))));
        };
        self.next += 1;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        let made = self.live.as_ref().is_none_or(|live| live.is_over());
        self.is_empty() && self.trailers.is_none() && made
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_message() {
            // How long a call's answer is stands in its envelope.
            return SizeHint::default();
        }
        SizeHint::with_exact(self.len() as u64)
    }
}

impl fmt::Debug for Rope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rope({} bytes)", self.len())
    }
}

/// The trailers of a call that went well.
pub fn ended_well() -> HeaderMap {
    HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static("0"))])
}

/// A failure, as its asker sees it: the status of its code, and the dialect's body with its sentence.
pub fn failed(failure: &Failure, visit: &Visit<'_>, head: &Parts) -> Response<Rope> {
    let id = visit.id;
    let (dialect, target) = match address(head) {
        // What a call is about stood in its message.
        Ok(asked) => (asked.dialect, Some(visit.named.clone().unwrap_or(asked.target))),
        Err(_) => (dialect_of(head), None),
    };
    if dialect.is_grpc() {
        return refused_call(dialect, failure, target.as_ref(), id);
    }
    let body = dialect.encode_error(failure, target.as_ref(), id);
    let mut response = Response::new(Rope::from(Bytes::from(body)));
    let status = dialect.status(failure, target.as_ref());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
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
    if failure.code == ErrorCode::WireWrongMethod
        && let Ok(methods) = HeaderValue::from_str(&allowed(head))
    {
        headers.insert(ALLOW, methods);
    }
    response
}

/// The same of a call: a head without a message, whose status says it in numbers and in words.
fn refused_call(
    dialect: Dialect,
    failure: &Failure,
    target: Option<&Target>,
    id: RequestId,
) -> Response<Rope> {
    let mut response = Response::new(Rope::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT));
    put_status(headers, dialect, failure, target, id);
    if failure.code == ErrorCode::WireUnsupported {
        let accepted = HeaderValue::from_static(grpc::ACCEPTED);
        headers.insert(HeaderName::from_static("grpc-accept-encoding"), accepted);
    }
    response
}

/// How a call failed: gRPC's number and words, our code and what to do.
pub fn put_status(
    headers: &mut HeaderMap,
    dialect: Dialect,
    failure: &Failure,
    target: Option<&Target>,
    id: RequestId,
) {
    headers.insert(GRPC_STATUS, dialect.status(failure, target).into());
    let words = dialect.encode_error(failure, target, id);
    let text = |bytes: Vec<u8>| HeaderValue::from_maybe_shared(Bytes::from(bytes)).ok();
    if let Some(words) = text(words) {
        headers.insert(GRPC_MESSAGE, words);
    }
    headers.insert(CODE, HeaderValue::from_static(failure.code.as_str()));
    if let Some(remedy) = text(grpc::encode_words(failure.code.remedy()).into_bytes()) {
        headers.insert(REMEDY, remedy);
    }
    if let Some(wait) = failure.retry_after {
        let milliseconds = u64::try_from(wait.as_millis().max(1)).unwrap_or(u64::MAX);
        headers.insert(GRPC_PUSHBACK, milliseconds.into());
    }
}

/// The methods of a path that has others than the one that came.
fn allowed(head: &Parts) -> String {
    let takes = |method: &&Method| {
        let asked = Head { method, ..head_of(head) };
        !matches!(dukou_wire::address_first(&asked, first_of(head)), Err(failure)
            if matches!(failure.code, ErrorCode::WireWrongMethod | ErrorCode::WireUnknownPath))
    };
    let methods = [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE];
    let taken: Vec<&str> = methods.iter().filter(takes).map(Method::as_str).collect();
    taken.join(", ")
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

/// How slowly what a client sends may come.
pub struct Pace {
    patience: Duration,
    until: Instant,
    wanted: usize,
}

impl Pace {
    /// It begins to come: [`PACE`] bytes in `patience`, and again and again.
    pub fn begin(patience: Duration) -> Self {
        Self { patience, until: Instant::now() + patience, wanted: PACE }
    }

    /// So many bytes are there, of all that come.
    pub fn came(&mut self, total: usize) {
        if total >= self.wanted {
            self.until = Instant::now() + self.patience;
            self.wanted = total + PACE;
        }
    }

    /// What comes next.
    ///
    /// # Errors
    /// `limits.slow-body` where it is too late.
    pub async fn next<F: Future>(&self, coming: F) -> Result<F::Output, Failure> {
        timeout_at(self.until, coming).await.map_err(|_| slow_body(self.patience))
    }
}

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
    read_frames(body, limit, patience, |_| Ok(())).await
}

/// The same of a body that says more of itself: `look` sees what has come whenever more has.
///
/// # Errors
/// The same, and that of `look`, before the rest is read.
pub async fn read_frames<B>(
    body: B,
    limit: usize,
    patience: Duration,
    mut look: impl FnMut(&[Bytes]) -> Result<(), Failure>,
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
    let mut pace = Pace::begin(patience);
    loop {
        // What is there already needs no timer.
        let frame = match at_once(body.frame()).await {
            Some(frame) => frame,
            None => pace.next(body.frame()).await?,
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
        pace.came(came);
        if !data.is_empty() {
            frames.push(data);
            look(&frames)?;
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
