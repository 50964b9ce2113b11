//! The bytes of a file: mapped and shared with the page cache, or read onto the heap.

use std::{
    fmt, fs,
    io::{self, Read},
    path::Path,
};

/// The bytes of a file as they were when it was opened.
///
/// A mapping costs no private memory and is shared by everybody who maps the same file. Whoever
/// maps must know that the file is never rewritten in place or shortened: blobs and chunks appear by
/// rename and go by unlink, so theirs never are. What may be rewritten by others is read instead.
pub struct FileBytes(Held);

enum Held {
    Mapped(memmap2::Mmap),
    Heap(Box<[u8]>),
}

impl FileBytes {
    /// Maps the regular file at `path`, read-only.
    pub fn map(path: &Path) -> io::Result<Self> {
        Self::map_file(&fs::File::open(path)?)
    }

    /// Maps an open regular file, read-only. An empty one takes no mapping.
    pub fn map_file(file: &fs::File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Ok(Self(Held::Heap(Box::default())));
        }
        // SAFETY: the mapping is read-only and the type's contract says that the file behind it is
        // never rewritten or shortened while it lives.
        let mapped = unsafe { memmap2::Mmap::map(file)? };
        Ok(Self(Held::Mapped(mapped)))
    }

    /// Reads the regular file at `path` onto the heap: what is checked afterwards is what is used.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = fs::File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        file.read_to_end(&mut bytes)?;
        Ok(Self(Held::Heap(bytes.into_boxed_slice())))
    }

    /// Whether it is a mapping (and so costs no private memory).
    pub fn is_mapped(&self) -> bool {
        matches!(self.0, Held::Mapped(_))
    }
}

impl From<Vec<u8>> for FileBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Held::Heap(bytes.into_boxed_slice()))
    }
}

impl std::ops::Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Mapped(mapped) => mapped,
            Held::Heap(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for FileBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for FileBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.is_mapped() { "mapped" } else { "read" };
        write!(f, "FileBytes({} bytes, {kind})", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_and_read_show_the_same_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        fs::write(&path, b"weights").unwrap();
        let (mapped, read) = (FileBytes::map(&path).unwrap(), FileBytes::read(&path).unwrap());
        assert!(mapped.is_mapped() && !read.is_mapped());
        assert_eq!(&mapped[..], &read[..]);
        fs::remove_file(&path).unwrap();
        assert_eq!(&mapped[..], b"weights", "an unlinked blob stays readable");
    }

    #[test]
    fn an_empty_file_is_empty_and_a_folder_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("empty");
        fs::write(&path, b"").unwrap();
        assert!(FileBytes::map(&path).unwrap().is_empty());
        assert!(FileBytes::map(folder.path()).is_err());
        assert!(FileBytes::read(folder.path()).is_err());
    }
}
