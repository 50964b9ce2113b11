//! Manifests and indexes as far as fetching needs them.

use std::collections::BTreeMap;

use dukou_types::{Digest, ErrorCode, Failure};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Media type of a manifest.
pub const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// Artifact type of a version.
pub const VERSION_TYPE: &str = "application/vnd.cncf.model.manifest.v1+json";
/// Artifact type of a signature.
pub const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Annotation of an entry of `index.json`: its tag.
pub const REFERENCE: &str = "org.opencontainers.image.ref.name";
/// Annotation of an encrypted version: its model key.
pub const KEY_ANNOTATION: &str = "dev.dukou.encryption.key";
/// Tags of wrapped model keys.
pub const KEY_TAG: &str = "dukou-key-";
/// Bytes of a manifest or a signature, at most.
pub const LARGEST_DOCUMENT: u64 = 4 << 20;

/// How one blob names another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the bytes are.
    #[serde(default)]
    pub media_type: String,
    /// Of the bytes.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
    /// What kind of artifact a manifest describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// By key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// An entry of `index.json`.
    pub fn entry(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The same under a tag.
    #[must_use]
    pub fn tagged(mut self, tag: &str) -> Self {
        self.annotations.insert(REFERENCE.to_owned(), tag.to_owned());
        self
    }

    /// The same, of an artifact type.
    #[must_use]
    pub fn of_type(mut self, artifact_type: &str) -> Self {
        self.artifact_type = Some(artifact_type.to_owned());
        self
    }
}

/// A manifest.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// What it describes.
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Its config.
    pub config: Descriptor,
    /// Its layers.
    pub layers: Vec<Descriptor>,
    /// What it refers to.
    #[serde(default)]
    pub subject: Option<Descriptor>,
    /// By key.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// Every blob that it names, each once.
    pub fn blobs(&self) -> Vec<Descriptor> {
        let mut blobs: Vec<Descriptor> = Vec::with_capacity(self.layers.len() + 1);
        for blob in std::iter::once(&self.config).chain(&self.layers) {
            if blobs.iter().all(|known| known.digest != blob.digest) {
                blobs.push(blob.clone());
            }
        }
        blobs
    }
}

/// An index; entries that are not ours may be in other words.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Index {
    /// What it lists.
    pub manifests: Vec<serde_json::Value>,
}

impl Index {
    /// The entries that can be read.
    pub fn entries(self) -> Vec<Descriptor> {
        self.manifests.into_iter().filter_map(|e| serde_json::from_value(e).ok()).collect()
    }
}

/// A version that has come, before it is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub digest: Digest,
    /// Its number in the repository, where a tag says so.
    pub number: Option<u64>,
}

/// Reads a document.
///
/// # Errors
/// `formats.corrupt`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::new(
            ErrorCode::FormatsCorrupt,
            format!("{what} is not as the specification says: {error}"),
        )
    })
}
