//! One kept-alive connection to a replica; hyper speaks.
//!
//! One of HTTP/1.1 is driven by whoever waits for its answer: no task of its own runs for it. A caller that
//! leaves takes it with him: the replica sees it close and gives up too. Over one of HTTP/2 a thread's calls
//! of gRPC go side by side, and a caller that leaves ends his call alone.

use std::{
    future::{Future as _, poll_fn},
    io,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use dukou_wire::Reply;
use http::{HeaderMap, Request, StatusCode, header::CONNECTION};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use smallvec::SmallVec;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::replica::Replica;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// No answer is larger.
const LARGEST: usize = 256 << 20;

/// A stream, in clear or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection to one replica.
pub enum Connection {
    /// For one request at a time.
    Single(Single),
    /// For many; the thread's loop drives it.
    Shared(http2::SendRequest<Full<Bytes>>),
}

/// One of HTTP/1.1.
pub struct Single {
    sender: http1::SendRequest<Full<Bytes>>,
    /// None once it has ended: what waits for it hears of that by its end. Boxed: a connection goes from
    /// hand to hand with every request.
    driver: Option<Box<http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>>>,
}

/// A whole answer.
#[derive(Debug)]
pub struct Heard {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: SmallVec<[Bytes; 2]>,
    /// What followed it.
    pub trailers: Option<HeaderMap>,
}

impl Heard {
    /// As a dialect reads it.
    pub fn reply(&self) -> Reply<'_> {
        let Self { status, headers, body, trailers } = self;
        Reply { status: status.as_u16(), headers, trailers: trailers.as_ref(), body }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// In words.
    pub why: String,
    /// Whether nothing of an answer had come.
    pub unheard: bool,
}

impl Loss {
    fn before(why: impl ToString) -> Self {
        Self { why: why.to_string(), unheard: true }
    }
}

impl Connection {
    /// Makes one.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub async fn open(replica: &Replica) -> Result<Self, Loss> {
        timeout(CONNECT, Self::connect(replica))
            .await
            .map_err(|_| Loss::before(format!("no connection within {} ms", CONNECT.as_millis())))?
    }

    async fn connect(replica: &Replica) -> Result<Self, Loss> {
        let address = &replica.address;
        let stream = TcpStream::connect((&*address.host, address.port))
            .await
            .map_err(|error| Loss::before(in_words(&error)))?;
        stream.set_nodelay(true).map_err(Loss::before)?;
        let stream: Box<dyn Stream> = match &replica.tls {
            None => Box::new(stream),
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                let shaken = connector.connect(name.clone(), stream).await;
                Box::new(shaken.map_err(|error| Loss::before(format!("no TLS: {error}")))?)
            }
        };
        let stream = TokioIo::new(stream);
        if replica.calls {
            let made = http2::handshake(TokioExecutor::new(), stream).await;
            let (sender, driver) = made.map_err(Loss::before)?;
            // How it ends is heard by those who wait on it.
            tokio::spawn(async { drop(driver.await) });
            return Ok(Self::Shared(sender));
        }
        let (sender, driver) = http1::handshake(stream).await.map_err(Loss::before)?;
        Ok(Self::Single(Single { sender, driver: Some(Box::new(driver)) }))
    }

    /// Sends a request and reads its answer to the end. After a loss the connection is of no use.
    ///
    /// # Errors
    /// The connection broke, before an answer came or in the middle of it.
    pub async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Heard, Loss> {
        let Single { sender, driver } = match self {
            Self::Single(single) => single,
            Self::Shared(sender) => {
                // A server that speaks another protocol may just end it.
                let lost =
                    |error| Loss::before(format!("no answer over HTTP/2: {}", of_hyper(&error)));
                sender.ready().await.map_err(lost)?;
                return read(sender.send_request(request).await.map_err(lost)?).await;
            }
        };
        let mut talk = pin!(async {
            sender.ready().await.map_err(|error| Loss::before(of_hyper(&error)))?;
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| Loss::before(of_hyper(&error)))?;
            read(response).await
        });
        poll_fn(|context| {
            if let Poll::Ready(heard) = talk.as_mut().poll(context) {
                return Poll::Ready(heard);
            }
            if let Some(connection) = driver
                && Pin::new(&mut **connection).poll(context).is_ready()
            {
                *driver = None;
            }
            // What the connection has just read is for this.
            talk.as_mut().poll(context)
        })
        .await
    }

    /// Whether another request may follow an answer with these headers.
    pub fn can_go_on(&self, headers: &HeaderMap) -> bool {
        match self {
            Self::Single(Single { sender, driver }) => {
                let closes = headers
                    .get(CONNECTION)
                    .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
                driver.is_some() && !closes && !sender.is_closed()
            }
            Self::Shared(sender) => !sender.is_closed(),
        }
    }

    /// The same one for another call beside this, where it carries several.
    pub fn beside(&self) -> Option<Self> {
        match self {
            Self::Single(_) => None,
            Self::Shared(sender) => Some(Self::Shared(sender.clone())),
        }
    }
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Heard, Loss> {
    let (head, mut incoming) = response.into_parts();
    let mut body = SmallVec::new();
    let (mut came, mut trailers) = (0, None);
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| Loss { why: of_hyper(&error), unheard: false })?;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        came += data.len();
        if came > LARGEST {
            let why = format!("the answer has more than {LARGEST} bytes");
            return Err(Loss { why, unheard: false });
        }
        body.push(data);
    }
    Ok(Heard { status: head.status, headers: head.headers, body, trailers })
}

/// The cause below hyper's own words, where there is one.
fn of_hyper(error: &hyper::Error) -> String {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return in_words(io);
        }
        cause = inner.source();
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return "the connection was closed".into();
    }
    error.to_string()
}

/// `connection refused`, without the number.
fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.rfind(" (os error").map_or(&*text, |place| &text[..place]);
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
