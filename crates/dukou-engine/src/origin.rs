//! What a loaded version was made from: one that is the same need not be loaded again.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use crate::table::{Backend, ServedVersion, Source};

/// What a loaded version was made from: one that is the same need not be loaded again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    source: Source,
    backend: Option<Backend>,
    stamp: Option<FileStamp>,
}

/// Tells whether a bare file is still the file that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Origin {
    /// What a version of a table would be made from now.
    pub fn of(version: &ServedVersion) -> Self {
        let stamp = match &version.source {
            Source::File(path) => FileStamp::of(path),
            Source::Artifact { .. } | Source::Remote(_) | Source::Graph(_) => None,
        };
        Self { source: version.source.clone(), backend: version.backend.clone(), stamp }
    }

    /// Whether a version made from this would come from the same place and be run alike, whatever has
    /// become of its file.
    pub fn is_alike(&self, new: &Self) -> bool {
        self.source == new.source && self.backend == new.backend
    }

    /// Whether a version made from this would be the same as one made from `new`. A file that is gone
    /// is no other file: what was loaded of it serves on.
    pub fn is_still(&self, new: &Self) -> bool {
        self.is_alike(new) && (new.stamp.is_none() || self.stamp == new.stamp)
    }
}

/// Whether two paths are one file.
pub(crate) fn is_same_file(first: &Path, second: &Path) -> bool {
    let id = |path| FileStamp::of(path).map(|stamp| (stamp.device, stamp.inode));
    first == second || id(first).is_some_and(|id_of_first| id(second) == Some(id_of_first))
}

impl FileStamp {
    fn of(path: &Path) -> Option<Self> {
        let data = fs::metadata(path).ok()?;
        Some(Self {
            device: data.dev(),
            inode: data.ino(),
            size: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
        })
    }
}
