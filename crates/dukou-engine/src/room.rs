//! Whether a table's models have room in the container's memory: said before they are loaded, because
//! the kernel's way of saying it is to end the process.

use dukou_types::{ErrorCode, Failure};

use crate::{
    artifact::Store,
    container::Size,
    load::Loader,
    state::anonymous_bytes,
    swap::Refused,
    table::{Backend, ServedModel, ServedVersion, Source},
};

/// Refuses versions that cannot all fit, counting their weights alone: what is certain to be needed.
/// What cannot be known here is left for loading to say.
///
/// # Errors
/// `engine.too-little-memory`, of the largest of them.
pub fn refuse_what_cannot_fit(
    memory: Option<u64>,
    added: &[(&ServedModel, &ServedVersion)],
    loader: &Loader,
) -> Result<(), Refused> {
    let Some(memory) = memory else { return Ok(()) };
    let shares = loader.compiled_dir.is_some();
    let needs: Vec<u64> =
        added.iter().map(|(_, version)| needed(version, shares, memory)).collect();
    let total: u64 = needs.iter().sum();
    let used = anonymous_bytes();
    if used.saturating_add(total) <= memory {
        return Ok(());
    }
    let largest = needs.iter().enumerate().max_by_key(|(_, need)| **need);
    let Some(((model, version), need)) = largest.map(|(index, need)| (added[index], *need)) else {
        return Ok(());
    };
    let others = match total - need {
        0 => String::new(),
        rest => format!(", the others {}", Size(rest)),
    };
    let failure = Failure::new(
        ErrorCode::EngineTooLittleMemory,
        format!(
            "its weights take {}{others} and the engine itself {}, and the container gives {}",
            Size(need),
            Size(used),
            Size(memory)
        ),
    );
    Err(Refused::Version(crate::load::NotLoaded {
        model: model.name.clone(),
        version: version.version.clone(),
        failure,
    }))
}

/// Bytes that a version holds at once while it is opened; 0 where that cannot be known before.
fn needed(version: &ServedVersion, shares: bool, memory: u64) -> u64 {
    // Nothing that others run has weights here.
    let Some(backend) = &version.backend else { return 0 };
    match &version.source {
        Source::File(path) => {
            dukou_ort::opening_bytes(path, copies(backend, shares), memory).unwrap_or(0)
        }
        Source::Artifact { digest, store } => {
            let found = Store::open(store).and_then(|store| store.weight_bytes(digest));
            let (weights, encrypted) = found.unwrap_or_default();
            // Of an encrypted version what was decrypted stays beside what the runtime made of it.
            let copies = copies(backend, shares && !encrypted) + u64::from(encrypted);
            weights.saturating_mul(copies)
        }
        Source::Remote(_) | Source::Graph(_) => 0,
    }
}

/// How often the runtime holds the weights: once a session, of which one serves every instance that
/// runs on one thread.
fn copies(backend: &Backend, shares: bool) -> u64 {
    if (shares && backend.share_weights) || backend.threads <= 1 { 1 } else { backend.instances }
}
