//! One keep-alive connection that carries one request at a time.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    answer::{self, Answer, Body, Progress},
    outcome::Loss,
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
            None => Stream::Clear(stream),
            Some(tls) => {
                let connector = TlsConnector::from(tls.config.clone());
                let shaking = timeout(self.limit, connector.connect(tls.name.clone(), stream));
                let stream = shaking.await.map_err(|_| Loss::Timeout)?.map_err(|_| Loss::Reset)?;
                Stream::Secure(Box::new(stream))
            }
        });
        self.made += 1;
        Ok(())
    }

    /// Sends the bytes of a request and reads its answer to the end. After any loss the next exchange
    /// begins with a new connection.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer, Loss> {
        self.connect().await?;
        let Some(mut stream) = self.stream.take() else {
            return Err(Loss::Refused);
        };
        let (bytes, wants_version) = (&mut self.bytes, self.wants_version);
        let talk = async {
            match &mut stream {
                Stream::Clear(stream) => talk(stream, bytes, request, wants_version).await,
                Stream::Secure(stream) => talk(stream, bytes, request, wants_version).await,
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
