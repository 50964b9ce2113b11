//! The OCI image layout on disk, and a version of it.

use std::{path::Path, sync::Arc};

use dukou_sys::FileBytes;
use dukou_types::{Digest, ErrorCode, Failure, Signature};
use serde::Deserialize;

use super::{
    TrustPolicy,
    blobs::{Blobs, Descriptor, corrupt, parse},
    bundle::{self, Verdict},
};

const VERSION_TYPE: &str = "application/vnd.cncf.model.manifest.v1+json";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const CONFIG_TYPE: &str = "application/vnd.cncf.model.config.v1+json";
const GRAPH_TYPE: &str = "application/vnd.dukou.model.graph.v1+onnx";
const WEIGHT_TYPE: &str = "application/vnd.cncf.model.weight.v1.raw";
const GOLDEN_TYPE: &str = "application/vnd.dukou.model.golden.v1+json";
const FILE_PATH: &str = "org.cncf.model.filepath";
const REFERENCE: &str = "org.opencontainers.image.ref.name";
const FORMAT: u32 = 1;

/// An OCI image layout, open for reading.
#[derive(Debug)]
pub struct Store {
    root: std::path::PathBuf,
    blobs: Blobs,
}

/// A version whose every byte and whose signature were checked.
#[derive(Clone, Debug)]
pub struct VerifiedVersion {
    /// The manifest's digest: the version's own.
    pub digest: Digest,
    /// The model's name, as packaged.
    pub name: String,
    /// The variant's name, as packaged.
    pub variant: Option<String>,
    /// The declared signature (`batchable` is false: the engine proves it).
    pub signature: Signature,
    /// Class names; empty where there are none.
    pub labels: Vec<String>,
    /// The ONNX graph.
    pub graph: Arc<FileBytes>,
    /// Weight chunks by the file name that the graph uses.
    pub external: Vec<(String, Arc<FileBytes>)>,
    /// `golden.json`, where the version has one.
    pub golden: Option<Arc<FileBytes>>,
    /// The id of the key whose signature counted; `None` where none was required and none was good.
    pub signed_by: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
    #[serde(default)]
    subject: Option<Descriptor>,
}

/// Entries that are not ours may be in other words (other digests): only ours are read closely.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<serde_json::Value>,
}

impl Index {
    fn select(
        self,
        what: &str,
        ours: impl Fn(&serde_json::Value) -> bool,
    ) -> Result<Vec<Descriptor>, Failure> {
        self.manifests
            .into_iter()
            .filter(ours)
            .map(|entry| serde_json::from_value(entry).map_err(|error| corrupt(what, error)))
            .collect()
    }
}

#[derive(Deserialize)]
struct Config {
    dukou: Dukou,
}

#[derive(Deserialize)]
struct Dukou {
    format: u32,
    name: String,
    #[serde(default)]
    variant: Option<String>,
    signature: Signature,
    #[serde(default)]
    labels: Vec<String>,
}

impl Store {
    /// Opens the layout at `path`. Fails with `package.incomplete` where there is none, and
    /// `formats.corrupt` where it is of a version that we do not know.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layout {
            image_layout_version: String,
        }
        let what = format!("the store `{}`", path.display());
        let text = std::fs::read(path.join("oci-layout")).map_err(|error| {
            Failure::new(
                ErrorCode::PackageIncomplete,
                format!("{what} is not an OCI image layout: its file `oci-layout` cannot be read: {error}"),
            )
        })?;
        let layout: Layout = parse(&text, &what)?;
        if !layout.image_layout_version.starts_with("1.") {
            return Err(corrupt(
                &what,
                format!("its layout is version `{}`, and 1 is known", layout.image_layout_version),
            ));
        }
        Ok(Self { root: path.to_owned(), blobs: Blobs::new(path) })
    }

    /// Reads and checks a version: `package.incomplete` (a blob is absent), `package.digest-mismatch`,
    /// `trust.unsigned`, `trust.bad-signature`, `trust.unknown-key`, `formats.corrupt` (a document that
    /// is genuine and yet not what `spec/artifact.md` says).
    pub fn open_version(
        &self,
        digest: &Digest,
        trust: &TrustPolicy,
    ) -> Result<VerifiedVersion, Failure> {
        let what = "the version's manifest";
        let bytes = self.blobs.open(digest, None, what)?;
        // The signature first: nothing that an unsigned manifest says is worth reading.
        let signed_by = self.signer(digest, &bytes, trust)?;
        let manifest: Manifest = parse(&bytes, what)?;
        if manifest.artifact_type.as_deref() != Some(VERSION_TYPE) {
            return Err(corrupt(
                what,
                format!("its artifact type is `{}`", manifest.artifact_type.unwrap_or_default()),
            ));
        }
        if manifest.config.media_type != CONFIG_TYPE {
            return Err(corrupt(what, format!("its config is `{}`", manifest.config.media_type)));
        }
        let config: Config = self.blobs.document(&manifest.config, "the version's config")?;
        let dukou = config.dukou;
        if dukou.format != FORMAT {
            return Err(corrupt(
                "the version's config",
                format!("its format is {}, and {FORMAT} is known", dukou.format),
            ));
        }
        let files = self.files(&manifest)?;
        let of_type = |media_type: &'static str| {
            files.iter().filter(move |(layer, ..)| layer.media_type == media_type)
        };
        let mut graphs = of_type(GRAPH_TYPE);
        let (Some((_, _, graph)), None) = (graphs.next(), graphs.next()) else {
            return Err(corrupt(
                what,
                format!("it has not exactly one layer of type `{GRAPH_TYPE}`"),
            ));
        };
        let external = of_type(WEIGHT_TYPE)
            .map(|(_, name, bytes)| {
                let name = name.clone().ok_or_else(|| {
                    corrupt(what, format!("a layer of weights has no `{FILE_PATH}`"))
                })?;
                Ok((name, Arc::clone(bytes)))
            })
            .collect::<Result<_, Failure>>()?;
        Ok(VerifiedVersion {
            digest: digest.clone(),
            name: dukou.name,
            variant: dukou.variant,
            signature: Signature { batchable: false, ..dukou.signature },
            labels: dukou.labels,
            graph: Arc::clone(graph),
            external,
            golden: of_type(GOLDEN_TYPE).next().map(|(.., bytes)| Arc::clone(bytes)),
            signed_by,
        })
    }

    /// Every layer, checked, with its file name. Types that we do not know are checked all the same.
    fn files<'m>(
        &self,
        manifest: &'m Manifest,
    ) -> Result<Vec<(&'m Descriptor, Option<String>, Arc<FileBytes>)>, Failure> {
        let what = "the version's manifest";
        let mut files: Vec<(&Descriptor, Option<String>, Arc<FileBytes>)> = Vec::new();
        for layer in &manifest.layers {
            let name = layer.annotations.get(FILE_PATH);
            if let Some(name) = name {
                if !is_plain_name(name) {
                    let shown: String = name.escape_default().take(80).collect();
                    return Err(corrupt(
                        what,
                        format!("`{shown}` is not a plain file name inside the version's folder"),
                    ));
                }
                if files.iter().any(|(_, other, _)| other.as_ref() == Some(name)) {
                    return Err(corrupt(what, format!("two layers are called `{name}`")));
                }
            }
            let called = name.map_or(layer.media_type.as_str(), String::as_str);
            let bytes = self.blobs.described(layer, &format!("the version's layer `{called}`"))?;
            files.push((layer, name.cloned(), bytes));
        }
        Ok(files)
    }

    /// The id of the trusted key that signed this manifest. `None` is possible only where no signature
    /// is required; one that does not fit is refused even then.
    fn signer(
        &self,
        digest: &Digest,
        manifest: &[u8],
        trust: &TrustPolicy,
    ) -> Result<Option<String>, Failure> {
        let mut worst: Option<Failure> = None;
        for bundle in self.bundles(digest)? {
            let verdict = bundle.and_then(|bytes| bundle::judge(&bytes, manifest, trust));
            let failure = match verdict {
                Ok(Verdict::Good { key }) => return Ok(Some(key)),
                Ok(Verdict::UnknownKey { hint }) => Failure::new(
                    ErrorCode::TrustUnknownKey,
                    format!(
                        "{digest} is signed by key `{hint}`, which is not one of the {} trusted here",
                        trust.len()
                    ),
                ),
                Err(failure) => failure,
            };
            if worst.as_ref().is_none_or(|worst| gravity(&failure) > gravity(worst)) {
                worst = Some(failure);
            }
        }
        match worst {
            Some(failure)
                if trust.require_signature() || failure.code != ErrorCode::TrustUnknownKey =>
            {
                Err(failure)
            }
            None if trust.require_signature() => Err(Failure::new(
                ErrorCode::TrustUnsigned,
                format!("{digest} carries no signature"),
            )),
            _ => Ok(None),
        }
    }

    /// The bundles that refer to a version, each read or the reason why not.
    fn bundles(&self, digest: &Digest) -> Result<Vec<Result<Arc<FileBytes>, Failure>>, Failure> {
        let what = "the store's `index.json`";
        let text = match std::fs::read(self.root.join("index.json")) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(Failure::new(
                    ErrorCode::PackageIncomplete,
                    format!("{what} cannot be read: {error}"),
                ));
            }
        };
        let tag = format!("sha256-{}", digest.hex());
        let tagged = |entry: &serde_json::Value| entry["annotations"][REFERENCE] == tag.as_str();
        let entries = parse::<Index>(&text, what)?.select(what, tagged)?;
        let mut bundles = Vec::new();
        for entry in entries {
            let what = "the index of the version's signatures";
            let maybe_ours = |entry: &serde_json::Value| {
                let of = &entry["artifactType"];
                of.is_null() || of == BUNDLE_TYPE
            };
            let listed: Result<Vec<Descriptor>, Failure> = self
                .blobs
                .document::<Index>(&entry, what)
                .and_then(|index| index.select(what, maybe_ours));
            match listed {
                Ok(listed) => bundles.extend(
                    listed.iter().filter_map(|referrer| self.bundle(referrer, digest).transpose()),
                ),
                Err(failure) => bundles.push(Err(failure)),
            }
        }
        Ok(bundles)
    }

    /// The bundle of one referrer; `None` where it is something else than a signature of this version.
    fn bundle(
        &self,
        referrer: &Descriptor,
        digest: &Digest,
    ) -> Result<Option<Arc<FileBytes>>, Failure> {
        let what = "the manifest of the version's signature";
        let manifest: Manifest = self.blobs.document(referrer, what)?;
        if manifest.artifact_type.as_deref() != Some(BUNDLE_TYPE) {
            return Ok(None);
        }
        if manifest.subject.is_none_or(|subject| subject.digest != *digest) {
            return Err(Failure::new(
                ErrorCode::TrustBadSignature,
                format!("a signature listed for {digest} says that it is another version's"),
            ));
        }
        let layer =
            manifest.layers.iter().find(|layer| layer.media_type == BUNDLE_TYPE).ok_or_else(
                || {
                    Failure::new(
                        ErrorCode::TrustBadSignature,
                        format!("{what} has no layer of type `{BUNDLE_TYPE}`"),
                    )
                },
            )?;
        self.blobs.described(layer, "the version's signature").map(Some)
    }
}

/// Which of several reasons is told: a signature that does not fit before anything else.
fn gravity(failure: &Failure) -> u8 {
    match failure.code {
        ErrorCode::TrustBadSignature => 3,
        ErrorCode::TrustUnknownKey => 1,
        _ => 2,
    }
}

/// A plain file name: no separator, not hidden, nothing that a shell or a path would read otherwise.
fn is_plain_name(name: &str) -> bool {
    name.len() <= 128
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && name.bytes().next().is_some_and(|first| first != b'.')
}
