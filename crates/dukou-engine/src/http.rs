//! One connection: TLS where its listener has it, then HTTP/1.1 or HTTP/2, told apart by its first
//! bytes, each request through the stack.
//!
//! This is where hyper is; no other room but `stack` sees a type of its, and none a socket.

use std::{
    convert::Infallible, error::Error as StdError, io, net::IpAddr, sync::Arc, time::Duration,
};

use dukou_types::{ErrorCode, Failure};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    pin, select,
    time::timeout,
};

use crate::{
    accept::{REFUSAL, tell},
    engine::Engine,
    refused::Unheard,
    reply,
    stack::{self, Door},
    tls::Shaken,
    visit,
    watch::{End, Watch, Watched},
};

/// Headers of one request.
const MAX_HEADERS: usize = 100;
/// Bytes of one head, and of what is read from a socket at once.
const HTTP1_BUFFER: usize = 128 * 1024;
/// Bytes of all headers of one HTTP/2 request.
const HTTP2_HEADERS: u32 = 64 * 1024;
/// What an HTTP/2 client may send before it waits for us: a body of the usual size in one go.
const HTTP2_WINDOW: u32 = 4 * 1024 * 1024;
/// Requests that an HTTP/2 client may have open.
const HTTP2_STREAMS: u32 = 256;
/// How long a handshake may take before a table says so.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How connections are served. Made once a worker. Answers to pipelined requests are not gathered into
/// one flush: hyper 1.12 would then never flush its answer to a head that it cannot read.
#[derive(Clone, Debug)]
pub struct Protocol(Builder<TokioExecutor>);

impl Default for Protocol {
    fn default() -> Self {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().max_headers(MAX_HEADERS).max_buf_size(HTTP1_BUFFER).keep_alive(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(HTTP2_WINDOW)
            .initial_connection_window_size(2 * HTTP2_WINDOW)
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_header_list_size(HTTP2_HEADERS);
        Self(builder)
    }
}

impl Protocol {
    /// Answers every request of this connection, until its client leaves or the process drains.
    pub async fn serve(
        &self,
        stream: TcpStream,
        (listener, peer): (Arc<str>, IpAddr),
        watch: Arc<Watch>,
        engine: Arc<Engine>,
    ) {
        // Answers are written whole; waiting for more to send with them only delays them.
        let _unsupported = stream.set_nodelay(true);
        let (certificate, patience) = match &*engine.serving.load() {
            Some(serving) => (
                serving.listener(&listener).and_then(|policy| policy.tls.clone()),
                serving.limits.header,
            ),
            None => (None, HANDSHAKE),
        };
        let mut door = Door { engine, listener, watch, peer, encrypted: certificate.is_some() };
        let Some(certificate) = certificate else {
            return self.speak(stream, door).await;
        };
        match certificate.shake(stream, patience).await {
            Shaken::Well(stream) => self.speak(*stream, door).await,
            Shaken::InClear(stream) => {
                door.encrypted = false;
                let message = "this listener speaks TLS: use `https://`";
                let failure = Failure::new(ErrorCode::AccessBadHandshake, message);
                let id = visit::next_id();
                Unheard::of(&door).note(&failure, id, failure.code.http_status());
                let text = reply::plain(&failure, reply::status(failure.code), id);
                let _gone = timeout(REFUSAL, tell(stream, text)).await;
            }
            Shaken::Failed(code, why) => Unheard::of(&door).connection(code, &why),
            Shaken::Left => {}
        }
    }

    async fn speak<S>(&self, stream: S, door: Door)
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let door = Arc::new(door);
        let watch = Arc::clone(&door.watch);
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&door)));
        let unheard = Unheard::of(&door);
        let serving = Arc::clone(&door);
        let service = service_fn(move |request| {
            let door = Arc::clone(&serving);
            async move { Ok::<_, Infallible>(stack::answer(request, &door).await) }
        });
        let connection = self.0.serve_connection(io, service);
        pin!(connection);
        loop {
            select! {
                biased;
                ended = connection.as_mut() => {
                    // How a connection ended is its client's matter; what it asked has been recorded.
                    // But one that broke HTTP/2's rules was cut off for it.
                    if let Err(error) = ended
                        && watch.is_http2()
                        && !is_the_network_s(&*error)
                    {
                        unheard.connection(ErrorCode::WireInvalidRequest, &error.to_string());
                    }
                    return;
                }
                end = watch.ended() => match end {
                    End::Stalled => {
                        unheard.connection(ErrorCode::LimitsSlowHead, "the head did not end");
                        return;
                    }
                    End::Untaken => {
                        let why = "the client took nothing of its answers for too long";
                        unheard.connection(ErrorCode::LimitsSlowReader, why);
                        return;
                    }
                    End::Graceful => connection.as_mut().graceful_shutdown(),
                },
            }
        }
    }
}

/// Whether a connection just broke.
fn is_the_network_s(error: &(dyn StdError + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<io::Error>() {
            return true;
        }
        cause = error.source();
    }
    false
}
