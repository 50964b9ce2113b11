//! The last good table on disk: what an engine restarts with, alone.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use dukou_types::{ErrorCode, Failure};
use parking_lot::Mutex;

use crate::{
    events::{self, Level},
    table::ServingTable,
};

/// A file that holds a table.
#[derive(Debug)]
pub struct TableFile {
    path: PathBuf,
    problem: Mutex<Option<String>>,
}

impl TableFile {
    /// `table.json` in the state directory.
    pub fn in_folder(state_dir: &Path) -> Self {
        Self::at(state_dir.join("table.json"))
    }

    /// Any file.
    pub const fn at(path: PathBuf) -> Self {
        Self { path, problem: Mutex::new(None) }
    }

    /// Why the last table could not be written; none where it was.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// Reads and checks the table.
    ///
    /// # Errors
    /// `deploy.invalid`: it cannot be read, or is not valid.
    pub fn read(&self) -> Result<ServingTable, Failure> {
        let text = fs::read(&self.path).map_err(|error| self.unreadable(&error))?;
        Ok(ServingTable::parse(&text)?)
    }

    /// The same; none where there is no such file yet.
    ///
    /// # Errors
    /// As [`TableFile::read`].
    pub fn read_if_there(&self) -> Result<Option<ServingTable>, Failure> {
        match fs::read(&self.path) {
            Ok(text) => Ok(Some(ServingTable::parse(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    fn unreadable(&self, error: &io::Error) -> Failure {
        let message = format!("the table `{}` cannot be read: {error}", self.path.display());
        Failure::new(ErrorCode::DeployInvalid, message)
    }

    /// Writes the table, whole or not at all. A disk that is full or may not be written is said, and
    /// serving goes on: only a restart would notice.
    pub fn write(&self, table: &ServingTable) {
        let problem = self
            .replace(table)
            .err()
            .map(|error| format!("the table cannot be kept in `{}`: {error}", self.path.display()));
        if let Some(problem) = &problem {
            events::log(Level::Error, format_args!("{problem}; a restart would not know it"));
        }
        *self.problem.lock() = problem;
    }

    fn replace(&self, table: &ServingTable) -> io::Result<()> {
        write_whole(&self.path, &serde_json::to_vec_pretty(table)?)
    }
}

/// Puts a file in place, whole or not at all, and so that it is there after a crash.
pub(crate) fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let new = path.with_extension(format!("json.{}", std::process::id()));
    let written = write_durably(&new, text).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(folder)?.sync_all()
}

fn write_durably(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(text)?;
    file.sync_all()
}
