//! Fetches what the store lacks of a version: its signature is believed before a weight is fetched.

use std::time::{Duration, Instant};

use dukou_types::{Digest, ErrorCode, Failure};

use crate::{
    manifest::{
        BUNDLE_TYPE, Descriptor, KEY_ANNOTATION, KEY_TAG, MANIFEST_TYPE, Manifest, VERSION_TYPE,
        parse,
    },
    registry::Registry,
    store::{Beside, BlobStore},
};

/// Tries of one blob in a row that bring nothing.
const TRIES: u32 = 4;
const PAUSE: Duration = Duration::from_millis(300);

/// What travelled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that came over the network.
    pub moved: u64,
    /// Bytes that were there.
    pub present: u64,
}

/// What is fetched, and how.
pub struct Fetch<'a> {
    /// From where.
    pub registry: &'a Registry,
    /// To where.
    pub store: &'a BlobStore,
    /// Bytes a second; 0: as they come.
    pub bytes_per_s: u64,
    /// Waits; true where the agent should end: then what came is kept.
    pub wait: &'a (dyn Fn(Duration) -> bool + Sync),
}

impl Fetch<'_> {
    /// The small part: manifest, signatures, wrapped key. Nothing of it is believed yet.
    ///
    /// # Errors
    /// `remote.*`, `package.digest-mismatch`, `formats.corrupt`, `edge.*`.
    pub fn documents(&self, version: &Digest, traffic: &mut Traffic) -> Result<Beside, Failure> {
        let manifest = self.manifest(version, traffic)?;
        let mut beside = Beside::default();
        for entry in self.registry.signatures(version)? {
            let signature = self.manifest(&entry.digest, traffic)?;
            if signature.artifact_type.as_deref() != Some(BUNDLE_TYPE) {
                continue;
            }
            if signature.subject.as_ref().is_none_or(|subject| subject.digest != *version) {
                return Err(Failure::new(
                    ErrorCode::TrustBadSignature,
                    format!("a signature listed for {version} says that it is another version's"),
                ));
            }
            self.blobs(&signature, traffic)?;
            let size = self.store.read(&entry.digest)?.len() as u64;
            let kept = Descriptor::entry(MANIFEST_TYPE, entry.digest, size).of_type(BUNDLE_TYPE);
            beside.signatures.push(kept);
        }
        if let Some(id) = manifest.annotations.get(KEY_ANNOTATION) {
            let tag = format!("{KEY_TAG}{id}");
            if let Some(digest) = self.registry.tag(&tag)? {
                self.blobs(&self.manifest(&digest, traffic)?, traffic)?;
                let size = self.store.read(&digest)?.len() as u64;
                beside.key = Some(Descriptor::entry(MANIFEST_TYPE, digest, size).tagged(&tag));
            }
        }
        Ok(beside)
    }

    /// Bytes that are still to come.
    ///
    /// # Errors
    /// `package.*`, `formats.corrupt`.
    pub fn lacking(&self, version: &Digest) -> Result<u64, Failure> {
        let manifest: Manifest = parse(&self.store.read(version)?, "the version's manifest")?;
        let lacking = manifest.blobs().into_iter().filter(|blob| !self.store.holds(blob));
        Ok(lacking.map(|blob| blob.size - self.store.come(&blob)).sum())
    }

    /// The large part: config and layers.
    ///
    /// # Errors
    /// As [`Fetch::documents`].
    pub fn layers(&self, version: &Digest, traffic: &mut Traffic) -> Result<(), Failure> {
        let manifest: Manifest = parse(&self.store.read(version)?, "the version's manifest")?;
        if manifest.artifact_type.as_deref() != Some(VERSION_TYPE) {
            return Err(Failure::new(
                ErrorCode::FormatsCorrupt,
                format!("{version} is `{}`", manifest.artifact_type.unwrap_or_default()),
            ));
        }
        self.blobs(&manifest, traffic)?;
        self.store.settle()
    }

    fn manifest(&self, digest: &Digest, traffic: &mut Traffic) -> Result<Manifest, Failure> {
        let bytes = match self.store.read(digest) {
            Ok(bytes) => {
                traffic.present += bytes.len() as u64;
                bytes
            }
            Err(_) => {
                let bytes = self.registry.manifest(digest)?;
                traffic.moved += bytes.len() as u64;
                self.store.keep(digest, &bytes)?;
                bytes
            }
        };
        parse(&bytes, "a manifest")
    }

    fn blobs(&self, manifest: &Manifest, traffic: &mut Traffic) -> Result<(), Failure> {
        for blob in manifest.blobs() {
            if self.store.holds(&blob) {
                traffic.present += blob.size;
            } else {
                self.blob(&blob, traffic)?;
            }
        }
        Ok(())
    }

    /// One blob, as often as it breaks off, as long as each try brings something.
    fn blob(&self, blob: &Descriptor, traffic: &mut Traffic) -> Result<(), Failure> {
        let mut empty = 0;
        loop {
            let before = traffic.moved;
            let failure = match self.once(blob, traffic) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.code != ErrorCode::RemoteUnreachable => {
                    return Err(failure);
                }
                Err(failure) => failure,
            };
            empty = if traffic.moved > before { 0 } else { empty + 1 };
            if empty == TRIES || (self.wait)(PAUSE * empty) {
                return Err(failure);
            }
        }
    }

    fn once(&self, blob: &Descriptor, traffic: &mut Traffic) -> Result<(), Failure> {
        let (from, mut source) = self.registry.blob(blob, self.store.come(blob))?;
        let begun = Instant::now();
        let mut came = 0_u64;
        let pace = self.bytes_per_s;
        self.store.receive(blob, from, &mut source, |read| {
            came += read as u64;
            traffic.moved += read as u64;
            if let Some(due) = (came * 1000).checked_div(pace) {
                let early = Duration::from_millis(due).saturating_sub(begun.elapsed());
                let _ending = (self.wait)(early);
            }
        })
    }
}
