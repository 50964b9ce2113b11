//! Heads: what a path means in every dialect, and the values of headers.

use dukou_types::ErrorCode;
use dukou_wire::{Coding, Dialect, Head, address, address_first, grpc};
use http::Method;

use crate::{
    answers::refusal,
    pieces::{first_line, header},
};

/// `METHOD path?query`, and a line with the content type.
pub(super) fn read(input: &[u8], use_it: impl FnOnce(&Head<'_>)) {
    let (line, rest) = first_line(input);
    let (kind, _) = first_line(rest);
    let mut words = line.splitn(2, |&byte| byte == b' ');
    let method = words.next().and_then(|method| Method::from_bytes(method).ok());
    let target = words.next().and_then(|target| std::str::from_utf8(target).ok());
    let (Some(method), Some(target)) = (method, target) else { return };
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    use_it(&Head { method: &method, path, query, headers: &header("content-type", kind) });
}

/// Who a head is for, and what it asks.
pub fn paths(input: &[u8]) {
    read(input, |head| {
        for first in [None].into_iter().chain(Dialect::REST.iter().copied().map(Some)) {
            let spoken = Dialect::of_first(head, first);
            match address_first(head, first) {
                Ok(asked) => {
                    assert_eq!(asked.dialect, spoken);
                    assert_eq!(asked.dialect.is_grpc(), grpc::is_call(head));
                    let _ = (asked.target.operation(), asked.target.model());
                }
                Err(failure) => refusal(spoken, &failure),
            }
        }
        assert_eq!(address(head), address_first(head, None));
    });
}

/// A header's value: how long to wait, and what an answer may be compressed with.
pub fn values(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Err(failure) = grpc::parse_timeout(text)
    {
        assert_eq!(failure.code, ErrorCode::WireInvalidField);
    }
    let _ = Coding::wanted(&header("accept-encoding", input));
    for coding in [Coding::Gzip, Coding::Deflate] {
        let accepted = grpc::accepted(coding, &header("grpc-accept-encoding", input));
        assert!(accepted.is_none_or(|accepted| accepted == coding));
    }
    let words = String::from_utf8_lossy(input);
    let encoded = grpc::encode_words(&words);
    assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{encoded}");
}
