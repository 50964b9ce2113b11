//! Blobs by digest, read with suspicion: a blob is what its name says, or it is not read.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use dukou_sys::FileBytes;
use dukou_types::{Digest, ErrorCode, Failure};
use ring::digest;
use serde::{Deserialize, de::DeserializeOwned};

/// Blobs up to this size are read, so that what was checked is what is used; larger ones are mapped
/// (blobs are never rewritten in place).
const READ_UP_TO: u64 = 4 << 20;
/// A document (manifest, config, index, bundle) larger than this is not one of ours.
const LARGEST_DOCUMENT: u64 = 16 << 20;

/// How one blob names another.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The folder of blobs of a layout.
#[derive(Debug)]
pub(super) struct Blobs(PathBuf);

impl Blobs {
    pub fn new(layout: &Path) -> Self {
        Self(layout.join("blobs").join("sha256"))
    }

    /// The blob, checked against its name and, where known, its size. `what` names it in sentences.
    pub fn open(
        &self,
        name: &Digest,
        size: Option<u64>,
        what: &str,
    ) -> Result<Arc<FileBytes>, Failure> {
        let path = self.0.join(name.hex());
        let open = || {
            let found = std::fs::metadata(&path)?.len();
            let bytes =
                if found > READ_UP_TO { FileBytes::map(&path) } else { FileBytes::read(&path) };
            bytes.map(Arc::new)
        };
        let bytes = open().map_err(|error: io::Error| {
            let why = match error.kind() {
                io::ErrorKind::NotFound => "is not in the store".to_owned(),
                _ => format!("cannot be read: {error}"),
            };
            Failure::new(ErrorCode::PackageIncomplete, format!("{what} ({name}) {why}"))
        })?;
        let actual = sha256(&bytes);
        let right_size = size.is_none_or(|size| size == bytes.len() as u64);
        if actual != name.hex() || !right_size {
            let said = size.map_or_else(String::new, |size| format!(" of {size} bytes"));
            return Err(Failure::new(
                ErrorCode::PackageDigestMismatch,
                format!(
                    "{what} should be {name}{said}, but its {} bytes are sha256:{actual}",
                    bytes.len()
                ),
            ));
        }
        Ok(bytes)
    }

    /// The blob that a descriptor names.
    pub fn described(
        &self,
        descriptor: &Descriptor,
        what: &str,
    ) -> Result<Arc<FileBytes>, Failure> {
        self.open(&descriptor.digest, Some(descriptor.size), what)
    }

    /// A document that a descriptor names.
    pub fn document<T: DeserializeOwned>(
        &self,
        descriptor: &Descriptor,
        what: &str,
    ) -> Result<T, Failure> {
        if descriptor.size > LARGEST_DOCUMENT {
            return Err(corrupt(
                what,
                format!("{} bytes are more than such a document has", descriptor.size),
            ));
        }
        parse(&self.described(descriptor, what)?, what)
    }
}

/// A genuine document that is not what `spec/artifact.md` says.
pub(super) fn corrupt(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(
        ErrorCode::FormatsCorrupt,
        format!("{what} is not as the specification says: {why}"),
    )
}

/// Reads JSON.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| corrupt(what, error))
}

/// Hex of the sha256.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
