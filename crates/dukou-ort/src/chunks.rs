//! Weights on disk by content, and in memory once a process.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
};

use dukou_sys::FileBytes;
use parking_lot::Mutex;
use ring::digest;
use serde::{Deserialize, Serialize};

/// How a file looked when its content was known. Any write to it changes one of these, and nobody
/// can set `changed` back; so a file that looks the same need not be hashed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    modified_ns: i64,
    changed_ns: i64,
}

impl Stamp {
    pub fn of(metadata: &fs::Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file of weights, named by its content.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// 64 hex digits: the file's name.
    pub sha256: String,
    /// How it looked when it was written or last hashed.
    pub stamp: Stamp,
}

/// Every chunk that some session of this process reads. Two versions that differ in one layer find
/// all others here.
static MAPPED: Mutex<Option<HashMap<String, Weak<FileBytes>>>> = Mutex::new(None);

fn mapped(sha256: &str) -> Option<Arc<FileBytes>> {
    MAPPED.lock().as_ref()?.get(sha256)?.upgrade()
}

/// Bytes of all chunks that are mapped in this process now.
pub fn mapped_bytes() -> usize {
    let held = MAPPED.lock();
    held.iter().flatten().filter_map(|(_, weak)| weak.upgrade()).map(|bytes| bytes.len()).sum()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn damaged(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}` is damaged", path.display()))
}

/// Maps a chunk, or finds the mapping that is there already. A file that does not look as it did is
/// hashed; one that holds other bytes than its name says is removed, and an error.
pub(crate) fn map(folder: &Path, chunk: &Chunk) -> io::Result<Arc<FileBytes>> {
    if let Some(bytes) = mapped(&chunk.sha256) {
        return Ok(bytes);
    }
    let path = folder.join(&chunk.sha256);
    let file = fs::File::open(&path)?;
    let bytes = FileBytes::map_file(&file)?;
    if Stamp::of(&file.metadata()?) != chunk.stamp && sha256(&bytes) != chunk.sha256 {
        fs::remove_file(&path)?;
        return Err(damaged(&path));
    }
    let bytes = Arc::new(bytes);
    let mut guard = MAPPED.lock();
    let held = guard.get_or_insert_with(HashMap::new);
    if let Some(first) = held.get(&chunk.sha256).and_then(Weak::upgrade) {
        return Ok(first);
    }
    held.retain(|_, weak| weak.strong_count() > 0);
    held.insert(chunk.sha256.clone(), Arc::downgrade(&bytes));
    Ok(bytes)
}

/// Writes a chunk under its content's name: whole, on disk, by rename. One that is there already
/// and good is left alone.
pub(crate) fn write(folder: &Path, content: &[u8]) -> io::Result<Chunk> {
    let sha256 = sha256(content);
    let path = folder.join(&sha256);
    if let Ok(file) = fs::File::open(&path) {
        let there = FileBytes::map_file(&file)?;
        if there.len() == content.len() && there[..] == *content {
            return Ok(Chunk { sha256, stamp: Stamp::of(&file.metadata()?) });
        }
    }
    let temporary = temporary_name(folder);
    let written = (|| {
        let mut file = fs::File::create_new(&temporary)?;
        file.write_all(content)?;
        file.sync_data()?;
        fs::rename(&temporary, &path)?;
        file.metadata()
    })();
    match written {
        Ok(metadata) => Ok(Chunk { sha256, stamp: Stamp::of(&metadata) }),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// A name that no other process and no other thread uses; see [`sweep`].
pub(crate) fn temporary_name(folder: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!(".tmp-{}-{number}", std::process::id()))
}

/// Removes what a process that is gone left half-written.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.strip_prefix(".tmp-"))
            .and_then(|rest| rest.split('-').next());
        if let Some(owner) = owner
            && !Path::new("/proc").join(owner).exists()
        {
            let path = entry.path();
            let _ = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_mapped_once_and_a_changed_one_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..100_000_u32).map(|i| i as u8).collect();
        let chunk = write(folder.path(), &content).unwrap();
        let first = map(folder.path(), &chunk).unwrap();
        let second = map(folder.path(), &chunk).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(&first[..], &content[..]);
        assert_eq!(write(folder.path(), &content).unwrap().stamp, chunk.stamp, "not written again");
        drop((first, second));

        let path = folder.path().join(&chunk.sha256);
        let mut other = content.clone();
        other[77] ^= 1;
        fs::write(&path, &other).unwrap();
        assert_eq!(map(folder.path(), &chunk).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(!path.exists(), "a damaged chunk does not stay");

        // The same bytes in another file: looks different, is good.
        write(folder.path(), &content).unwrap();
        assert_eq!(&map(folder.path(), &chunk).unwrap()[..], &content[..]);
    }

    #[test]
    fn what_a_dead_process_left_is_swept() {
        let folder = tempfile::tempdir().unwrap();
        let (dead, alive) = (folder.path().join(".tmp-999999999-0"), temporary_name(folder.path()));
        fs::write(&dead, b"half").unwrap();
        fs::write(&alive, b"half").unwrap();
        sweep(folder.path()).unwrap();
        assert!(!dead.exists() && alive.exists());
    }
}
