//! address: the second room. What a request is about, from its head alone, so that no stranger makes
//! us read a large body for a path that nothing is served at.

use dukou_types::{ErrorCode, Failure};
use dukou_wire::{Addressed, Dialect, Head, address_first, grpc};
use http::{StatusCode, Version, request::Parts};

/// Says what a request is about.
///
/// # Errors
/// `wire.unknown-path`, `wire.wrong-method` and the like: see [`dukou_wire::address`].
pub fn address(head: &Parts) -> Result<Addressed, Failure> {
    if is_call_in_http1(head) {
        let message = format!(
            "calls of gRPC come over HTTP/2, and this one came over {:?}: the client, or a proxy before this \
             server, must speak HTTP/2",
            head.version
        );
        let failure = Failure::new(ErrorCode::WireUnsupported, message);
        return Err(failure.with_status(StatusCode::HTTP_VERSION_NOT_SUPPORTED.as_u16()));
    }
    address_first(&head_of(head), first_of(head))
}

/// The dialect that is asked before all others, of a request to a listener that stands in for another
/// server. It travels with the head, so that every room finds the same meaning in a path.
#[derive(Clone, Copy, Debug)]
pub struct First(pub Dialect);

/// Which dialect a head is asked of first, where one is.
pub fn first_of(head: &Parts) -> Option<Dialect> {
    head.extensions.get::<First>().map(|first| first.0)
}

/// The dialect that a head is spoken in, whatever is wrong with it.
pub fn dialect_of(head: &Parts) -> Dialect {
    if is_call_in_http1(head) {
        // How a call ended stands in trailers: who sent this reads a status and a sentence.
        return Dialect::V2;
    }
    Dialect::of_first(&head_of(head), first_of(head))
}

/// All of a head that addressing may look at.
pub fn head_of(head: &Parts) -> Head<'_> {
    Head {
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    }
}

/// Whether a call came in HTTP/1, which has no place for what a call's answer ends with.
fn is_call_in_http1(head: &Parts) -> bool {
    head.version < Version::HTTP_2 && grpc::is_call(&head_of(head))
}
