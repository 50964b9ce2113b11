//! hear: the room that calls of gRPC have besides. Their heads name a method; the message behind it names
//! the model.
//!
//! Who calls is known, and that they may call at all, before a byte of the message is read; what they may
//! do with that model is asked once it has named it.

use std::{error::Error as StdError, time::Duration};

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure};
use dukou_wire::{
    Addressed, Coding, Message, Target,
    grpc::{self, PREFIX},
};
use http::request::Parts;
use hyper::body::Body;

use crate::{
    access::{Caller, Origin, enforce},
    reply::read_frames,
    stack::{Door, heard, named_timeout},
    visit::Visit,
    way::before,
};

/// A message for which a table need not say how large it may be: it asks how the server is.
const SMALL: usize = 64 * 1024;
/// How long a message may take to come where its call names no time and no model is known yet.
const UNNAMED: Duration = Duration::from_secs(60);

/// A call whose message is there.
pub struct Heard {
    /// What it is about.
    pub asked: Addressed,
    /// Whose it is.
    pub caller: Caller,
    /// The message, out of its envelope.
    pub message: Message,
    /// What it was compressed with.
    pub coding: Option<Coding>,
}

/// Reads a call's message and what it is about.
///
/// # Errors
/// Those of [`enforce`], of reading, of the envelope, and of addressing by the message.
pub async fn hear<B>(
    head: &Parts,
    body: B,
    door: &Door,
    visit: &mut Visit<'_>,
    called: Addressed,
) -> Result<Heard, Failure>
where
    B: Body<Data = Bytes, Error: StdError + 'static>,
{
    visit.asked(Some(&called));
    let (caller, limit, patience) = admitted(head, door, visit, &called)?;
    let latest = visit.received + named_timeout(&head.headers)?.unwrap_or(UNNAMED);
    // What an envelope announces is believed before what it announces is read.
    let mut announced = false;
    let look = |frames: &[Bytes]| {
        if announced {
            return Ok(());
        }
        // None is empty: the first few have it, however many there are.
        let length = grpc::announced(&frames[..frames.len().min(PREFIX)]);
        announced = length.is_some();
        length.map_or(Ok(()), |length| grpc::check_size(length, limit))
    };
    let reading = read_frames(body, limit.saturating_add(PREFIX), patience, look);
    let frames = before(latest, reading).await?.map_err(|failure| match failure.code {
        ErrorCode::RequestBodyTooLarge => {
            grpc::check_size(limit.saturating_add(1), limit).err().unwrap_or(failure)
        }
        _ => failure,
    })?;
    visit.body_was_read = true;
    visit.bytes_in = frames.iter().map(Bytes::len).sum();
    let (message, coding) = grpc::open(frames, &head.headers, limit)?;
    let asked = named(&called, head, &message)?;
    visit.asked(Some(&asked));
    visit.named = Some(asked.target.clone());
    Ok(Heard { asked, caller, message, coding })
}

/// What a call is about, once its message is there.
///
/// # Errors
/// See [`dukou_wire::Dialect::address_message`].
pub fn named(called: &Addressed, head: &Parts, message: &[Bytes]) -> Result<Addressed, Failure> {
    let dialect = called.dialect;
    let target = match &called.target {
        Target::Message { .. } => dialect.address_message(head.uri.path(), message)?,
        known => known.clone(),
    };
    Ok(Addressed { dialect, target })
}

/// Who calls, how large a message may be and how slowly it may come.
pub fn admitted(
    head: &Parts,
    door: &Door,
    visit: &mut Visit<'_>,
    called: &Addressed,
) -> Result<(Caller, usize, Duration), Failure> {
    let table = door.engine.serving.load();
    let serving = table.as_deref();
    let origin = Origin { listener: &door.listener, peer: door.peer, encrypted: door.encrypted };
    let caller = enforce(serving, origin, head, Some(&called.target))?;
    visit.principal = caller.principal.clone();
    heard(Ok(called.clone()), serving, origin.listener, head)?;
    let limits = serving.map(|serving| serving.limits);
    let limit = match &called.target {
        Target::Message { .. } | Target::Stream => limits.map_or(SMALL, |limits| limits.body_bytes),
        _ => SMALL,
    };
    Ok((caller, limit, limits.map_or(UNNAMED, |limits| limits.header)))
}
