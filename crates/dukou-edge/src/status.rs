//! What an agent's folder says of itself, whether an agent runs in it or not.

use std::path::Path;

use dukou_types::Failure;
use serde_json::{Value, json};

use crate::{
    agent::is_running,
    memory::Memory,
    settings::{Place, Settings},
    slots::{Name, Slots},
    store::BlobStore,
    waiting::Waiting,
};

/// One document (`spec/edge.md`).
///
/// # Errors
/// `edge.not-a-folder`.
pub fn status(folder: &Path) -> Result<Value, Failure> {
    let settings = Settings::read(folder)?;
    let place = Place::new(folder);
    let slots = Slots::new(place.slots());
    let current = slots.current()?;
    let memory = Memory::read(&place.state());
    let store = BlobStore::at(&place.store());
    let waiting = Waiting::new(&place.state(), settings.waiting_bytes).lines();
    let slot = |name: Name| {
        slots.read(name).map(|slot| {
            json!({
                "version": slot.version,
                "digest": slot.digest,
                "sequence": slot.sequence,
                "installed": slot.installed,
            })
        })
    };
    Ok(json!({
        "format": 1,
        "device": settings.device,
        "running": is_running(folder),
        "current": current,
        "slots": { "a": slot(Name::A), "b": slot(Name::B) },
        "follow": settings.follow.map(|follow| json!({
            "registry": follow.registry,
            "repository": follow.repository,
            "tag": follow.tag,
            "every_s": follow.every_s,
        })),
        "last_poll": memory.last_poll,
        "last_update": memory.last_update,
        "installed": memory.installed,
        "failed": memory.failed,
        "refused": memory.refused,
        "report": {
            "url": settings.report.map(|report| report.url),
            "waiting": waiting.len(),
            "waiting_bytes": waiting.iter().map(|line| line.len() + 1).sum::<usize>(),
            "dropped": memory.dropped,
        },
        "disk": { "store_bytes": store.size(), "free_bytes": store.free() },
    }))
}
