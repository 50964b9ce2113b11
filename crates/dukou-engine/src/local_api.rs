//! The local API: the control plane's hand on the engine (`spec/local-api.md`).
//!
//! HTTP/1.1 on a Unix socket that only its own user may use, on a thread of its own: it answers while
//! every worker is busy, and a table that takes seconds to load holds up nobody.

use std::{
    convert::Infallible,
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixListener as StdListener,
    },
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::{net::UnixListener, sync::Semaphore};

use crate::{
    engine::Engine,
    events::{self, Level},
    metrics,
    security::SecurityEvent,
    state_document,
    swap::{Refused, Swap},
    tap::to_stream,
    told,
};

/// Bytes of the largest table: a thousand models take about two megabytes.
const BODY_BYTES: usize = 64 << 20;
/// Bytes of the largest list of gauges.
const GAUGE_BYTES: usize = 64 << 10;
/// Connections at once; control uses one or two.
const CONNECTIONS: usize = 32;
/// Bytes of tensors that one answer of the tap holds at most.
const TAP_BYTES: usize = 64 << 20;
/// How long a client may take for its head.
const HEADER: Duration = Duration::from_secs(10);

/// The socket, bound and not yet answering.
#[derive(Debug)]
pub struct LocalApi {
    listener: StdListener,
}

impl LocalApi {
    /// Makes the socket, mode 0600, in place of a stale one. What is no socket is left alone.
    ///
    /// # Errors
    /// What the system said: the folder is not there, may not be written, holds another kind of file.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(data) if data.file_type().is_socket() => fs::remove_file(path)?,
            Ok(_) => {
                let message = format!("`{}` is there and is no socket", path.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = StdListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Answers from now on, on a thread of its own, until the process ends.
    ///
    /// # Errors
    /// The system gives no thread, or no event loop.
    pub fn start(self, swap: Arc<Swap>) -> io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("local-api".into()).spawn(move || {
            let served = runtime
                .block_on(async { accept(UnixListener::from_std(self.listener)?, swap).await });
            if let Err(error) = served {
                events::log(Level::Error, format_args!("the local API ended: {error}"));
            }
        })
    }
}

async fn accept(listener: UnixListener, swap: Arc<Swap>) -> io::Result<()> {
    let owner = dukou_sys::effective_user();
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Too many open files: the ones that are open will be closed.
                events::log(Level::Warn, format_args!("the local API cannot accept: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == owner => {}
            peer => {
                let who = peer
                    .map_or_else(|error| error.to_string(), |peer| format!("user {}", peer.uid()));
                events::log(
                    Level::Warn,
                    format_args!("the local API refused {who}: it is user {owner}'s"),
                );
                swap.engine().security.note(&SecurityEvent {
                    code: ErrorCode::AccessForbidden,
                    listener: "local-api",
                    peer: None,
                    id: None,
                    principal: None,
                    model: None,
                    detail: Some(&who),
                });
                continue;
            }
        }
        let swap = Arc::clone(&swap);
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let swap = Arc::clone(&swap);
                async move { Ok::<_, Infallible>(answer(request, swap).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER)
                .serve_connection(TokioIo::new(stream), service);
            // A client that went away in the middle of a call is its own business.
            let _ = connection.await;
            drop(place);
        });
    }
}

async fn answer(request: Request<Incoming>, swap: Arc<Swap>) -> Response<Full<Bytes>> {
    let engine = Arc::clone(swap.engine());
    match (request.method(), request.uri().path()) {
        (&Method::PUT, "/table") => put_table(request.into_body(), swap).await,
        (&Method::GET, "/table") => match engine.serving.load_full() {
            Some(serving) => json_response(StatusCode::OK, &json!(*serving.held)),
            None => refusal(
                StatusCode::NOT_FOUND,
                &Failure::new(ErrorCode::ServerNotReady, "the engine holds no table yet").into(),
            ),
        },
        (&Method::GET, "/state") => json_response(StatusCode::OK, &state_document::state(&swap)),
        (&Method::GET, "/models") => {
            let models = state_document::models(engine.serving.load_full().as_deref());
            json_response(StatusCode::OK, &models)
        }
        (&Method::GET, "/tap") => tap(&engine, request.uri().query()),
        (&Method::PUT, "/gauges") => put_gauges(request.into_body(), &engine).await,
        (&Method::POST, "/drain") => {
            engine.drain.begin();
            json_response(StatusCode::ACCEPTED, &json!({ "draining": true }))
        }
        (method, path @ ("/table" | "/state" | "/models" | "/tap" | "/gauges" | "/drain")) => {
            let allowed = match path {
                "/table" => "GET, PUT",
                "/gauges" => "PUT",
                "/drain" => "POST",
                _ => "GET",
            };
            failed(&Failure::new(
                ErrorCode::WireWrongMethod,
                format!("`{path}` takes {allowed}, not {method}"),
            ))
        }
        (_, path) => failed(&Failure::new(
            ErrorCode::WireUnknownPath,
            format!(
                "the local API has no `{path}`: it has /table, /state, /models, /tap, /gauges and \
                 /drain"
            ),
        )),
    }
}

/// Takes out what the tap holds. Nothing is an empty body.
fn tap(engine: &Engine, query: Option<&str>) -> Response<Full<Bytes>> {
    let said = query.and_then(|query| query.strip_prefix("max_bytes="));
    let most = match said.map(str::parse::<usize>) {
        None => TAP_BYTES,
        Some(Ok(most)) => most.min(TAP_BYTES),
        Some(Err(_)) => {
            let message = "`max_bytes` must be a whole number of bytes";
            return failed(&Failure::new(ErrorCode::WireInvalidField, message));
        }
    };
    let requests = engine.tap.take(most);
    let stream = if requests.is_empty() { Ok(Vec::new()) } else { to_stream(&requests) };
    match stream {
        Ok(stream) => {
            let mut response = Response::new(Full::new(Bytes::from(stream)));
            let arrow = header::HeaderValue::from_static("application/vnd.apache.arrow.stream");
            response.headers_mut().insert(header::CONTENT_TYPE, arrow);
            response
        }
        Err(error) => failed(
            &Failure::new(ErrorCode::EngineInternal, "what the tap holds cannot be written")
                .with_detail(error.to_string()),
        ),
    }
}

/// Replaces the numbers that are shown for others.
async fn put_gauges(body: Incoming, engine: &Engine) -> Response<Full<Bytes>> {
    let told = read_body(body, GAUGE_BYTES).await.and_then(|body| {
        let page = metrics::render_own(engine);
        told::parse(&body, |name| page.contains(&format!("# TYPE {name} ")))
    });
    match told {
        Ok(gauges) => {
            let count = gauges.len();
            engine.gauges.store(Arc::new(gauges));
            json_response(StatusCode::OK, &json!({ "gauges": count }))
        }
        Err(failure) => failed(&failure),
    }
}

async fn read_body(body: Incoming, most: usize) -> Result<Bytes, Failure> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("the document is larger than {most} bytes");
            Err(Failure::new(ErrorCode::RequestBodyTooLarge, message))
        }
        Err(error) => {
            let message = format!("the body could not be read: {error}");
            Err(Failure::new(ErrorCode::WireInvalidRequest, message))
        }
    }
}

async fn put_table(body: Incoming, swap: Arc<Swap>) -> Response<Full<Bytes>> {
    let body = match read_body(body, BODY_BYTES).await {
        Ok(body) => body,
        Err(failure) => return failed(&failure),
    };
    let exchange = move || swap.put_text(&body);
    match tokio::task::spawn_blocking(exchange).await {
        Ok(Ok(receipt)) => json_response(StatusCode::OK, &json!(receipt)),
        Ok(Err(refused)) => refusal(status_of(&refused), &refused),
        Err(_) => failed(&Failure::new(ErrorCode::EngineInternal, "the table could not be loaded")),
    }
}

/// What fails while a version loads is 422, whatever the cause's own status; the table's own faults have
/// theirs.
fn status_of(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Version(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Refused::Table(failure) => status(failure),
    }
}

fn status(failure: &Failure) -> StatusCode {
    StatusCode::from_u16(failure.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn failed(failure: &Failure) -> Response<Full<Bytes>> {
    refusal(status(failure), &failure.clone().into())
}

fn refusal(status: StatusCode, refused: &Refused) -> Response<Full<Bytes>> {
    let failure = refused.failure();
    let mut error = json!({
        "code": failure.code.as_str(),
        "message": failure.message,
        "remedy": failure.code.remedy(),
    });
    if let Some(detail) = &failure.detail {
        error["detail"] = json!(detail);
    }
    if let Refused::Version(not_loaded) = refused {
        error["model"] = json!(not_loaded.model);
        error["version"] = json!(not_loaded.version);
    }
    json_response(status, &json!({ "error": error }))
}

fn json_response(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
