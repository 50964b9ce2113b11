//! What is sent, rendered once: a request of HTTP/1.1 in one run of bytes, or a call of gRPC.

use bytes::Bytes;
use dukou_wire::{Peer, grpc};
use http::{HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use http_body_util::Full;

use crate::{
    settings::{Settings, UsageError},
    target::Target,
};

/// A rendered request.
pub enum Request {
    /// Head and body: one write.
    Plain(Vec<u8>),
    /// A call over HTTP/2.
    Call(Box<Call>),
}

/// A call of gRPC.
pub struct Call {
    /// Whose.
    pub peer: Peer,
    head: http::Request<()>,
    body: Bytes,
}

impl Call {
    /// To be sent.
    pub fn request(&self) -> http::Request<Full<Bytes>> {
        self.head.clone().map(|()| Full::new(self.body.clone()))
    }
}

impl Request {
    /// Bytes of it; of a call, of its body.
    pub fn size(&self) -> usize {
        match self {
            Self::Plain(bytes) => bytes.len(),
            Self::Call(call) => call.body.len(),
        }
    }
}

/// A request of HTTP/1.1: a `POST` of a body with these headers, or a `GET`. What the user says of a header
/// counts.
pub fn plain(
    settings: &Settings,
    target: &Target,
    path: &str,
    body: Option<(&[(&str, String)], &[u8])>,
) -> Vec<u8> {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", target.authority);
    for (name, value) in &settings.headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    let named = |wanted: &str| settings.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(wanted));
    if let Some((headers, body)) = body {
        for (name, value) in headers.iter().filter(|(name, _)| !named(name)) {
            bytes.push_str(&format!("{name}: {value}\r\n"));
        }
        bytes.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    bytes.push_str("\r\n");
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body.map_or(&[], |(_, body)| body));
    bytes
}

/// A call of this path.
///
/// # Errors
/// A header or the address cannot stand in one.
pub fn call(
    settings: &Settings,
    target: &Target,
    (peer, path): (Peer, &str),
    body: Bytes,
) -> Result<Request, UsageError> {
    let unspeakable = |error: &dyn std::fmt::Display| {
        UsageError::Unspeakable(format!("`{path}` cannot be called: {error}"))
    };
    let scheme = if target.tls.is_some() { "https" } else { "http" };
    let mut head = http::Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{}{path}", target.authority))
        .header(CONTENT_TYPE, grpc::CONTENT)
        .body(())
        .map_err(|error| unspeakable(&error))?;
    head.headers_mut().extend(grpc::call_headers());
    for (name, value) in &settings.headers {
        let name = HeaderName::try_from(name).map_err(|error| unspeakable(&error))?;
        let value = HeaderValue::try_from(value).map_err(|error| unspeakable(&error))?;
        head.headers_mut().append(name, value);
    }
    Ok(Request::Call(Box::new(Call { peer, head, body })))
}
