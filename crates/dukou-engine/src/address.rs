//! address: the second room. What a request is about, from its head alone, so that no stranger makes
//! us read a large body for a path that nothing is served at.

use dukou_types::Failure;
use dukou_wire::{Addressed, Head};
use http::request::Parts;

/// Says what a request is about.
///
/// # Errors
/// `wire.unknown-path`, `wire.wrong-method` and the like: see [`dukou_wire::address`].
pub fn address(head: &Parts) -> Result<Addressed, Failure> {
    dukou_wire::address(&head_of(head))
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
