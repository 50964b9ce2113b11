//! The OCI image layout on disk, and a version of it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dukou_sys::FileBytes;
use dukou_types::{Digest, ErrorCode, Failure, Signature};
use serde::Deserialize;

use super::{
    KeySource, TrustPolicy,
    blobs::{Blobs, Descriptor, corrupt, parse},
    bundle::{self, Verdict},
    sealed::{self, ENCRYPTED, ModelKey},
};

const VERSION_TYPE: &str = "application/vnd.cncf.model.manifest.v1+json";
const BUNDLE_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const CONFIG_TYPE: &str = "application/vnd.cncf.model.config.v1+json";
const GRAPH_TYPE: &str = "application/vnd.dukou.model.graph.v1+onnx";
const WEIGHT_TYPE: &str = "application/vnd.cncf.model.weight.v1.raw";
const GOLDEN_TYPE: &str = "application/vnd.dukou.model.golden.v1+json";
const FILE_PATH: &str = "org.cncf.model.filepath";
const REFERENCE: &str = "org.opencontainers.image.ref.name";
const KEY_TYPE: &str = "application/vnd.dukou.model.key.v1+json";
const KEY_TAG: &str = "dukou-key-";
const KEY_ANNOTATION: &str = "dev.dukou.encryption.key";
const SALT_ANNOTATION: &str = "dev.dukou.encryption.salt";
const FORMAT: u32 = 1;
const MANIFEST: &str = "the version's manifest";
const CONFIG: &str = "the version's config";

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
    /// Whether it is encrypted in the store: what is above must then reach no disk.
    pub encrypted: bool,
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
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// A layer that was checked, in clear.
struct File<'m> {
    media_type: &'m str,
    name: Option<String>,
    bytes: Arc<FileBytes>,
}

/// How the blobs of an encrypted version are opened.
struct Opener {
    key: ModelKey,
    /// sha256 of the layers' contents, in order.
    salts: Vec<Digest>,
}

/// A wrapped model key.
#[derive(Deserialize)]
struct WrappedKey {
    format: u32,
    model: String,
    model_key: String,
    key: String,
    wrapped: String,
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
    #[serde(default)]
    modelfs: serde_json::Value,
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
    /// is genuine and yet not what `spec/artifact.md` says); of an encrypted one
    /// `trust.no-encryption-key`, `trust.wrong-encryption-key`, `trust.bad-ciphertext`.
    pub fn open_version(
        &self,
        digest: &Digest,
        trust: &TrustPolicy,
        keys: &KeySource,
    ) -> Result<VerifiedVersion, Failure> {
        let what = MANIFEST;
        let (manifest, signed_by) = self.manifest(digest, trust)?;
        let (config, opener) = self.config(&manifest, keys)?;
        let dukou = config.dukou;
        if dukou.format != FORMAT {
            return Err(corrupt(
                CONFIG,
                format!("its format is {}, and {FORMAT} is known", dukou.format),
            ));
        }
        let files = self.files(&manifest, opener.as_ref())?;
        let of_type = |media_type: &'static str| {
            files.iter().filter(move |file| file.media_type == media_type)
        };
        let mut graphs = of_type(GRAPH_TYPE);
        let (Some(graph), None) = (graphs.next(), graphs.next()) else {
            return Err(corrupt(
                what,
                format!("it has not exactly one layer of type `{GRAPH_TYPE}`"),
            ));
        };
        let external = of_type(WEIGHT_TYPE)
            .map(|file| {
                let name = file.name.clone().ok_or_else(|| {
                    corrupt(what, format!("a layer of weights has no `{FILE_PATH}`"))
                })?;
                Ok((name, Arc::clone(&file.bytes)))
            })
            .collect::<Result<_, Failure>>()?;
        Ok(VerifiedVersion {
            digest: digest.clone(),
            name: dukou.name,
            variant: dukou.variant,
            signature: Signature { batchable: false, ..dukou.signature },
            labels: dukou.labels,
            graph: Arc::clone(&graph.bytes),
            external,
            golden: of_type(GOLDEN_TYPE).next().map(|file| Arc::clone(&file.bytes)),
            signed_by,
            encrypted: opener.is_some(),
        })
    }

    /// Bytes of a version's weights as they are packaged, and whether they are encrypted; nothing of it
    /// is verified but the manifest's own digest. Fails as [`Store::open_version`].
    pub fn weight_bytes(&self, digest: &Digest) -> Result<(u64, bool), Failure> {
        let manifest: Manifest = parse(&self.blobs.open(digest, None, MANIFEST)?, MANIFEST)?;
        let weights = |media_type: &str| {
            [GRAPH_TYPE, WEIGHT_TYPE]
                .contains(&media_type.strip_suffix(ENCRYPTED).unwrap_or(media_type))
        };
        let layers = manifest.layers.iter().filter(|layer| weights(&layer.media_type));
        let bytes = layers.map(|layer| layer.size).fold(0, u64::saturating_add);
        Ok((bytes, manifest.config.media_type.ends_with(ENCRYPTED)))
    }

    /// Checks a version's signature and every digest, and decrypts nothing. Fails as
    /// [`Store::open_version`].
    pub fn check_version(&self, digest: &Digest, trust: &TrustPolicy) -> Result<(), Failure> {
        let (manifest, _) = self.manifest(digest, trust)?;
        self.blobs.described(&manifest.config, CONFIG)?;
        for layer in &manifest.layers {
            self.blobs.described(layer, "one of the version's layers")?;
        }
        Ok(())
    }

    /// Checks a version's signature alone: its config and layers need not be there. Fails as
    /// [`Store::open_version`].
    pub fn check_signature(&self, digest: &Digest, trust: &TrustPolicy) -> Result<(), Failure> {
        self.manifest(digest, trust).map(|_| ())
    }

    /// The class names of a version; its layers are not read. Fails as [`Store::open_version`].
    pub fn labels(
        &self,
        digest: &Digest,
        trust: &TrustPolicy,
        keys: &KeySource,
    ) -> Result<Vec<String>, Failure> {
        let (manifest, _) = self.manifest(digest, trust)?;
        Ok(self.config(&manifest, keys)?.0.dukou.labels)
    }

    /// The manifest, once its signature is believed, and whose that is.
    fn manifest(
        &self,
        digest: &Digest,
        trust: &TrustPolicy,
    ) -> Result<(Manifest, Option<String>), Failure> {
        let bytes = self.blobs.open(digest, None, MANIFEST)?;
        // The signature first: nothing that an unsigned manifest says is worth reading.
        let signed_by = self.signer(digest, &bytes, trust)?;
        let manifest: Manifest = parse(&bytes, MANIFEST)?;
        if manifest.artifact_type.as_deref() != Some(VERSION_TYPE) {
            return Err(corrupt(
                MANIFEST,
                format!("its artifact type is `{}`", manifest.artifact_type.unwrap_or_default()),
            ));
        }
        Ok((manifest, signed_by))
    }

    /// The config, and how the layers are opened where the version is encrypted.
    fn config(
        &self,
        manifest: &Manifest,
        keys: &KeySource,
    ) -> Result<(Config, Option<Opener>), Failure> {
        let layer = &manifest.config;
        if layer.media_type == CONFIG_TYPE {
            return Ok((self.blobs.document(layer, CONFIG)?, None));
        }
        if layer.media_type.strip_suffix(ENCRYPTED) != Some(CONFIG_TYPE) {
            return Err(corrupt(MANIFEST, format!("its config is `{}`", layer.media_type)));
        }
        let key_id = manifest.annotations.get(KEY_ANNOTATION).ok_or_else(|| {
            corrupt(MANIFEST, format!("it is encrypted and has no annotation `{KEY_ANNOTATION}`"))
        })?;
        let key = self.model_key(key_id, keys)?;
        let salt = layer.annotations.get(SALT_ANNOTATION).and_then(|text| from_hex(text));
        let salt = salt.ok_or_else(|| {
            corrupt(MANIFEST, format!("its config's `{SALT_ANNOTATION}` is not hex"))
        })?;
        let bytes = self.blobs.described(layer, CONFIG)?;
        let config: Config = parse(&key.open(CONFIG_TYPE, &salt, &bytes, CONFIG)?, CONFIG)?;
        let salts: Vec<Digest> = serde_json::from_value(config.modelfs["diffIds"].clone())
            .map_err(|error| corrupt(CONFIG, error))?;
        if salts.len() != manifest.layers.len() {
            return Err(corrupt(CONFIG, "its `diffIds` are not one a layer"));
        }
        Ok((config, Some(Opener { key, salts })))
    }

    /// The model key of this id, unwrapped.
    fn model_key(&self, id: &str, keys: &KeySource) -> Result<ModelKey, Failure> {
        let what = "the version's wrapped key";
        let read = || -> Result<WrappedKey, Failure> {
            let tag = format!("{KEY_TAG}{id}");
            let entry = self.tagged(&tag)?.into_iter().next().ok_or_else(|| {
                Failure::new(
                    ErrorCode::PackageIncomplete,
                    format!(
                        "the version is encrypted with model key `{}`, and the store has no such \
                         wrapped key",
                        id.escape_default()
                    ),
                )
            })?;
            let manifest: Manifest = self.blobs.document(&entry, what)?;
            let layer = manifest.layers.iter().find(|layer| layer.media_type == KEY_TYPE);
            let layer = layer
                .ok_or_else(|| corrupt(what, format!("it has no layer of type `{KEY_TYPE}`")))?;
            self.blobs.document(layer, what)
        };
        let wrapped = match read() {
            // A rotation puts another in its place; then the index, read again, leads there.
            Err(failure) if failure.code == ErrorCode::PackageIncomplete => read()?,
            other => other?,
        };
        if wrapped.format != FORMAT {
            return Err(corrupt(
                what,
                format!("its format is {}, and {FORMAT} is known", wrapped.format),
            ));
        }
        let bytes = STANDARD
            .decode(&wrapped.wrapped)
            .map_err(|_| corrupt(what, "`wrapped` is not base64"))?;
        let about = sealed::about(&wrapped.model_key, &wrapped.key, &wrapped.model);
        let key = ModelKey::of(keys.unwrap(&wrapped.key, &bytes, &about, "the version")?);
        if key.id != id {
            return Err(Failure::new(
                ErrorCode::TrustBadCiphertext,
                format!("{what} holds model key `{}`, not `{}`", key.id, id.escape_default()),
            ));
        }
        Ok(key)
    }

    /// Every layer, checked and in clear, with its file name. Types that we do not know are checked all
    /// the same.
    fn files<'m>(
        &self,
        manifest: &'m Manifest,
        opener: Option<&Opener>,
    ) -> Result<Vec<File<'m>>, Failure> {
        let mut files: Vec<File<'m>> = Vec::new();
        for (index, layer) in manifest.layers.iter().enumerate() {
            let name = layer.annotations.get(FILE_PATH);
            if let Some(name) = name {
                if !is_plain_name(name) {
                    let shown: String = name.escape_default().take(80).collect();
                    return Err(corrupt(
                        MANIFEST,
                        format!("`{shown}` is not a plain file name inside the version's folder"),
                    ));
                }
                if files.iter().any(|other| other.name.as_ref() == Some(name)) {
                    return Err(corrupt(MANIFEST, format!("two layers are called `{name}`")));
                }
            }
            let what = format!(
                "the version's layer `{}`",
                name.map_or(layer.media_type.as_str(), String::as_str)
            );
            let plain = layer.media_type.strip_suffix(ENCRYPTED);
            let bytes = self.blobs.described(layer, &what)?;
            let (media_type, bytes) = match (opener, plain) {
                (None, None) => (layer.media_type.as_str(), bytes),
                (Some(opener), Some(plain)) => {
                    let salt = opener.salts.get(index).and_then(|digest| from_hex(digest.hex()));
                    let salt = salt.ok_or_else(|| corrupt(CONFIG, "a digest is not hex"))?;
                    let content = opener.key.open(plain, &salt, &bytes, &what)?;
                    (plain, Arc::new(FileBytes::from(content)))
                }
                _ => {
                    return Err(corrupt(
                        MANIFEST,
                        "some of its blobs are encrypted and others are not",
                    ));
                }
            };
            files.push(File { media_type, name: name.cloned(), bytes });
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
        let entries = self.tagged(&format!("sha256-{}", digest.hex()))?;
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

    /// What stands in `index.json` under a tag.
    fn tagged(&self, tag: &str) -> Result<Vec<Descriptor>, Failure> {
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
        let ours = |entry: &serde_json::Value| entry["annotations"][REFERENCE] == tag;
        parse::<Index>(&text, what)?.select(what, ours)
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

/// Bytes from hex digits, an even number of them.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if digits.is_empty() || !digits.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}
