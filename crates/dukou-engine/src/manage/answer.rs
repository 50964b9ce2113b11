//! A change as it is asked for over the network: carried out, and its asker hears what came of it.

use std::sync::Arc;

use bytes::Bytes;
use dukou_types::Failure;
use dukou_wire::{Addressed, Listed, Target};
use http::{StatusCode, request::Parts};

use super::{Entry, carry_out, index};
use crate::{access::Caller, address::head_of, engine::Engine};

/// Carries out what was asked for by this head and body (or a call's message), and gives status and body.
///
/// # Errors
/// As [`carry_out`]; what is wrong with the body.
pub async fn answer(
    engine: &Arc<Engine>,
    caller: &Caller,
    head: &Parts,
    Addressed { dialect, target }: Addressed,
    frames: &[Bytes],
) -> Result<(StatusCode, Vec<u8>), Failure> {
    if target == Target::RepositoryIndex {
        let only_ready = dialect.decode_index(frames)?;
        let entries = index(engine, caller, only_ready).await?;
        let listed: Vec<Listed<'_>> = entries.iter().map(listed).collect();
        return Ok((StatusCode::OK, dialect.encode_index(&listed)));
    }
    let change = dialect.decode_change(&head_of(head), &target, frames)?;
    let outcome = carry_out(engine, caller, change).await?;
    let (status, text) = dialect.encode_outcome(&outcome);
    Ok((StatusCode::from_u16(status).unwrap_or(StatusCode::OK), text))
}

fn listed(entry: &Entry) -> Listed<'_> {
    Listed {
        model: entry.model.as_str(),
        version: entry.version.as_ref().map(|version| version.as_str()),
        ready: entry.ready,
        reason: entry.reason.as_deref(),
    }
}
