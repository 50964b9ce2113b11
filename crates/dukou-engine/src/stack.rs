//! The request path, from head to record, in one function: [`walk`].
//!
//! accept ► address ► authenticate ► admit ► route ► decode ► cache ► batch ► run ► encode ► record
//!
//! Each line of it is one room, and each room a module. What stands around it, in [`answer`], holds
//! for every request whatever happens on the way: it gets an answer, with an id, and is written down
//! exactly once.

use std::{
    future::{Future, poll_fn},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, InferResponse, LARGE, Tensor};
use dukou_wire::{
    Addressed, Carriage, Coding, DecodeLimits, Dialect, EncodeContext, Inserts, Message, Selector,
    Sent, Target,
    grpc::{self, PREFIX},
    open_body, seal_body, v2, woven,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
    request::Parts,
};
use hyper::body::Body;
use tokio::time::sleep;

use crate::{
    access::{Origin, enforce, permit},
    address::{First, address},
    admit::admit,
    cache::{self, Answered, Found},
    describe::{describe, ready},
    engine::Engine,
    hear::{Heard, hear},
    manage,
    penalty::Penalty,
    reply::{self, Rope, read_body},
    route::route,
    serving::{Lane, Serving},
    shadow::After,
    stream,
    visit::Visit,
    watch::Watch,
    way::{self, before},
};

/// Where a connection came in, and what its requests share.
#[derive(Clone)]
pub struct Door {
    /// The process.
    pub engine: Arc<Engine>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The connection, as its worker watches it.
    pub watch: Arc<Watch>,
    /// The client's address.
    pub peer: IpAddr,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
}

/// What the path found, before it is put into a response.
pub(crate) struct Answer {
    status: StatusCode,
    content_type: HeaderValue,
    body: Rope,
    /// Bytes of JSON before raw tensors.
    header_length: Option<usize>,
    /// What the cache did.
    found: Option<Found>,
    /// What a call's message is compressed with.
    coding: Option<Coding>,
}

/// What came of a request besides its head.
pub(crate) enum Came<B> {
    /// A body that nobody has read.
    Body(B),
    /// A call's message, whose sender is known.
    Message(Heard),
}

/// How long a client says that it will wait, in milliseconds.
const TIMEOUT: &str = "dukou-timeout-ms";
/// The same of a call.
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// Whose rows a request holds, in UTF-8.
const SUBJECT: &str = "dukou-subject";

/// Answers one request, whatever happens on the way: a failure becomes its status and sentence, a
/// panic the failure `engine.internal`, and a client that leaves is written down as one that left.
pub async fn answer<B>(request: Request<B>, door: &Door) -> Response<Rope>
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static> + Send + 'static,
{
    let _busy = door.watch.request();
    let (mut head, body) = request.into_parts();
    // A listener that stands in for another server lets a path mean what it means there.
    if let Some(first) = first_dialect(door) {
        head.extensions.insert(First(first));
    }
    if let Some(called) = stream::begun_by(&head) {
        return stream::answer(head, body, door, called);
    }
    let mut visit = Visit::begin(door, &head.headers);
    let announced = !body.is_end_stream();
    let mut body = pin!(body);
    let walked = unbroken(pin!(walk(&head, Came::Body(body.as_mut()), door, &mut visit))).await;
    // A small body that nobody wanted is read away, so that a mistaken name does not cost its client the
    // connection; a large one is not waited for.
    let unread = announced && !visit.body_was_read && !reply::read_away(&head, body).await;
    door.watch.leaves_unread(unread);
    let closing = match &walked {
        Err(failure) if failure.code == ErrorCode::AccessBadKey => penalty(door).await,
        _ => false,
    };
    let (mut response, failure) = match walked {
        Ok(answer) => (answer.into_response(&door.watch), None),
        Err(failure) => (reply::failed(&failure, &visit, &head), Some(failure)),
    };
    // A body that nobody read stands between this request and the connection's next.
    let closing = closing || unread || door.engine.drain.has_begun();
    reply::sign(&mut response, &head, &visit, closing);
    // record: last, once the answer is known, so that what is counted is what was said.
    visit.end(&response, failure.as_ref(), head.uri.path());
    response
}

/// Who is asked first what a path means; none on most listeners.
fn first_dialect(door: &Door) -> Option<Dialect> {
    let table = door.engine.serving.load();
    let serving = table.as_deref().filter(|serving| serving.stands_in)?;
    serving.listener(&door.listener)?.first
}

/// Has whoever shows too many bad keys wait; says whether the connection should rather close.
async fn penalty(door: &Door) -> bool {
    match door.engine.penalties.after_a_bad_key(door.peer) {
        Penalty::None => false,
        Penalty::Close => true,
        Penalty::Wait(time, _held) => {
            sleep(time).await;
            false
        }
    }
}

/// The path.
pub(crate) async fn walk<B>(
    head: &Parts,
    came: Came<B>,
    door: &Door,
    visit: &mut Visit<'_>,
) -> Result<Answer, Failure>
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static>,
{
    let engine = &*door.engine;

    // address: first, and from the head alone. A request for nothing that is here costs a lookup,
    // however large its body is, and every later room knows what it is about.
    // hear: a call's head names only its method; its message is read once its sender is known.
    let (mut asked, came) = match came {
        Came::Message(heard) => (Ok(heard.asked.clone()), Came::Message(heard)),
        Came::Body(body) => match address(head) {
            Ok(called) if called.dialect.is_grpc() => {
                let heard = hear(head, body, door, visit, called).await?;
                (Ok(heard.asked.clone()), Came::Message(heard))
            }
            asked => (asked, Came::Body(body)),
        },
    };

    let (dialect, lane, whole, limits, patience, default_deadline, labels, mut after, _place) = {
        // One look at the table: what follows happens wholly under it, whatever is swapped meanwhile.
        let table = engine.serving.load();
        let serving = table.as_deref();

        // authenticate: before the request can hold anything of the model's, and before a stranger
        // hears whether anything is at that path.
        let origin =
            Origin { listener: &door.listener, peer: door.peer, encrypted: door.encrypted };
        asked = asked.and_then(|asked| only(asked, serving));
        let target = asked.as_ref().ok().map(|asked| &asked.target);
        visit.asked(asked.as_ref().ok());
        let caller = match &came {
            Came::Body(_) => enforce(serving, origin, head, target)?,
            Came::Message(heard) => permit(&heard.caller, target).map(|()| heard.caller.clone())?,
        };
        visit.principal = caller.principal.clone();

        let Addressed { dialect, target } = &heard(asked, serving, origin.listener, head)?;
        let Target::Infer { model, selector } = target else {
            if matches!(target, Target::Change { .. } | Target::RepositoryIndex) {
                let asked = Addressed { dialect: *dialect, target: target.clone() };
                let (most, patience) = {
                    let limits = &ready(serving)?.limits;
                    (limits.body_bytes, limits.header)
                };
                // What is served changes below: the table of before is not held meanwhile.
                drop(table);
                let frames = match came {
                    Came::Message(heard) => heard.message,
                    Came::Body(body) => read_whole(body, head, (most, patience), visit).await?,
                };
                let is_grpc = asked.dialect.is_grpc();
                let (status, text) =
                    manage::answer(&door.engine, &caller, head, asked, &frames).await?;
                return Ok(if is_grpc {
                    let message = Rope::message(text, Inserts::new(), None);
                    Answer::of_call(message.0, None, None)
                } else {
                    Answer::changed(status, text)
                });
            }
            let described = describe(
                engine,
                serving,
                &caller,
                (*dialect, target),
                (origin.listener, head.uri.path()),
            )?;
            // Who watches replicas hears with their health what they serve.
            let revision = matches!(target, Target::Ready).then_some(serving).flatten();
            visit.revision = revision.map(|serving| serving.revision_header.clone());
            return Ok(Answer::described(described));
        };
        let serving = ready(serving)?;

        // admit: before the body is read. What there is no room for is told now, not after its upload.
        let (model, place) = admit(serving, model)?;
        visit.admitted();

        // route: before decoding, since the version's signature says what the body may be.
        let lane = visit.routed(route(model, selector, visit.id)?);

        let limits = DecodeLimits {
            json_depth: serving.limits.json_depth,
            body_bytes: serving.limits.body_bytes,
        };
        // A graph finds its models in this table, whatever is swapped meanwhile.
        let whole = lane.version.way.is_graph().then(|| table.clone()).flatten();
        // What happens after the answer, whoever asked: a copy to a shadow, a copy to the tap.
        let after = After::of(model, &lane, visit.id);
        let labels = Arc::clone(&model.labels);
        let patience = serving.limits.header;
        (*dialect, lane, whole, limits, patience, model.limits.deadline, labels, after, place)
    };

    // decode: straight into the buffers that the backend leases; the deadline holds from here on.
    let named = named_timeout(&head.headers)?;
    let latest = visit.received + named.unwrap_or(default_deadline);
    let (frames, coding) = match came {
        Came::Message(heard) => (heard.message, heard.coding),
        Came::Body(body) => {
            let reading = read_whole(body, head, (limits.body_bytes, patience), visit);
            (before(latest, reading).await??, None)
        }
    };
    let version = &*lane.version;
    let mut lease = |input, bytes| version.way.lease(input, bytes);
    let sent = Sent { path: head.uri.path(), headers: &head.headers, rope: &frames };
    let mut decoded = dialect.decode(sent, &version.signature, &limits, &mut lease)?;
    drop(frames);
    let deadline = match (named, decoded.timeout) {
        (Some(header), Some(parameter)) => visit.received + header.min(parameter),
        (None, Some(parameter)) => visit.received + parameter,
        _ => latest,
    };
    let carriage = std::mem::take(&mut decoded.carriage);
    let top = std::mem::take(&mut decoded.top);
    visit.client_id = decoded.client_id.clone();
    visit.subject = named_subject(&head.headers, decoded.subject.take())?;
    let request = visit.request(decoded, deadline);
    after.copy(&request);

    // cache: behind authorization, before the queue.
    let answered = cache::through(&lane, request, |request| {
        // batch and run, or whoever else answers this version.
        let answered = way::answer(&lane, whole.as_ref(), request, deadline);
        let lane = &*lane;
        async move {
            let ran = answered.await?;
            complete(&ran.0, lane).map(|()| ran)
        }
    });
    let Answered { response, ride, found } = answered.await?;
    visit.answered(ride, found);
    visit.served_by = response.served_by.clone();

    // encode: in the client's dialect and the carriage that it asked for.
    let mut out = Vec::with_capacity(encoded_size(&response, dialect, &carriage));
    if dialect.is_grpc() {
        out.resize(PREFIX, 0);
    }
    let context = EncodeContext {
        model: version.model.as_str(),
        version: response.version().unwrap_or(version.version.as_str()),
        client_id: visit.client_id.as_deref(),
        carriage: &carriage,
        labels: &labels,
    };
    let encoded = if top.is_empty() {
        dialect.encode(&response, &context, &mut out)?
    } else {
        dialect.encode(&v2::classified(&response, &top, &labels)?, &context, &mut out)?
    };
    after.happens(engine, &lane, response, visit);
    if dialect.is_grpc() {
        // A client that compresses its message reads one that is.
        let wanted = coding.and_then(|coding| grpc::accepted(coding, &head.headers));
        let (body, compressed) = Rope::message(out, encoded.inserts, wanted);
        let coding = wanted.filter(|_| compressed);
        return Ok(Answer::of_call(body, coding, found));
    }
    let content_type = HeaderValue::from_static(encoded.content_type());
    let header_length = encoded.header_length;
    let pieces = woven(out, encoded.inserts);
    // Of the servers that ours stands in for, only Triton compresses what it answers.
    let (pieces, coding) =
        if dialect == Dialect::V2 { seal_body(pieces, &head.headers) } else { (pieces, None) };
    let body = Rope::new(pieces);
    let status = StatusCode::OK;
    Ok(Answer { status, content_type, body, header_length, found, coding })
}

impl Answer {
    fn described((content_type, body): (HeaderValue, Rope)) -> Self {
        let (header_length, found, coding) = (None, None, None);
        let status = StatusCode::OK;
        Self { status, content_type, body, header_length, found, coding }
    }

    fn of_call(body: Rope, coding: Option<Coding>, found: Option<Found>) -> Self {
        let content_type = HeaderValue::from_static(grpc::CONTENT);
        Self { coding, found, ..Self::described((content_type, body)) }
    }

    fn changed(status: StatusCode, text: Vec<u8>) -> Self {
        let content_type = HeaderValue::from_static("application/json");
        let body = Rope::from(Bytes::from(text));
        Self { status, ..Self::described((content_type, body)) }
    }

    /// A call's message in its envelope.
    pub(crate) fn into_message(self) -> Message {
        self.body.into_pieces()
    }

    fn into_response(self, watch: &Arc<Watch>) -> Response<Rope> {
        let is_message = self.body.is_message();
        let mut response = Response::new(self.body.map(|piece| watch.counted(piece)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(8);
        headers.insert(CONTENT_TYPE, self.content_type);
        if let Some(length) = self.header_length {
            headers.insert(v2::HEADER_LENGTH, length.into());
        }
        if let Some(coding) = self.coding {
            let name =
                if is_message { HeaderName::from_static(grpc::ENCODING) } else { CONTENT_ENCODING };
            headers.insert(name, HeaderValue::from_static(coding.name()));
        }
        if let Some(found) = self.found {
            headers.insert(reply::CACHE, HeaderValue::from_static(found.as_str()));
        }
        response
    }
}

/// Reads a request's body to its end, which may come in `patience` and have so many bytes, and inflates it
/// where it is compressed.
async fn read_whole<B>(
    body: B,
    head: &Parts,
    (most, patience): (usize, Duration),
    visit: &mut Visit<'_>,
) -> Result<Message, Failure>
where
    B: Body<Data = Bytes, Error: std::error::Error + 'static>,
{
    let frames = read_body(body, most, patience).await?;
    visit.body_was_read = true;
    visit.bytes_in = frames.iter().map(Bytes::len).sum();
    open_body(frames, &head.headers, most)
}

/// An inference with the only model there is, by that model's name.
fn only(asked: Addressed, serving: Option<&Serving>) -> Result<Addressed, Failure> {
    if asked.target != Target::InferOnly {
        return Ok(asked);
    }
    match &*ready(serving)?.models {
        [model] => {
            let (model, selector) = (model.name.clone(), Selector::Default);
            Ok(Addressed { target: Target::Infer { model, selector }, ..asked })
        }
        models => Err(Failure::new(
            ErrorCode::RequestUnknownModel,
            format!(
                "this path is for a server of one model, and this one has {}: put the model's name before it",
                models.len()
            ),
        )),
    }
}

/// What was asked, where the listener speaks the dialect that it was asked in.
pub(crate) fn heard(
    asked: Result<Addressed, Failure>,
    serving: Option<&Serving>,
    listener: &str,
    head: &Parts,
) -> Result<Addressed, Failure> {
    let asked = asked?;
    let spoken = serving
        .and_then(|serving| serving.listener(listener))
        .is_none_or(|policy| policy.dialects.contains(&asked.dialect.into()));
    if spoken {
        return Ok(asked);
    }
    let message = format!(
        "nothing is served at `{}` here: the listener does not speak {}",
        head.uri.path(),
        asked.dialect.name()
    );
    Err(Failure::new(ErrorCode::WireUnknownPath, message))
}

/// The time that the client gives us in a header.
pub(crate) fn named_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Failure> {
    let Some(value) = headers.get(TIMEOUT) else {
        let of_call = headers.get(GRPC_TIMEOUT).and_then(|value| value.to_str().ok());
        return of_call.map(grpc::parse_timeout).transpose();
    };
    let milliseconds = value.to_str().ok().and_then(|text| text.parse::<u32>().ok());
    match milliseconds {
        Some(milliseconds @ 1..) => Ok(Some(Duration::from_millis(milliseconds.into()))),
        _ => Err(Failure::new(
            ErrorCode::WireInvalidField,
            format!("`{TIMEOUT}` must be a whole number of milliseconds from 1 to {}", u32::MAX),
        )),
    }
}

/// Whose rows these are, by the header or by the request's own parameter.
fn named_subject(
    headers: &HeaderMap,
    parameter: Option<Arc<str>>,
) -> Result<Option<Arc<str>>, Failure> {
    let Some(value) = headers.get(SUBJECT) else {
        return Ok(parameter);
    };
    let refuse = |message: String| Err(Failure::new(ErrorCode::WireInvalidField, message));
    let said = match std::str::from_utf8(value.as_bytes()) {
        Ok(text) if v2::is_subject(text) => text,
        _ => return refuse(format!("`{SUBJECT}` must be {}", v2::SUBJECT_RULE)),
    };
    match parameter {
        Some(other) if *other != *said => {
            refuse(format!("`{SUBJECT}` and parameter `subject` name two people"))
        }
        _ => Ok(Some(said.into())),
    }
}

/// Holds the backend to the signature: a unary answer has its outputs.
fn complete(response: &InferResponse, lane: &Lane) -> Result<(), Failure> {
    if response.outputs.is_empty() && !lane.version.signature.outputs.is_empty() {
        return Err(Failure::new(ErrorCode::EngineInternal, "the backend gave no answer"));
    }
    Ok(())
}

/// About how many bytes an answer takes on the wire: a number of four bytes as up to twelve digits.
fn encoded_size(response: &InferResponse, dialect: Dialect, carriage: &Carriage) -> usize {
    let takes = |(place, output): (usize, &Tensor)| {
        // What is large and raw is not copied into it.
        let raw = dialect.is_grpc() || carriage.is_binary(place);
        96 + if raw { output.size().min(LARGE) } else { 3 * output.size() }
    };
    256 + response.outputs.iter().enumerate().map(takes).sum::<usize>()
}

/// What a piece of the path comes to: a panic in it is a failure too.
pub(crate) async fn settled<T>(
    rest: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    unbroken(pin!(rest)).await
}

/// Lets a panic break its own request and nothing else.
async fn unbroken<T>(
    mut rest: Pin<&mut impl Future<Output = Result<T, Failure>>>,
) -> Result<T, Failure> {
    poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| rest.as_mut().poll(context))).unwrap_or_else(|payload| {
            let words = payload
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let failure =
                Failure::new(ErrorCode::EngineInternal, "the request met a fault of ours");
            Poll::Ready(Err(failure.with_detail(words.unwrap_or("a panic without words"))))
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_of_its_request() {
        let breaking = pin!(async {
            tokio::task::yield_now().await;
            panic!("on purpose")
        });
        let failure = unbroken::<()>(breaking).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::EngineInternal);
        assert_eq!(failure.detail.as_deref(), Some("on purpose"));
        assert!(!failure.message.contains("purpose"), "callers do not hear of our inside");
    }

    #[test]
    fn a_subject_is_named_once() {
        let ask = |header: Option<&[u8]>, parameter: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(header) = header {
                headers.insert(SUBJECT, HeaderValue::from_bytes(header).unwrap());
            }
            let named = named_subject(&headers, parameter.map(Into::into));
            named.map(|named| named.map(|name| name.to_string())).map_err(|failure| failure.code)
        };
        assert_eq!(ask(None, None), Ok(None));
        assert_eq!(ask(None, Some("a")), Ok(Some("a".to_owned())));
        assert_eq!(ask(Some("王小明".as_bytes()), None), Ok(Some("王小明".to_owned())));
        assert_eq!(ask(Some(b"a"), Some("a")), Ok(Some("a".to_owned())));
        let long = "x".repeat(257);
        for (header, parameter) in
            [(&b"a"[..], Some("b")), (b"", None), (b"\xff", None), (long.as_bytes(), None)]
        {
            assert_eq!(ask(Some(header), parameter), Err(ErrorCode::WireInvalidField));
        }
    }

    #[test]
    fn a_named_timeout_is_a_whole_number_of_milliseconds() {
        let ask = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_static(text));
            named_timeout(&headers).map_err(|failure| failure.code)
        };
        assert_eq!(ask("250"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(named_timeout(&HeaderMap::new()), Ok(None));
        for wrong in ["0", "-1", "1.5", "", "soon", "99999999999"] {
            assert_eq!(ask(wrong), Err(ErrorCode::WireInvalidField), "{wrong}");
        }
    }
}
