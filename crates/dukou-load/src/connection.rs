//! One keep-alive connection that carries one request at a time.

use std::{io, time::Duration};

use bytes::Bytes;
use dukou_wire::{DecodeLimits, Reply};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    answer::{self, Answer, Body, LARGEST, Progress},
    outcome::Loss,
    request::{Call, Request},
    target::Target,
};

/// Room for an answer before the buffer grows.
const ROOM: usize = 16 << 10;

/// A connection that is made when it is needed and made again when it was closed.
pub struct Connection {
    target: Target,
    limit: Duration,
    wants_version: bool,
    stream: Option<Stream>,
    bytes: Vec<u8>,
    /// How often it was made.
    pub made: u64,
}

/// In clear, or not.
enum Stream {
    Clear(TcpStream),
    Secure(Box<TlsStream<TcpStream>>),
    /// For calls of gRPC, either way.
    Calls(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    /// To this server, with this time for each answer.
    pub fn new(target: Target, limit: Duration, wants_version: bool) -> Self {
        let bytes = Vec::with_capacity(ROOM);
        Self { target, limit, wants_version, stream: None, bytes, made: 0 }
    }

    /// Connects where it is not connected.
    pub async fn connect(&mut self) -> Result<(), Loss> {
        if self.stream.is_some() {
            return Ok(());
        }
        let connecting = timeout(self.limit, TcpStream::connect(self.target.address)).await;
        let stream = connecting.map_err(|_| Loss::Timeout)?.map_err(|_| Loss::Refused)?;
        stream.set_nodelay(true).map_err(|_| Loss::Refused)?;
        self.stream = Some(match &self.target.tls {
            None if self.target.calls => Stream::Calls(shake(stream).await?),
            None => Stream::Clear(stream),
            Some(tls) => {
                let connector = TlsConnector::from(tls.config.clone());
                let shaking = timeout(self.limit, connector.connect(tls.name.clone(), stream));
                let stream = shaking.await.map_err(|_| Loss::Timeout)?.map_err(|_| Loss::Reset)?;
                if self.target.calls {
                    Stream::Calls(shake(stream).await?)
                } else {
                    Stream::Secure(Box::new(stream))
                }
            }
        });
        self.made += 1;
        Ok(())
    }

    /// Sends the bytes of a request and reads its answer to the end. After any loss the next exchange
    /// begins with a new connection.
    pub async fn exchange(&mut self, request: &Request) -> Result<Answer, Loss> {
        self.connect().await?;
        let Some(mut stream) = self.stream.take() else {
            return Err(Loss::Refused);
        };
        let (bytes, wants_version) = (&mut self.bytes, self.wants_version);
        let talk = async {
            match (&mut stream, request) {
                (Stream::Clear(stream), Request::Plain(request)) => {
                    talk(stream, bytes, request, wants_version).await
                }
                (Stream::Secure(stream), Request::Plain(request)) => {
                    talk(stream, bytes, request, wants_version).await
                }
                (Stream::Calls(sender), Request::Call(call)) => {
                    let answer = ask(sender, bytes, call, wants_version).await;
                    answer.map(|answer| Answer { closes: sender.is_closed(), ..answer })
                }
                // A target is for one of them.
                _ => Err(Loss::Protocol),
            }
        };
        let answer = timeout(self.limit, talk).await.map_err(|_| Loss::Timeout)??;
        if !answer.closes {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// The body of the answer that was read last.
    pub fn body<'a>(&'a self, answer: &'a Answer) -> &'a [u8] {
        match &answer.body {
            Body::Tail(start) => &self.bytes[*start..],
            Body::Joined(joined) => joined,
        }
    }

    /// Bytes of the answer that was read last, its head counted.
    pub const fn received(&self) -> usize {
        self.bytes.len()
    }
}

/// Begins to speak HTTP/2.
async fn shake<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
) -> Result<http2::SendRequest<Full<Bytes>>, Loss> {
    let made = http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(8 << 20)
        .handshake(TokioIo::new(stream))
        .await;
    let (sender, driver) = made.map_err(|_| Loss::Protocol)?;
    // How it ends is heard by the call that waits on it.
    tokio::spawn(async { drop(driver.await) });
    Ok(sender)
}

/// Makes a call and reads its answer: the message, or the words of its status, become the body.
async fn ask(
    sender: &mut http2::SendRequest<Full<Bytes>>,
    bytes: &mut Vec<u8>,
    call: &Call,
    wants_version: bool,
) -> Result<Answer, Loss> {
    const LIMITS: DecodeLimits = DecodeLimits { json_depth: 0, body_bytes: LARGEST };
    bytes.clear();
    let lost = |error: &hyper::Error| match error.is_parse() {
        true => Loss::Protocol,
        false => Loss::Reset,
    };
    sender.ready().await.map_err(|error| lost(&error))?;
    let answered = sender.send_request(call.request()).await.map_err(|error| lost(&error))?;
    let (head, body) = answered.into_parts();
    let whole = Limited::new(body, LARGEST).collect().await.map_err(|_| Loss::Reset)?;
    let trailers = whole.trailers().cloned();
    let body = [whole.to_bytes()];
    let reply = Reply {
        status: head.status.as_u16(),
        headers: &head.headers,
        trailers: trailers.as_ref(),
        body: &body,
    };
    let status = match call.peer.open(&reply, &LIMITS) {
        Ok(message) => {
            message.iter().for_each(|frame| bytes.extend_from_slice(frame));
            200
        }
        Err(refusal) => {
            bytes.extend_from_slice(refusal.words.as_bytes());
            refusal.status
        }
    };
    let version = head.headers.get("dukou-version").filter(|_| wants_version);
    let version = version.map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    Ok(Answer { status, closes: false, body: Body::Tail(0), version, header_length: None })
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    bytes: &mut Vec<u8>,
    request: &[u8],
    wants_version: bool,
) -> Result<Answer, Loss> {
    bytes.clear();
    let sent = match stream.write_all(request).await {
        Ok(()) => stream.flush().await,
        broken => broken,
    };
    loop {
        let ended = match read_more(stream, bytes).await {
            Ok(count) => count == 0,
            Err(_) => return Err(Loss::Reset),
        };
        if let Progress::Complete(mut answer) = answer::read(bytes, ended, wants_version)? {
            // A server may refuse a body early and close: its answer counts, the connection does not.
            answer.closes |= sent.is_err();
            return Ok(answer);
        }
        if ended {
            return Err(Loss::Reset);
        }
    }
}

async fn read_more<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut Vec<u8>) -> io::Result<usize> {
    if bytes.capacity() - bytes.len() < ROOM / 2 {
        bytes.reserve(bytes.capacity().max(ROOM));
    }
    stream.read_buf(bytes).await
}
