//! Other servers' answers and pages, as who asks them reads them.

use bytes::Bytes;
use dukou_wire::{
    Dialect, Inserts, Peer, Reply,
    grpc::{self, PREFIX},
};
use http::HeaderMap;

use crate::{
    answers::{LIMITS, SIGNATURES, is_whole, refusal, same},
    pieces::{cut, first_line, header, whole},
};

/// What REST answers: an answer, a refusal, a page.
pub fn bodies(input: &[u8]) {
    for &peer in Peer::ALL.iter().filter(|peer| !peer.is_grpc()) {
        answers(peer, input);
        for status in [200, 404, 500] {
            opened(peer, status, &HeaderMap::new(), None, &whole(input));
        }
    }
}

/// What a call answers: an answer, a page.
pub fn messages(input: &[u8]) {
    for &peer in Peer::ALL.iter().filter(|peer| peer.is_grpc()) {
        answers(peer, input);
        let sealed = [&[0; PREFIX], input].concat();
        let (frames, _) = grpc::seal(sealed, Inserts::new(), None);
        opened(peer, 200, &header("grpc-status", b"0"), None, &frames);
    }
}

/// A line with a call's status, one with its words, and what came before them.
pub fn replies(input: &[u8]) {
    let (status, rest) = first_line(input);
    let (words, body) = first_line(rest);
    let mut ended = header("grpc-status", status);
    ended.extend(header("grpc-message", words));
    for &peer in Peer::ALL.iter().filter(|peer| peer.is_grpc()) {
        opened(peer, 200, &HeaderMap::new(), Some(&ended), &whole(body));
        opened(peer, 200, &ended, None, &cut(body));
    }
}

fn answers(peer: Peer, input: &[u8]) {
    let none = HeaderMap::new();
    for signature in &SIGNATURES[..2] {
        let read = |rope: &[Bytes]| peer.decode(rope, &none, signature, &LIMITS);
        match (read(&whole(input)), read(&cut(input))) {
            (Ok(answer), Ok(in_frames)) => {
                assert!(same(&answer.outputs, &in_frames.outputs), "frames matter");
                for tensor in &answer.outputs {
                    is_whole(tensor);
                    let spec = signature.outputs.iter().find(|spec| spec.name == tensor.name);
                    let spec = spec.expect("an output that was declared");
                    assert!(tensor.dtype == spec.dtype && spec.admits(&tensor.shape));
                }
            }
            (Err(failure), Err(in_frames)) => {
                assert_eq!(failure, in_frames, "frames matter");
                refusal(Dialect::V2, &failure);
            }
            (one, other) => panic!("frames matter: {one:?} and {other:?}"),
        }
    }
    let said = peer.read_signature(&whole(input));
    assert_eq!(said, peer.read_signature(&cut(input)), "frames matter");
}

fn opened(
    peer: Peer,
    status: u16,
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
    body: &[Bytes],
) {
    let reply = Reply { status, headers, trailers, body };
    let ready = peer.check_ready(&reply, &LIMITS);
    match peer.open(&reply, &LIMITS) {
        Ok(message) => {
            let length: usize = message.iter().map(Bytes::len).sum();
            assert!(length <= body.iter().map(Bytes::len).sum());
        }
        Err(refusal) => {
            assert!(refusal.status >= 400, "{refusal} is none");
            assert!(peer == Peer::Keras || ready.is_err(), "refused, and ready");
        }
    }
}
