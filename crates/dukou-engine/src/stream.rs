//! Streams: calls that hear and answer more than once. Each message of one passes the whole path by itself,
//! as if it had come alone, and is written down by itself.
//!
//! Messages of a stream are answered side by side, and their answers go out in the order in which they came.
//! One that fails is told so in its place, and the stream goes on.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use dukou_types::{ErrorCode, Failure};
use dukou_wire::{
    Addressed, Inserts, Message, Target,
    grpc::{self, PREFIX, health},
    v2_grpc,
};
use http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use parking_lot::Mutex;
use tokio::{select, time::sleep};

use crate::{
    access::Caller,
    address::{address, head_of},
    hear::{Heard, admitted, named},
    reply::{self, Pace, Rope},
    stack::{Came, Door, settled, walk},
    visit::Visit,
};

/// Messages of one stream that are answered side by side.
const SIDE_BY_SIDE: usize = 16;
/// How often whoever watches the server's health is told, where it has changed.
const LOOK: Duration = Duration::from_secs(1);
/// The metadata by which a client asks that a failure ends its stream, as any other call's does.
const ENDS_AT_ERROR: &str = "triton_grpc_error";

/// A body that is still being made: frames, and trailers in the end.
pub struct Live {
    driver: Pin<Box<dyn Future<Output = HeaderMap> + Send>>,
    outbox: Outbox,
    trailers: Option<HeaderMap>,
    over: bool,
}

/// Frames that wait to be taken. Only as many as were ready at once: who takes them drives the rest.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<VecDeque<Bytes>>>);

impl Outbox {
    fn push(&self, pieces: impl IntoIterator<Item = Bytes>) {
        self.0.lock().extend(pieces.into_iter().filter(|piece| !piece.is_empty()));
    }

    fn take(&self) -> Option<Bytes> {
        self.0.lock().pop_front()
    }
}

impl Live {
    /// The next frame.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            if let Some(piece) = self.outbox.take() {
                return Poll::Ready(Some(Frame::data(piece)));
            }
            if let Some(trailers) = self.trailers.take() {
                self.over = true;
                return Poll::Ready(Some(Frame::trailers(trailers)));
            }
            if self.over {
                return Poll::Ready(None);
            }
            match self.driver.as_mut().poll(context) {
                Poll::Ready(trailers) => self.trailers = Some(trailers),
                Poll::Pending => {
                    let piece = self.outbox.take().map(Frame::data);
                    return piece.map_or(Poll::Pending, |piece| Poll::Ready(Some(piece)));
                }
            }
        }
    }

    /// Whether all of it has been taken.
    pub const fn is_over(&self) -> bool {
        self.over
    }
}

/// Whether a head begins a stream; which.
pub fn begun_by(head: &Parts) -> Option<Addressed> {
    if !grpc::is_call(&head_of(head)) {
        return None;
    }
    let asked = address(head).ok()?;
    matches!(asked.target, Target::Stream | Target::Watch).then_some(asked)
}

/// Answers a stream: a head now, the rest as it comes.
pub fn answer<B>(head: Parts, body: B, door: &Door, called: Addressed) -> Response<Rope>
where
    B: Body<Data = Bytes, Error: StdError + 'static> + Send + 'static,
{
    let mut visit = Visit::begin(door, &head.headers);
    visit.asked(Some(&called));
    let failure;
    let mut response = match admitted(&head, door, &mut visit, &called) {
        Ok((caller, limit, patience)) => {
            failure = None;
            let outbox = Outbox::default();
            let driver: Pin<Box<dyn Future<Output = HeaderMap> + Send>> =
                if called.target == Target::Watch {
                    Box::pin(watch(door.clone(), outbox.clone()))
                } else {
                    let stream = Stream {
                        called,
                        caller,
                        limit,
                        head: Arc::new(head.clone()),
                        door: Arc::new(door.clone()),
                        outbox: outbox.clone(),
                    };
                    Box::pin(stream.drive(body, patience))
                };
            let live = Live { driver, outbox, trailers: None, over: false };
            let mut response = Response::new(Rope::live(live));
            let kind = HeaderValue::from_static(grpc::CONTENT);
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(refused) => {
            let response = reply::failed(&refused, &visit, &head);
            failure = Some(refused);
            response
        }
    };
    reply::sign(&mut response, &head, &visit, false);
    visit.end(&response, failure.as_ref(), head.uri.path());
    response
}

/// Tells of the server's health: now, and whenever it has changed.
async fn watch(door: Door, outbox: Outbox) -> HeaderMap {
    let mut told = None;
    loop {
        let drains = door.engine.drain.has_begun();
        let answers = door.engine.serving.load().is_some() && !drains;
        if told != Some(answers) {
            told = Some(answers);
            outbox.push(grpc::seal(health::encode(answers), Inserts::new(), None).0);
        }
        if drains {
            return reply::ended_well();
        }
        select! {
            () = sleep(LOOK) => {}
            () = door.engine.drain.begun() => {}
        }
    }
}

/// One stream of inferences.
struct Stream {
    called: Addressed,
    caller: Caller,
    limit: usize,
    head: Arc<Parts>,
    door: Arc<Door>,
    outbox: Outbox,
}

/// What one message came to: the pieces of its answer, or the trailers that end the stream.
type Spoken = Result<Message, HeaderMap>;

impl Stream {
    async fn drive<B>(self, body: B, patience: Duration) -> HeaderMap
    where
        B: Body<Data = Bytes, Error: StdError + 'static> + Send + 'static,
    {
        let mut incoming = Incoming::new(body, self.limit, patience);
        let mut answers = InOrder::default();
        loop {
            let watch = &self.door.watch;
            let hears = incoming.open && answers.len() < SIDE_BY_SIDE;
            select! {
                biased;
                spoken = answers.next(), if !answers.is_empty() => match spoken {
                    Ok(pieces) => {
                        self.outbox.push(pieces.into_iter().map(|piece| watch.counted(piece)));
                    }
                    Err(trailers) => return trailers,
                },
                heard = incoming.next(), if hears => match heard {
                    Ok(Some(frames)) => answers.push(Box::pin(self.one(frames))),
                    Ok(None) => incoming.open = false,
                    Err(failure) => return self.broken(&failure),
                },
                // Nothing is lost: what was heard is answered, and then the stream ends.
                () = self.door.engine.drain.begun(), if incoming.open => incoming.open = false,
                else => break,
            }
        }
        if self.door.engine.drain.has_begun() {
            let failure = Failure::new(ErrorCode::ServerDraining, "the server is shutting down");
            return self.broken(&failure);
        }
        reply::ended_well()
    }

    /// The trailers of a stream that cannot go on.
    fn broken(&self, failure: &Failure) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        let visit = Visit::begin(&self.door, &self.head.headers);
        reply::put_status(&mut trailers, self.called.dialect, failure, None, visit.id);
        let mut response = Response::new(Rope::default());
        std::mem::swap(response.headers_mut(), &mut trailers);
        visit.end(&response, Some(failure), self.head.uri.path());
        std::mem::take(response.headers_mut())
    }

    /// One message, from its envelope to its answer.
    fn one(&self, frames: Message) -> impl Future<Output = Spoken> + Send + 'static {
        let (head, door) = (Arc::clone(&self.head), Arc::clone(&self.door));
        let (caller, called, limit) = (self.caller.clone(), self.called.clone(), self.limit);
        async move {
            let mut visit = Visit::begin(&door, &head.headers);
            visit.principal = caller.principal.clone();
            visit.bytes_in = frames.iter().map(Bytes::len).sum();
            visit.body_was_read = true;
            let opened = grpc::open(frames, &head.headers, limit);
            let (message, client_id) = match opened {
                Ok((message, _)) => {
                    let id = v2_grpc::client_id(&message);
                    (Ok(message), id)
                }
                Err(failure) => (Err(failure), None),
            };
            let walked = settled(async {
                let message = message?;
                let called = Addressed { target: Target::Message { operation: "infer" }, ..called };
                let asked = named(&called, &head, &message)?;
                visit.asked(Some(&asked));
                let heard = Heard { asked, caller, message, coding: None };
                walk(&head, Came::<Rope>::Message(heard), &door, &mut visit).await
            })
            .await;
            let (spoken, failure) = match walked {
                Ok(answer) => (Ok(wrapped(answer.into_message())), None),
                Err(failure) if head.headers.get(ENDS_AT_ERROR).is_some_and(|v| v == "true") => {
                    let mut trailers = HeaderMap::new();
                    let dialect = called.dialect;
                    reply::put_status(&mut trailers, dialect, &failure, None, visit.id);
                    (Err(trailers), Some(failure))
                }
                Err(failure) => {
                    let id = client_id.as_deref();
                    let text = v2_grpc::encode_streamed_failure(&failure.message, id);
                    (Ok([Bytes::from(text)].into_iter().collect()), Some(failure))
                }
            };
            let pieces = spoken.iter().flatten().cloned();
            visit.end(&Response::new(Rope::new(pieces)), failure.as_ref(), head.uri.path());
            spoken
        }
    }
}

/// An answer as a stream carries it: in a message of its own.
fn wrapped(pieces: Message) -> Message {
    let length = pieces.iter().map(Bytes::len).sum::<usize>() - PREFIX;
    let (first, last) = v2_grpc::encode_streamed(length);
    let mut left = PREFIX;
    let answer = pieces.into_iter().map(|mut piece| {
        let here = piece.len().min(left);
        piece.advance(here);
        left -= here;
        piece
    });
    let mut wrapped: Message = [Bytes::from(first)].into_iter().collect();
    wrapped.extend(answer);
    wrapped.push(Bytes::from(last));
    wrapped
}

/// The messages that come.
struct Incoming<B> {
    body: Pin<Box<B>>,
    frames: VecDeque<Bytes>,
    came: usize,
    limit: usize,
    patience: Duration,
    /// Of the message that has begun.
    pace: Option<Pace>,
    /// Whether more may come.
    open: bool,
}

impl<B> Incoming<B>
where
    B: Body<Data = Bytes, Error: StdError + 'static>,
{
    fn new(body: B, limit: usize, patience: Duration) -> Self {
        Self {
            body: Box::pin(body),
            frames: VecDeque::new(),
            came: 0,
            limit,
            patience,
            pace: None,
            open: true,
        }
    }

    /// The next one, in its envelope; none where the client has said all. Nothing is lost where the future
    /// is dropped.
    async fn next(&mut self) -> Result<Option<Message>, Failure> {
        loop {
            if let Some(message) = self.whole()? {
                return Ok(Some(message));
            }
            // Between messages a client may be as silent as it likes.
            let frame = match &self.pace {
                None => self.body.frame().await,
                Some(pace) => pace.next(self.body.frame()).await?,
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                None if self.came == 0 => return Ok(None),
                Some(Ok(Ok(data))) if data.is_empty() => {}
                Some(Ok(Ok(data))) => {
                    self.came += data.len();
                    self.pace.get_or_insert_with(|| Pace::begin(self.patience)).came(self.came);
                    self.frames.push_back(data);
                }
                Some(Ok(Err(_trailers))) => {}
                None | Some(Err(_)) => {
                    let message = "the stream ended in the middle of a message";
                    return Err(Failure::new(ErrorCode::ServerCancelled, message));
                }
            }
        }
    }

    /// A message of which all has come, taken from the front.
    fn whole(&mut self) -> Result<Option<Message>, Failure> {
        // None is empty: the first few have its envelope, however many there are.
        let first: Message = self.frames.iter().take(PREFIX).cloned().collect();
        let Some(length) = grpc::announced(&first) else {
            return Ok(None);
        };
        grpc::check_size(length, self.limit)?;
        let mut wanted = length + PREFIX;
        if self.came < wanted {
            return Ok(None);
        }
        self.came -= wanted;
        // What came of the next one already has begun now.
        self.pace = (self.came != 0).then(|| Pace::begin(self.patience));
        let mut message = Message::new();
        while let Some(mut frame) = self.frames.pop_front() {
            if frame.len() > wanted {
                message.push(frame.split_to(wanted));
                self.frames.push_front(frame);
                break;
            }
            wanted -= frame.len();
            message.push(frame);
            if wanted == 0 {
                break;
            }
        }
        Ok(Some(message))
    }
}

/// Answers to come, heard of in the order in which they were asked for.
#[derive(Default)]
struct InOrder(VecDeque<Slot>);

enum Slot {
    Coming(Pin<Box<dyn Future<Output = Spoken> + Send>>),
    Here(Spoken),
}

impl InOrder {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn push(&mut self, coming: Pin<Box<dyn Future<Output = Spoken> + Send>>) {
        self.0.push_back(Slot::Coming(coming));
    }

    /// The first, once it is here; those behind it go on meanwhile.
    async fn next(&mut self) -> Spoken {
        poll_fn(|context| {
            for slot in &mut self.0 {
                if let Slot::Coming(coming) = slot
                    && let Poll::Ready(spoken) = coming.as_mut().poll(context)
                {
                    *slot = Slot::Here(spoken);
                }
            }
            match self.0.pop_front() {
                Some(Slot::Here(spoken)) => Poll::Ready(spoken),
                Some(coming) => {
                    self.0.push_front(coming);
                    Poll::Pending
                }
                None => Poll::Pending,
            }
        })
        .await
    }
}
