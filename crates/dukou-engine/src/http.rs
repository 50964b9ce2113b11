//! One connection: HTTP/1.1 or HTTP/2, told apart by its first bytes, each request through the stack.
//!
//! This is where hyper is; no other room but `stack` sees a type of its, and none a socket.

use std::{convert::Infallible, sync::Arc};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{net::TcpStream, pin, select};

use crate::{
    engine::Engine,
    stack::{self, Door},
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
        listener: Arc<str>,
        watch: Arc<Watch>,
        engine: Arc<Engine>,
    ) {
        // Answers are written whole; waiting for more to send with them only delays them.
        let _unsupported = stream.set_nodelay(true);
        let io = TokioIo::new(Watched::new(stream, Arc::clone(&watch)));
        let door = Arc::new(Door { engine, listener, watch: Arc::clone(&watch) });
        let service = service_fn(move |request| {
            let door = Arc::clone(&door);
            async move { Ok::<_, Infallible>(stack::answer(request, &door).await) }
        });
        let connection = self.0.serve_connection(io, service);
        pin!(connection);
        loop {
            select! {
                biased;
                // How a connection ended is its client's matter; what it asked has been recorded.
                _ended = connection.as_mut() => return,
                end = watch.ended() => match end {
                    End::Stalled => return,
                    End::Graceful => connection.as_mut().graceful_shutdown(),
                },
            }
        }
    }
}
