//! An engine that nobody supervises: in a container, or at the edge. It is its own starter.
//!
//! What a supervisor resolves before it starts an engine, this room resolves from a serving folder
//! (`spec/standalone.md`): paths inside the folder, numbers that follow the processors and the memory
//! there are, and who may come in. What it gives is an ordinary table; the rest of the engine knows
//! nothing of folders.

mod door;
mod folder;

pub use door::{Door, Doors};
pub use folder::{Folder, Surroundings};

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    events::{self, Level},
    swap::Swap,
};

/// How often the keys are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks at the keys of a folder that is served, until the process ends: a key that is made or revoked
/// counts at once. Keys that cannot be read change nothing and are said.
pub fn keep_fresh(swap: &Arc<Swap>, folder: &Folder, surroundings: &Surroundings) {
    let Some(access) = &surroundings.access else { return };
    let mut seen = door::stamp(access);
    while !swap.engine().drain.has_begun() {
        std::thread::park_timeout(LOOK);
        let now = door::stamp(access);
        if now == seen {
            continue;
        }
        seen = now;
        match folder.table(surroundings) {
            // What is refused is said by the swap.
            Ok(table) => drop(swap.put(table)),
            Err(failure) => events::log_failure(
                Level::Error,
                format_args!("the keys in `{}` stay as they were", access.display()),
                &failure,
            ),
        }
    }
}

/// The runtime's library in a folder, where it has one.
pub fn runtime_in(folder: &Path) -> Option<std::path::PathBuf> {
    let library = folder.join("lib").join("libonnxruntime.so");
    library.is_file().then_some(library)
}
