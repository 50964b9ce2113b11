//! Blobs, names and documents: whole versions, spoiled ones, and those that Python wrote.

use super::*;

#[test]
fn a_whole_and_signed_version_opens() {
    let (signer, mut version) = (Signer::new(), Version::with_weights(5 << 20));
    version.sign(&signer);
    let opened = version.layout.open(&version.manifest, &signer.trusted()).unwrap();
    assert_eq!(opened.digest.as_str(), version.manifest["digest"].as_str().unwrap());
    assert_eq!((opened.name.as_str(), opened.variant.as_deref()), ("digits", Some("original")));
    assert_eq!(opened.labels, ["0", "1"]);
    assert_eq!(&opened.graph[..], b"a graph");
    assert_eq!(opened.golden.as_deref().map(|g| &g[..]), Some(&b"{\"format\": 1}"[..]));
    assert_eq!(opened.signed_by.as_deref(), Some(signer.id.as_str()));
    let names: Vec<&str> = opened.external.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["weights-0.bin", "weights-1.bin"]);
    assert_eq!(opened.external[1].1.len(), 5 << 20);
    assert!(opened.external[1].1.is_mapped() && !opened.graph.is_mapped());
    assert_eq!(opened.signature.inputs[0].dtype, DType::Fp32);
    assert_eq!(
        opened.signature.inputs[0].shape,
        [Dim::Symbol("N".into()), Dim::Fixed(64), Dim::Any(())]
    );
}

/// Every byte of every small blob, each changed by itself.
#[test]
fn every_flipped_byte_is_refused() {
    let (signer, mut version) = (Signer::new(), Version::new());
    let signature = version.sign(&signer);
    let trust = signer.trusted();
    let blobs =
        version.layers.iter().chain([&version.config, &version.manifest]).chain(signature.values());
    let mut flips = 0;
    for blob in blobs {
        let path = version.layout.path(blob["digest"].as_str().unwrap());
        let whole = fs::read(&path).unwrap();
        // Of the large one, the ends and some between.
        let step = if whole.len() > 10_000 { whole.len() / 7 } else { 1 };
        for place in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
            let mut bytes = whole.clone();
            bytes[place] ^= 1 << (place % 8);
            fs::write(&path, &bytes).unwrap();
            assert_eq!(
                version.code(&trust),
                ErrorCode::PackageDigestMismatch,
                "byte {place} of {blob}"
            );
            flips += 1;
        }
        for other in [&whole[..whole.len() - 1], &[&whole[..], b"\0"].concat(), b""] {
            fs::write(&path, other).unwrap();
            assert_eq!(
                version.code(&trust),
                ErrorCode::PackageDigestMismatch,
                "{} bytes of {blob}",
                other.len()
            );
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(version.code(&trust), ErrorCode::PackageIncomplete, "{blob}");
        fs::write(&path, &whole).unwrap();
    }
    assert!(flips > 2000, "{flips}");
    assert!(version.layout.open(&version.manifest, &trust).is_ok(), "whole again");
}

#[test]
fn a_mismatch_tells_both_digests() {
    let (signer, mut version) = (Signer::new(), Version::new());
    version.sign(&signer);
    let digest = version.layers[0]["digest"].as_str().unwrap().to_owned();
    fs::write(version.layout.path(&digest), b"b graph").unwrap();
    let failure = version.layout.open(&version.manifest, &signer.trusted()).unwrap_err();
    assert!(failure.message.contains(&digest), "{failure}");
    assert!(failure.message.contains(&sha256(b"b graph")), "{failure}");
    assert!(failure.message.contains("graph.onnx"), "{failure}");
}

#[test]
fn file_names_that_lead_out_are_refused() {
    let signer = Signer::new();
    for name in ["../weights.bin", "/etc/passwd", "a/b", ".hidden", "..", "", "a\\b", "a\0b", "a b"]
    {
        let mut version = Version::new();
        version.layers[1]["annotations"]["org.cncf.model.filepath"] = json!(name);
        version.write_manifest();
        version.sign(&signer);
        assert_eq!(version.code(&signer.trusted()), ErrorCode::FormatsCorrupt, "{name:?}");
    }
}

#[test]
fn genuine_documents_that_say_something_else_are_corrupt() {
    let signer = Signer::new();
    type Spoil = fn(&mut Version);
    let spoils: Vec<(&str, Spoil)> = vec![
        ("two files of one name", |v| v.layers[2] = v.layers[1].clone()),
        ("no graph", |v| drop(v.layers.remove(0))),
        ("two graphs", |v| {
            let mut second = v.layers[0].clone();
            second["annotations"]["org.cncf.model.filepath"] = json!("other.onnx");
            v.layers.push(second);
        }),
        ("weights without a name", |v| v.layers[1]["annotations"] = json!({})),
        ("a later format", |v| {
            let mut later = config();
            later["dukou"]["format"] = json!(2);
            v.config = v.layout.document("application/vnd.cncf.model.config.v1+json", &later);
        }),
        ("no `dukou`", |v| {
            v.config = v.layout.document("application/vnd.cncf.model.config.v1+json", &json!({}));
        }),
        ("an unknown dtype", |v| {
            let mut other = config();
            other["dukou"]["signature"]["inputs"][0]["dtype"] = json!("FP8");
            v.config = v.layout.document("application/vnd.cncf.model.config.v1+json", &other);
        }),
        ("another kind of config", |v| v.config["mediaType"] = json!("application/json")),
        ("an impossible digest", |v| v.layers[0]["digest"] = json!("sha256:../../etc/passwd")),
        ("a negative size", |v| v.layers[0]["size"] = json!(-1)),
    ];
    for (what, spoil) in spoils {
        let mut version = Version::new();
        spoil(&mut version);
        version.write_manifest();
        version.sign(&signer);
        assert_eq!(version.code(&signer.trusted()), ErrorCode::FormatsCorrupt, "{what}");
    }
}

/// The stores that Python wrote, which both readers judge alike.
#[test]
fn the_conformance_stores_are_judged_as_they_say() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../conformance/artifacts");
    let mut outcomes = BTreeMap::new();
    for case in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(text) = fs::read(case.join("expected.json")) else {
            continue;
        };
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let keys = expected["trusted"].as_array().unwrap();
        let keys =
            keys.iter().map(|key| (key["id"].as_str().unwrap(), key["pem"].as_str().unwrap()));
        let require = expected["require_signature"].as_bool().unwrap();
        let trust = TrustPolicy::new(require, keys).unwrap();
        let digest = Digest::parse(expected["digest"].as_str().unwrap()).unwrap();
        // Cases from before there was encryption say nothing of keys.
        let keys =
            expected["encryption_keys"].as_str().map_or(KeySource::new(None), KeySource::given);
        let opened = Store::open(&case.join("store"))
            .and_then(|store| store.open_version(&digest, &trust, &keys));
        let outcome = opened.as_ref().map_or_else(|failure| failure.code.as_str(), |_| "ok");
        let case = case.display();
        assert_eq!(outcome, expected["outcome"].as_str().unwrap(), "{case}");
        *outcomes.entry(outcome.to_owned()).or_insert(0) += 1;
        let Ok(version) = opened else { continue };
        let said = &expected["version"];
        assert_eq!(json!(version.name), said["name"], "{case}");
        assert_eq!(json!(version.variant), said["variant"], "{case}");
        assert_eq!(json!(version.labels), said["labels"], "{case}");
        assert_eq!(json!(version.signed_by), said["signed_by"], "{case}");
        assert_eq!(version.encrypted, said["encrypted"].as_bool().unwrap_or(false), "{case}");
        let signature = serde_json::to_value(&version.signature).unwrap();
        assert_eq!(signature["inputs"], said["signature"]["inputs"], "{case}");
        assert_eq!(signature["outputs"], said["signature"]["outputs"], "{case}");
        let golden = version.golden.iter().map(|bytes| ("golden.json", &bytes[..]));
        let graph = [("graph.onnx", &version.graph[..])].into_iter();
        let weights = version.external.iter().map(|(name, bytes)| (name.as_str(), &bytes[..]));
        for (name, bytes) in golden.chain(graph).chain(weights) {
            let found = format!("sha256:{}", sha256(bytes));
            assert_eq!(json!(found), said["files"][name], "{case}: {name}");
        }
    }
    assert!(outcomes.len() >= 7 && outcomes["ok"] >= 4, "{outcomes:?}");
}

#[test]
fn a_size_that_lies_is_refused() {
    let (signer, mut version) = (Signer::new(), Version::new());
    version.layers[0]["size"] = json!(8);
    version.write_manifest();
    version.sign(&signer);
    assert_eq!(version.code(&signer.trusted()), ErrorCode::PackageDigestMismatch);
}

#[test]
fn what_is_no_store_and_keys_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Store::open(folder.path()).unwrap_err().code, ErrorCode::PackageIncomplete);
    fs::write(folder.path().join("oci-layout"), r#"{"imageLayoutVersion": "9.0.0"}"#).unwrap();
    assert_eq!(Store::open(folder.path()).unwrap_err().code, ErrorCode::FormatsCorrupt);

    let signer = Signer::new();
    let rsa_like = pem(&[0x30, 0x10, 0x01, 0x02]);
    for (id, text) in [
        (signer.id.as_str(), "not a key"),
        (signer.id.as_str(), rsa_like.as_str()),
        ("ab", signer.pem.as_str()),
    ] {
        assert_eq!(
            TrustPolicy::new(true, [(id, text)]).unwrap_err().code,
            ErrorCode::DeployInvalid
        );
    }
    // The same key with other line ends has the same id.
    let windows = signer.pem.replace('\n', "\r\n");
    assert!(TrustPolicy::new(true, [(signer.id.as_str(), windows.as_str())]).is_ok());
}
