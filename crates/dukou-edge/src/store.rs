//! The blobs that both slots share: an OCI image layout that the engine opens as any other.
//!
//! A blob has its name once its bytes are right and on the disk. What comes over a network lies beside
//! the blobs until then and is taken up where it broke off, by this process or the next one.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
};

use dukou_types::{Digest, ErrorCode, Failure};
use ring::digest::{Context, SHA256, digest};
use serde_json::json;

use crate::{
    files::{disk, replace, sync_folder},
    manifest::{
        BUNDLE_TYPE, Descriptor, INDEX_TYPE, Index, KEY_ANNOTATION, KEY_TAG, LARGEST_DOCUMENT,
        MANIFEST_TYPE, Manifest, REFERENCE, VERSION_TYPE, parse,
    },
};

/// Read or written at once.
const PIECE: usize = 256 << 10;

/// An image layout that is written to by one agent.
#[derive(Clone, Debug)]
pub struct BlobStore {
    root: PathBuf,
    blobs: PathBuf,
    /// Half-received blobs, by digest.
    coming: PathBuf,
}

/// Where the signatures and the wrapped key of a version lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Entries of the version's index of signatures.
    pub signatures: Vec<Descriptor>,
    /// The wrapped key's manifest, under its tag.
    pub key: Option<Descriptor>,
}

impl BlobStore {
    /// The layout at this path, to be looked at.
    pub fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            blobs: root.join("blobs").join("sha256"),
            coming: root.join(".incoming"),
        }
    }

    /// The layout at this path, made where it is missing.
    ///
    /// # Errors
    /// `edge.disk`.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let store = Self::at(root);
        let make = || -> io::Result<()> {
            fs::create_dir_all(&store.blobs)?;
            fs::create_dir_all(&store.coming)?;
            let layout = root.join("oci-layout");
            if !layout.exists() {
                replace(&layout, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
            }
            Ok(())
        };
        make().map_err(|error| disk(root, &error))?;
        Ok(store)
    }

    /// Whether the blob is there, to the last byte.
    pub fn holds(&self, blob: &Descriptor) -> bool {
        let path = self.path(&blob.digest);
        let size = fs::metadata(&path).map(|data| data.len());
        size.is_ok_and(|size| size == blob.size)
            && hash_file(&path).is_ok_and(|hash| hash == blob.digest.hex())
    }

    /// A document, verified.
    ///
    /// # Errors
    /// `package.incomplete`, `package.digest-mismatch`.
    pub fn read(&self, name: &Digest) -> Result<Vec<u8>, Failure> {
        let bytes = fs::read(self.path(name)).map_err(|error| {
            Failure::new(
                ErrorCode::PackageIncomplete,
                format!("blob {name} cannot be read: {error}"),
            )
        })?;
        check(&bytes, name)?;
        Ok(bytes)
    }

    /// Keeps a document.
    ///
    /// # Errors
    /// `package.digest-mismatch`, `edge.no-room`, `edge.disk`.
    pub fn keep(&self, name: &Digest, bytes: &[u8]) -> Result<(), Failure> {
        check(bytes, name)?;
        let part = self.part(name);
        let write = || -> io::Result<()> {
            let mut file = File::create(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, self.path(name))
        };
        write().map_err(|error| disk(&part, &error))
    }

    /// Bytes of a blob that have come already.
    pub fn come(&self, blob: &Descriptor) -> u64 {
        let come = fs::metadata(self.part(&blob.digest)).map_or(0, |data| data.len());
        if come > blob.size { 0 } else { come }
    }

    /// Receives a blob behind what has come of it; it has its name only if it is what it should be.
    ///
    /// # Errors
    /// `remote.unreachable`: the source broke off; what came is kept. `package.digest-mismatch`: other bytes
    /// came; nothing is kept. `edge.no-room`, `edge.disk`.
    pub fn receive(
        &self,
        blob: &Descriptor,
        from: u64,
        source: &mut dyn Read,
        mut on_piece: impl FnMut(usize),
    ) -> Result<(), Failure> {
        let part = self.part(&blob.digest);
        let mut context = Context::new(&SHA256);
        let mut file = self.open_part(&part, from, &mut context).map_err(|e| disk(&part, &e))?;
        let mut piece = vec![0; PIECE];
        let mut size = from;
        loop {
            let read = match source.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // What came before is worth keeping: the next try begins behind it.
                    file.sync_all().map_err(|error| disk(&part, &error))?;
                    return Err(Failure::new(
                        ErrorCode::RemoteUnreachable,
                        format!("the registry broke off within blob {}: {error}", blob.digest),
                    ));
                }
            };
            size += read as u64;
            if size > blob.size {
                break;
            }
            context.update(&piece[..read]);
            file.write_all(&piece[..read]).map_err(|error| disk(&part, &error))?;
            on_piece(read);
        }
        if size < blob.size {
            file.sync_all().map_err(|error| disk(&part, &error))?;
            return Err(Failure::new(
                ErrorCode::RemoteUnreachable,
                format!(
                    "the registry ended after {size} of {} bytes of {}",
                    blob.size, blob.digest
                ),
            ));
        }
        let hash = hex(context.finish().as_ref());
        if size != blob.size || hash != blob.digest.hex() {
            let _gone = fs::remove_file(&part);
            return Err(Failure::new(
                ErrorCode::PackageDigestMismatch,
                format!("{} was to come, and other bytes did: sha256:{hash}", blob.digest),
            ));
        }
        let finish = || -> io::Result<()> {
            file.sync_all()?;
            fs::rename(&part, self.path(&blob.digest))
        };
        finish().map_err(|error| disk(&part, &error))
    }

    /// Makes the names of blobs durable: before anything leads to them.
    ///
    /// # Errors
    /// `edge.disk`.
    pub fn settle(&self) -> Result<(), Failure> {
        sync_folder(&self.blobs).map_err(|error| disk(&self.blobs, &error))
    }

    /// What lies beside a version that is in `index.json`.
    ///
    /// # Errors
    /// `package.*`, `formats.corrupt`.
    pub fn beside(&self, version: &Digest) -> Result<Beside, Failure> {
        let manifest: Manifest = parse(&self.read(version)?, "a version's manifest")?;
        let entries = self.index().entries();
        let under = |tag: &str| {
            entries.iter().find(|e| e.annotations.get(REFERENCE).is_some_and(|t| t == tag)).cloned()
        };
        let signatures = match under(&signatures_tag(version)) {
            None => Vec::new(),
            Some(entry) => {
                parse::<Index>(&self.read(&entry.digest)?, "an index of signatures")?.entries()
            }
        };
        let key = manifest
            .annotations
            .get(KEY_ANNOTATION)
            .and_then(|id| under(&format!("{KEY_TAG}{id}")));
        Ok(Beside { signatures, key })
    }

    /// Writes `index.json` with these versions, and nothing else.
    ///
    /// # Errors
    /// `package.*`, `edge.no-room`, `edge.disk`.
    pub fn list(&self, versions: &[(Digest, Beside)]) -> Result<(), Failure> {
        let mut entries: Vec<Descriptor> = Vec::new();
        for (version, beside) in versions {
            if entries.iter().any(|entry| entry.digest == *version) {
                continue;
            }
            let size = self.read(version)?.len() as u64;
            let entry = Descriptor::entry(MANIFEST_TYPE, version.clone(), size);
            entries.push(entry.of_type(VERSION_TYPE));
            if !beside.signatures.is_empty() {
                let (name, size) = self.keep_document(&index_of(&beside.signatures))?;
                let entry = Descriptor::entry(INDEX_TYPE, name, size);
                entries.push(entry.tagged(&signatures_tag(version)));
            }
            if let Some(key) = &beside.key
                && entries.iter().all(|entry| entry.digest != key.digest)
            {
                entries.push(key.clone());
            }
        }
        self.settle()?;
        let path = self.root.join("index.json");
        let text = index_of(&entries).to_string();
        replace(&path, text.as_bytes()).map_err(|error| disk(&path, &error))
    }

    /// Takes away every blob that none of these versions needs, and what is half received of others.
    ///
    /// # Errors
    /// `package.*`: a manifest cannot be read, so that nobody knows what is needed; nothing is taken.
    pub fn collect(&self, versions: &[(Digest, Beside)]) -> Result<u64, Failure> {
        let mut needed = BTreeSet::new();
        for (version, beside) in versions {
            needed.insert(version.hex().to_owned());
            let mut manifests = vec![version.clone()];
            manifests.extend(beside.signatures.iter().map(|entry| entry.digest.clone()));
            manifests.extend(beside.key.iter().map(|entry| entry.digest.clone()));
            for name in manifests {
                let manifest: Manifest = parse(&self.read(&name)?, "a manifest")?;
                needed.insert(name.hex().to_owned());
                needed.extend(manifest.blobs().iter().map(|blob| blob.digest.hex().to_owned()));
            }
            if !beside.signatures.is_empty() {
                let text = index_of(&beside.signatures).to_string();
                needed.insert(hash(text.as_bytes()));
            }
        }
        let mut freed = 0;
        for folder in [&self.blobs, &self.coming] {
            for entry in fs::read_dir(folder).map_err(|error| disk(folder, &error))?.flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !needed.contains(name.trim_end_matches(".part")) {
                    freed += entry.metadata().map_or(0, |data| data.len());
                    let _gone = fs::remove_file(entry.path());
                }
            }
        }
        Ok(freed)
    }

    /// Bytes of all blobs, half-received ones too.
    pub fn size(&self) -> u64 {
        let folders = [&self.blobs, &self.coming].into_iter().filter_map(|f| fs::read_dir(f).ok());
        folders
            .flat_map(|entries| entries.flatten())
            .map(|entry| entry.metadata().map_or(0, |data| data.len()))
            .sum()
    }

    /// Bytes that the disk still has for us.
    pub fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.root)
            .map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn index(&self) -> Index {
        let read = fs::read(self.root.join("index.json")).ok();
        read.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Opens a half-received blob at `from`, with what is before it taken into the digest.
    fn open_part(&self, part: &Path, from: u64, context: &mut Context) -> io::Result<File> {
        if from == 0 {
            return File::create(part);
        }
        let mut before = File::open(part)?.take(from);
        let mut piece = vec![0; PIECE];
        loop {
            match before.read(&mut piece)? {
                0 => break,
                read => context.update(&piece[..read]),
            }
        }
        let file = OpenOptions::new().append(true).open(part)?;
        file.set_len(from)?;
        Ok(file)
    }

    fn keep_document(&self, document: &serde_json::Value) -> Result<(Digest, u64), Failure> {
        let text = document.to_string();
        let name = named(text.as_bytes())?;
        if !self.path(&name).exists() {
            self.keep(&name, text.as_bytes())?;
        }
        Ok((name, text.len() as u64))
    }

    fn path(&self, name: &Digest) -> PathBuf {
        self.blobs.join(name.hex())
    }

    fn part(&self, name: &Digest) -> PathBuf {
        self.coming.join(format!("{}.part", name.hex()))
    }
}

/// The tag that a version's signatures lie under.
pub fn signatures_tag(version: &Digest) -> String {
    format!("sha256-{}", version.hex())
}

/// Whether a listed referrer may be a signature.
pub fn may_sign(entry: &Descriptor) -> bool {
    entry.size <= LARGEST_DOCUMENT
        && entry.artifact_type.as_deref().is_none_or(|kind| kind == BUNDLE_TYPE)
}

/// Compares bytes with their name.
///
/// # Errors
/// `package.digest-mismatch`.
pub fn check(bytes: &[u8], name: &Digest) -> Result<(), Failure> {
    let hash = hash(bytes);
    if hash == name.hex() {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::PackageDigestMismatch,
        format!("{name} was to come, and {} other bytes did: sha256:{hash}", bytes.len()),
    ))
}

fn named(bytes: &[u8]) -> Result<Digest, Failure> {
    Digest::parse(&format!("sha256:{}", hash(bytes)))
        .map_err(|text| Failure::new(ErrorCode::EngineInternal, format!("`{text}` is no digest")))
}

fn index_of(entries: &[Descriptor]) -> serde_json::Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries })
}

fn hash(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn hash_file(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut context = Context::new(&SHA256);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hex(context.finish().as_ref())),
            read => context.update(&piece[..read]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
