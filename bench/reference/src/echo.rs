//! The bare echo: what HTTP itself costs on this machine.
//!
//! Every request's body is read to its end and answered with the same fixed bytes. Nothing is parsed.
//! Each thread is a runtime of its own and connections are dealt out in turn, so that two threads
//! carry the same load in every run.

use std::{
    convert::Infallible,
    io,
    net::{TcpListener, TcpStream},
    thread,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

/// Connections that may wait for a thread to take them.
const HAND_OVER: usize = 1024;

/// Answers on `listener` with `answer` from `threads` threads until the listener fails.
pub fn serve(listener: TcpListener, answer: Bytes, threads: usize) -> io::Result<()> {
    let lanes = (0..threads.max(1))
        .map(|_| {
            let (sender, receiver) = mpsc::channel(HAND_OVER);
            let answer = answer.clone();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            thread::spawn(move || {
                tokio::task::LocalSet::new().block_on(&runtime, lane(receiver, answer));
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

async fn lane(mut streams: mpsc::Receiver<TcpStream>, answer: Bytes) {
    while let Some(stream) = streams.recv().await {
        let answer = answer.clone();
        tokio::task::spawn_local(async move {
            // A client that went away is its own affair.
            let _ = connection(stream, answer).await;
        });
    }
}

async fn connection(stream: TcpStream, answer: Bytes) -> Result<(), Box<dyn std::error::Error>> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let service = service_fn(move |request| reply(request, answer.clone()));
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
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
