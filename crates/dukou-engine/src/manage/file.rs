//! The list of changes on disk, beside the last good table: a restart forgets neither.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::changes::Changes;
use crate::{
    events::{self, Level},
    table_file::write_whole,
};

/// `changes.json` in the state directory.
#[derive(Clone, Debug)]
pub struct ChangesFile {
    path: PathBuf,
}

impl ChangesFile {
    /// Where it is in a state directory.
    pub fn in_folder(state_dir: &Path) -> Self {
        Self { path: state_dir.join("changes.json") }
    }

    /// The list; an empty one where there is none. One that cannot be read is said and passed over: the
    /// table is served all the same.
    pub fn read(&self) -> Changes {
        let text = match fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Changes::default(),
            Err(error) => return self.lost(&error),
        };
        serde_json::from_slice(&text).unwrap_or_else(|error| self.lost(&error))
    }

    fn lost(&self, why: &dyn std::fmt::Display) -> Changes {
        let path = self.path.display();
        let words = format_args!("what clients changed is lost: `{path}` cannot be read: {why}");
        events::log(Level::Error, words);
        Changes::default()
    }

    /// Writes the list, whole or not at all; a disk that takes nothing is said.
    pub fn write(&self, changes: &Changes) {
        let written = serde_json::to_vec_pretty(changes)
            .map_err(io::Error::from)
            .and_then(|text| write_whole(&self.path, &text));
        if let Err(error) = written {
            let path = self.path.display();
            events::log(
                Level::Error,
                format_args!(
                    "what clients change cannot be kept in `{path}`: {error}; a restart would not know it"
                ),
            );
        }
    }
}
