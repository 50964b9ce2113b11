//! Files that appear whole or not at all, whatever happens to the power.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use dukou_types::{ErrorCode, Failure};

/// Puts a file in the place of another: written beside it, on the disk before it has its name.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    sync_folder(folder)
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// An error of the disk as a failure.
pub fn disk(what: &Path, error: &io::Error) -> Failure {
    let message = format!("`{}` cannot be written: {error}", what.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Failure::new(ErrorCode::EdgeNoRoom, message)
        }
        _ => Failure::new(ErrorCode::EdgeDisk, message),
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |passed| passed.as_secs())
}
