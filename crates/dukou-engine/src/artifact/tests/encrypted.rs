//! Encrypted versions that Python wrote: whatever byte is changed, nothing is opened; keys come from
//! files, variables and commands.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::*;

/// A copy of a conformance case, to be spoiled.
struct Case {
    folder: tempfile::TempDir,
    digest: Digest,
    trust: TrustPolicy,
    keys: String,
}

impl Case {
    fn copy(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let from =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance/artifacts").join(name);
        copy_folder(&from.join("store"), folder.path());
        let text = fs::read(from.join("expected.json")).unwrap();
        let expected: Value = serde_json::from_slice(&text).unwrap();
        let keys = expected["trusted"].as_array().unwrap();
        let keys =
            keys.iter().map(|key| (key["id"].as_str().unwrap(), key["pem"].as_str().unwrap()));
        Self {
            folder,
            digest: Digest::parse(expected["digest"].as_str().unwrap()).unwrap(),
            trust: TrustPolicy::new(true, keys).unwrap(),
            keys: expected["encryption_keys"].as_str().unwrap().to_owned(),
        }
    }

    fn open_with(&self, keys: &KeySource) -> Result<VerifiedVersion, Failure> {
        Store::open(self.folder.path())?.open_version(&self.digest, &self.trust, keys)
    }

    fn open(&self) -> Result<VerifiedVersion, Failure> {
        self.open_with(&KeySource::given(&self.keys))
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let folder = self.folder.path().join("blobs/sha256");
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

#[test]
fn every_flipped_byte_of_every_blob_is_refused() {
    let case = Case::copy("encrypted");
    let opened = case.open().unwrap();
    assert!(opened.encrypted);
    assert!(!opened.graph.is_mapped() && opened.external.iter().all(|(_, b)| !b.is_mapped()));
    // `{}`: what manifests name because the specification wants a config; nothing depends on it.
    let empty = sha256(b"{}");
    let mut flips = 0;
    for path in case.blobs() {
        if path.ends_with(&empty) {
            continue;
        }
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(&path, &changed).unwrap();
            let code = case.open().unwrap_err().code;
            assert_eq!(code, ErrorCode::PackageDigestMismatch, "{} byte {at}", path.display());
            flips += 1;
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(flips > 4000, "{flips}");
    assert!(case.open().is_ok(), "whole again");
}

#[test]
fn a_changed_index_leads_to_the_same_version_or_to_none() {
    let case = Case::copy("encrypted");
    let whole = case.open().unwrap();
    let path = case.folder.path().join("index.json");
    let index = fs::read(&path).unwrap();
    let mut refused = 0;
    for at in 0..index.len() {
        let mut changed = index.clone();
        changed[at] ^= 1 << (at % 7);
        fs::write(&path, &changed).unwrap();
        match case.open() {
            Err(_) => refused += 1,
            Ok(version) => {
                assert_eq!(version.signed_by, whole.signed_by);
                assert_eq!(version.graph[..], whole.graph[..]);
            }
        }
    }
    assert!(refused > index.len() / 3, "{refused} of {}", index.len());
}

#[test]
fn a_check_without_a_key_sees_every_damage() {
    let case = Case::copy("encrypted-no-annotation");
    let store = Store::open(case.folder.path()).unwrap();
    assert!(store.check_version(&case.digest, &case.trust).is_ok());
    let case = Case::copy("encrypted-flipped");
    let store = Store::open(case.folder.path()).unwrap();
    let failure = store.check_version(&case.digest, &case.trust).unwrap_err();
    assert_eq!(failure.code, ErrorCode::PackageDigestMismatch);
}

#[test]
fn keys_come_from_a_file_or_a_command_and_a_careless_file_is_refused() {
    let case = Case::copy("encrypted");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kek");
    let from_file = KeySource::new(path.to_str());
    let code = |keys: &KeySource| case.open_with(keys).unwrap_err().code;
    assert_eq!(code(&from_file), ErrorCode::TrustNoEncryptionKey);
    fs::write(&path, format!("# ours\n{}  # the first\n", case.keys)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(code(&from_file), ErrorCode::TrustKeyReadable);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    // Asked again, the same source sees what is there now.
    assert!(case.open_with(&from_file).is_ok());

    let command = format!("command:cat '{}'", path.display());
    assert!(case.open_with(&KeySource::new(Some(&command))).is_ok());
    for (source, expected) in [
        ("command:exit 3", ErrorCode::TrustKeyCommandFailed),
        ("command:echo no key", ErrorCode::TrustInvalidEncryptionKey),
        ("env:DUKOU_TEST_NO_SUCH_VARIABLE", ErrorCode::TrustNoEncryptionKey),
    ] {
        assert_eq!(code(&KeySource::new(Some(source))), expected, "{source}");
    }
    for (text, words) in
        [("", "holds no key"), ("AAAA", "a key of 3 bytes, must be 32"), ("not base64", "line 1")]
    {
        let failure = case.open_with(&KeySource::given(text)).unwrap_err();
        assert_eq!(failure.code, ErrorCode::TrustInvalidEncryptionKey);
        assert!(failure.message.contains(words), "{failure}");
    }
}

#[test]
fn a_wrong_key_is_named_with_the_one_that_is_wanted() {
    let case = Case::copy("encrypted-wrong-key");
    let failure = case.open().unwrap_err();
    assert_eq!(failure.code, ErrorCode::TrustWrongEncryptionKey);
    let wanted = Case::copy("encrypted").open().map(|_| ());
    assert!(wanted.is_ok());
    assert_eq!(failure.message.matches('`').count(), 4, "both ids: {failure}");
}
