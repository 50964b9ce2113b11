//! Stores made here with keys made here, and then spoiled in every way that we could think of.

mod encrypted;
mod signatures;
mod versions;

use std::{collections::BTreeMap, fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dukou_types::{DType, Digest, Dim, ErrorCode, Failure};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use super::{
    KeySource, Store, TrustPolicy, VerifiedVersion,
    blobs::sha256,
    bundle,
    trust::{P256_PREFIX, key_id, pem},
};

struct Signer {
    pair: EcdsaKeyPair,
    id: String,
    pem: String,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let der = [&P256_PREFIX[..], pair.public_key().as_ref()].concat();
        Self { pair, id: key_id(&der), pem: pem(&der) }
    }

    fn trusted(&self) -> TrustPolicy {
        TrustPolicy::new(true, [(self.id.as_str(), self.pem.as_str())]).unwrap()
    }

    fn bundle(&self, statement: &Value) -> Vec<u8> {
        let payload = statement.to_string().into_bytes();
        let signature = self.pair.sign(&SystemRandom::new(), &bundle::encode(&payload)).unwrap();
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {"hint": self.id}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(&payload),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": STANDARD.encode(signature), "keyid": ""}],
            },
        })
        .to_string()
        .into_bytes()
    }
}

fn statement(manifest: &[u8]) -> Value {
    let raw = ring::digest::digest(&ring::digest::SHA256, manifest);
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "digits", "digest": {"sha256": sha256(raw.as_ref())}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false},
            "resources": [{"name": "manifest.json", "algorithm": "sha256", "digest": sha256(manifest)}],
        },
    })
}

/// A store under construction.
struct Layout {
    folder: tempfile::TempDir,
    index: Vec<Value>,
}

impl Layout {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("blobs/sha256")).unwrap();
        fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        Self { folder, index: Vec::new() }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.path().join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    /// Writes a blob and gives its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = format!("sha256:{}", sha256(bytes));
        fs::write(self.path(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len()})
    }

    fn layer(&self, media_type: &str, name: &str, bytes: &[u8]) -> Value {
        let mut descriptor = self.blob(media_type, bytes);
        descriptor["annotations"] = json!({"org.cncf.model.filepath": name});
        descriptor
    }

    fn document(&self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    fn write_index(&self) {
        let index = json!({"schemaVersion": 2, "manifests": self.index});
        fs::write(self.folder.path().join("index.json"), index.to_string()).unwrap();
    }

    /// Lists a bundle as a signature of the version.
    fn refer(&mut self, version: &Value, bundle: &[u8]) -> BTreeMap<&'static str, Value> {
        const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let bundle = self.blob(BUNDLE, bundle);
        let empty = self.blob("application/vnd.oci.empty.v1+json", b"{}");
        let subject =
            json!({"mediaType": MANIFEST, "digest": version["digest"], "size": version["size"]});
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE,
            "config": empty, "layers": [bundle], "subject": subject,
        });
        let mut referrer = self.document(MANIFEST, &manifest);
        referrer["artifactType"] = json!(BUNDLE);
        let mut referrers = self.document(
            "application/vnd.oci.image.index.v1+json",
            &json!({"schemaVersion": 2, "manifests": [referrer]}),
        );
        let tag = version["digest"].as_str().unwrap().replace(':', "-");
        referrers["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
        self.index.push(referrers.clone());
        self.write_index();
        BTreeMap::from([("bundle", bundle), ("referrer", referrer), ("referrers", referrers)])
    }

    fn open(&self, version: &Value, trust: &TrustPolicy) -> Result<VerifiedVersion, Failure> {
        let digest = Digest::parse(version["digest"].as_str().unwrap()).unwrap();
        Store::open(self.folder.path())?.open_version(&digest, trust, &KeySource::new(None))
    }

    fn code(&self, version: &Value, trust: &TrustPolicy) -> ErrorCode {
        match self.open(version, trust) {
            Ok(_) => panic!("the version was opened"),
            Err(failure) => failure.code,
        }
    }
}

fn config() -> Value {
    json!({
        "descriptor": {"name": "digits"},
        "dukou": {
            "format": 1, "name": "digits", "variant": "original",
            "signature": {
                "inputs": [{"name": "x", "dtype": "FP32", "shape": ["N", 64, null]}],
                "outputs": [{"name": "y", "dtype": "INT64", "shape": ["N"]}],
            },
            "labels": ["0", "1"],
        },
    })
}

/// A whole version: layers by name, and the manifest's descriptor.
struct Version {
    layout: Layout,
    layers: Vec<Value>,
    config: Value,
    manifest: Value,
}

impl Version {
    fn new() -> Self {
        Self::with_weights(40_000)
    }

    fn with_weights(bytes: u32) -> Self {
        let layout = Layout::new();
        let weights: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
        let layers = vec![
            layout.layer("application/vnd.dukou.model.graph.v1+onnx", "graph.onnx", b"a graph"),
            layout.layer(
                "application/vnd.cncf.model.weight.v1.raw",
                "weights-0.bin",
                b"small weights",
            ),
            layout.layer("application/vnd.cncf.model.weight.v1.raw", "weights-1.bin", &weights),
            layout.layer(
                "application/vnd.dukou.model.golden.v1+json",
                "golden.json",
                b"{\"format\": 1}",
            ),
            layout.layer("application/vnd.dukou.model.card.v1+json", "card.json", b"{}"),
            layout.blob("application/vnd.example.later", b"what a later release writes"),
        ];
        let config = layout.document("application/vnd.cncf.model.config.v1+json", &config());
        let manifest = Value::Null;
        let mut version = Self { layout, layers, config, manifest };
        version.write_manifest();
        version
    }

    fn write_manifest(&mut self) {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "artifactType": "application/vnd.cncf.model.manifest.v1+json",
            "config": self.config,
            "layers": self.layers,
        });
        self.manifest =
            self.layout.document("application/vnd.oci.image.manifest.v1+json", &manifest);
    }

    fn manifest_bytes(&self) -> Vec<u8> {
        fs::read(self.layout.path(self.manifest["digest"].as_str().unwrap())).unwrap()
    }

    fn sign(&mut self, signer: &Signer) -> BTreeMap<&'static str, Value> {
        let bundle = signer.bundle(&statement(&self.manifest_bytes()));
        let manifest = self.manifest.clone();
        self.layout.refer(&manifest, &bundle)
    }

    fn code(&self, trust: &TrustPolicy) -> ErrorCode {
        self.layout.code(&self.manifest, trust)
    }
}
