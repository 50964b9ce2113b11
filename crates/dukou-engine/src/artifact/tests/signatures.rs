//! Whose signature counts, and over what.

use super::*;

#[test]
fn signatures_that_do_not_count() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let unsigned = Version::new();
    unsigned.layout.write_index();
    assert_eq!(unsigned.code(&signer.trusted()), ErrorCode::TrustUnsigned);

    let mut theirs = Version::new();
    theirs.sign(&stranger);
    assert_eq!(theirs.code(&signer.trusted()), ErrorCode::TrustUnknownKey);
    assert_eq!(theirs.code(&TrustPolicy::new(true, []).unwrap()), ErrorCode::TrustUnknownKey);
    // One good signature is enough, whoever else signed.
    theirs.sign(&signer);
    let opened = theirs.layout.open(&theirs.manifest, &signer.trusted()).unwrap();
    assert_eq!(opened.signed_by.as_deref(), Some(signer.id.as_str()));

    // The stranger says that it is us.
    let mut forged = Version::new();
    let liar = Signer { id: signer.id.clone(), ..stranger };
    forged.sign(&liar);
    assert_eq!(forged.code(&signer.trusted()), ErrorCode::TrustBadSignature);
}

#[test]
fn a_good_signature_of_something_else_is_bad() {
    let signer = Signer::new();
    let bytes = Version::new().manifest_bytes();
    let hex = sha256(&bytes);
    let other = sha256(b"another manifest");
    type Spoil<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let spoils: Vec<(&str, Spoil<'_>)> = vec![
        ("another manifest", Box::new(|s| *s = statement(b"another manifest"))),
        (
            "another resource digest",
            Box::new(|s| s["predicate"]["resources"][0]["digest"] = json!(other)),
        ),
        ("another subject", Box::new(|s| s["subject"][0]["digest"]["sha256"] = json!(hex))),
        (
            "another name",
            Box::new(|s| s["predicate"]["resources"][0]["name"] = json!("other.json")),
        ),
        (
            "another algorithm",
            Box::new(|s| s["predicate"]["resources"][0]["algorithm"] = json!("sha1")),
        ),
        ("no resource", Box::new(|s| s["predicate"]["resources"] = json!([]))),
        (
            "one more resource",
            Box::new(|s| {
                let first = s["predicate"]["resources"][0].clone();
                s["predicate"]["resources"] = json!([first.clone(), first]);
            }),
        ),
        ("no subject", Box::new(|s| s["subject"] = json!([]))),
        (
            "another predicate",
            Box::new(|s| s["predicateType"] = json!("https://slsa.dev/provenance/v1")),
        ),
        (
            "another statement",
            Box::new(|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1")),
        ),
        ("no statement", Box::new(|s| *s = json!([1, 2]))),
    ];
    for (what, spoil) in spoils {
        let mut version = Version::new();
        let mut statement = statement(&version.manifest_bytes());
        spoil(&mut statement);
        let manifest = version.manifest.clone();
        version.layout.refer(&manifest, &signer.bundle(&statement));
        assert_eq!(version.code(&signer.trusted()), ErrorCode::TrustBadSignature, "{what}");
    }
}

/// The bundle's own bytes changed, with digests mended: the envelope itself must hold.
#[test]
fn a_bundle_that_was_touched_is_bad_whatever_its_digest() {
    let signer = Signer::new();
    let mut version = Version::new();
    let good = signer.bundle(&statement(&version.manifest_bytes()));
    let (manifest, trust) = (version.manifest.clone(), signer.trusted());
    let text = String::from_utf8(good.clone()).unwrap();
    // Bytes of the payload and of the signature, and nothing else, are what counts.
    let envelope: Value = serde_json::from_str(&text).unwrap();
    for part in ["payload", "sig"] {
        let value = match part {
            "payload" => envelope["dsseEnvelope"]["payload"].as_str().unwrap(),
            _ => envelope["dsseEnvelope"]["signatures"][0]["sig"].as_str().unwrap(),
        };
        let start = text.find(value).unwrap();
        let decoded = STANDARD.decode(value).unwrap();
        for place in 0..decoded.len() {
            let mut bytes = decoded.clone();
            bytes[place] ^= 0x40;
            let touched =
                text[..start].to_owned() + &STANDARD.encode(&bytes) + &text[start + value.len()..];
            version.layout.index.clear();
            version.layout.refer(&manifest, touched.as_bytes());
            assert_eq!(
                version.code(&trust),
                ErrorCode::TrustBadSignature,
                "byte {place} of {part}"
            );
        }
    }
    for broken in [&b"{}"[..], b"", b"[]", &good[..good.len() / 2]] {
        version.layout.index.clear();
        version.layout.refer(&manifest, broken);
        assert_eq!(version.code(&trust), ErrorCode::TrustBadSignature);
    }
    version.layout.index.clear();
    version.layout.refer(&manifest, &good);
    assert!(version.layout.open(&manifest, &trust).is_ok());
}

#[test]
fn a_signature_of_another_version_does_not_count() {
    let signer = Signer::new();
    let mut first = Version::new();
    let signature = first.sign(&signer);
    // Another version in the same store, under whose name the first one's signature is listed.
    let mut document: Value = serde_json::from_slice(&first.manifest_bytes()).unwrap();
    document["annotations"] = json!({"org.example": "changed"});
    let second = first.layout.document("application/vnd.oci.image.manifest.v1+json", &document);
    let mut listed = signature["referrers"].clone();
    listed["annotations"]["org.opencontainers.image.ref.name"] =
        json!(second["digest"].as_str().unwrap().replace(':', "-"));
    first.layout.index.push(listed);
    first.layout.write_index();
    assert_eq!(first.layout.code(&second, &signer.trusted()), ErrorCode::TrustBadSignature);
    assert!(first.layout.open(&first.manifest, &signer.trusted()).is_ok());
}

#[test]
fn where_no_signature_is_required_a_bad_one_is_still_refused() {
    let (signer, stranger) = (Signer::new(), Signer::new());
    let anyone = TrustPolicy::new(false, [(signer.id.as_str(), signer.pem.as_str())]).unwrap();
    let mut version = Version::new();
    assert_eq!(version.layout.open(&version.manifest, &anyone).unwrap().signed_by, None);
    version.sign(&stranger);
    assert_eq!(version.layout.open(&version.manifest, &anyone).unwrap().signed_by, None);
    let manifest = version.manifest.clone();
    version.layout.refer(&manifest, &signer.bundle(&statement(b"another manifest")));
    assert_eq!(version.code(&anyone), ErrorCode::TrustBadSignature);
}
