//! The bare echo: what HTTP itself costs on this machine.
//!
//! Every request's body is read to its end and answered with the same fixed bytes, or with itself, as it
//! came. Nothing is parsed.
//! Each thread is a runtime of its own and connections are dealt out in turn, so that two threads
//! carry the same load in every run.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    net::{TcpListener, TcpStream},
    pin::Pin,
    task::{Context, Poll},
    thread,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Frame, Incoming, SizeHint},
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

/// Connections that may wait for a thread to take them.
const HAND_OVER: usize = 1024;

/// What is spoken.
#[derive(Clone, Copy)]
pub enum Speech {
    /// HTTP/1.1.
    Http1,
    /// HTTP/1.1, and every body is answered with itself.
    Both,
    /// HTTP/2, with the trailers that a call of gRPC ends with.
    Calls,
}

/// Answers on `listener` with `answer` from `threads` threads until the listener fails.
pub fn serve(
    listener: TcpListener,
    answer: Bytes,
    threads: usize,
    speech: Speech,
) -> io::Result<()> {
    let lanes = (0..threads.max(1))
        .map(|_| {
            let (sender, receiver) = mpsc::channel(HAND_OVER);
            let answer = answer.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            thread::spawn(move || {
                tokio::task::LocalSet::new().block_on(&runtime, lane(receiver, answer, speech));
            });
            Ok(sender)
        })
        .collect::<io::Result<Vec<_>>>()?;
    for lane in lanes.iter().cycle() {
        let (stream, _) = listener.accept()?;
        if lane.blocking_send(stream).is_err() {
            return Err(io::Error::other("a thread of the echo has ended"));
        }
    }
    Ok(())
}

async fn lane(mut streams: mpsc::Receiver<TcpStream>, answer: Bytes, speech: Speech) {
    while let Some(stream) = streams.recv().await {
        let answer = answer.clone();
        tokio::task::spawn_local(async move {
            // A client that went away is its own affair.
            let _ = connection(stream, answer, speech).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    answer: Bytes,
    speech: Speech,
) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let stream = TokioIo::new(stream);
    match speech {
        Speech::Http1 => {
            let service = service_fn(move |request| reply(request, answer.clone()));
            http1::Builder::new().serve_connection(stream, service).await?;
        }
        Speech::Both => {
            let service = service_fn(reply_same);
            http1::Builder::new().serve_connection(stream, service).await?;
        }
        Speech::Calls => {
            let service = service_fn(move |request| reply_call(request, answer.clone()));
            http2::Builder::new(TokioExecutor::new())
                .initial_stream_window_size(4 << 20)
                .initial_connection_window_size(8 << 20)
                .serve_connection(stream, service)
                .await?;
        }
    }
    Ok(())
}

async fn reply_call(
    request: Request<Incoming>,
    answer: Bytes,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let trailers = HeaderMap::from_iter([(
        hyper::header::HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let body = Full::new(answer).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}

async fn reply(
    request: Request<Incoming>,
    answer: Bytes,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let mut response = Response::new(Full::new(answer));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// What came, in the pieces in which it came: nothing is copied.
async fn reply_same(
    request: Request<Incoming>,
) -> Result<Response<impl hyper::body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let mut body = request.into_body();
    let mut pieces = VecDeque::new();
    while let Some(Ok(frame)) = body.frame().await {
        pieces.extend(frame.into_data());
    }
    let mut response = Response::new(Pieces(pieces));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}

/// A body of pieces.
struct Pieces(VecDeque<Bytes>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
    }
}
