//! What bytes travel in: compressed bodies, and messages in their envelopes.

use dukou_wire::{
    grpc::{self, PREFIX},
    open_body,
};

use crate::{
    BODY_BYTES,
    answers::refusal,
    pieces::{cut, first_line, header, whole},
};

/// A line that names the coding, and a body.
pub fn body(input: &[u8]) {
    let (coding, body) = first_line(input);
    let headers = header("content-encoding", coding);
    let open = |frames: &[bytes::Bytes]| {
        let frames = frames.iter().cloned().collect();
        let opened = open_body(frames, &headers, BODY_BYTES)?;
        Ok(opened.iter().flat_map(|frame| frame.to_vec()).collect::<Vec<u8>>())
    };
    let opened = open(&whole(body));
    assert_eq!(opened, open(&cut(body)), "frames matter");
    match opened {
        Ok(bytes) => assert!(bytes.len() <= BODY_BYTES.max(body.len())),
        Err(failure) => refusal(dukou_wire::Dialect::V2, &failure),
    }
}

/// A line that names the coding, and what came of a call.
pub fn message(input: &[u8]) {
    let (coding, body) = first_line(input);
    let headers = header(grpc::ENCODING, coding);
    assert_eq!(grpc::announced(&whole(body)), grpc::announced(&cut(body)), "frames matter");
    let open = |frames: &[bytes::Bytes]| {
        let frames = frames.iter().cloned().collect();
        let (message, coding) = grpc::open(frames, &headers, BODY_BYTES)?;
        Ok((message.iter().flat_map(|frame| frame.to_vec()).collect::<Vec<u8>>(), coding))
    };
    let opened = open(&whole(body));
    assert_eq!(opened, open(&cut(body)), "frames matter");
    match opened {
        Ok((message, None)) => assert_eq!(message, body[PREFIX..]),
        Ok((message, Some(_))) => assert!(message.len() <= BODY_BYTES),
        Err(failure) => refusal(dukou_wire::Dialect::V2Grpc, &failure),
    }
}
