use super::*;

struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::Error::other("the wire was cut"));
        }
        self.0.read(into)
    }
}

fn store() -> (tempfile::TempDir, BlobStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = BlobStore::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn blob(bytes: &[u8]) -> Descriptor {
    Descriptor::entry("application/octet-stream", named(bytes).unwrap(), bytes.len() as u64)
}

fn keep(store: &BlobStore, bytes: &[u8]) -> Descriptor {
    let blob = blob(bytes);
    store.keep(&blob.digest, bytes).unwrap();
    blob
}

#[test]
fn what_broke_off_goes_on_behind_it() {
    let (_folder, store) = store();
    let bytes: Vec<u8> = (0..900_000_u32).map(|n| (n % 251) as u8).collect();
    let blob = blob(&bytes);
    let mut moved = 0;
    let failure =
        store.receive(&blob, 0, &mut Broken(&bytes[..400_000]), |n| moved += n).unwrap_err();
    assert_eq!(failure.code, ErrorCode::RemoteUnreachable);
    assert_eq!((store.come(&blob), moved), (400_000, 400_000));
    assert!(!store.holds(&blob));
    // Another start of the agent: only the rest is asked for.
    store.receive(&blob, 400_000, &mut &bytes[400_000..], |n| moved += n).unwrap();
    assert_eq!((store.come(&blob), moved), (0, 900_000));
    assert!(store.holds(&blob));
}

#[test]
fn other_bytes_are_not_kept() {
    let (_folder, store) = store();
    let blob = blob(b"what should come");
    for wrong in [&b"what should c0me"[..], b"what should come and more"] {
        let failure = store.receive(&blob, 0, &mut &*wrong, |_| ()).unwrap_err();
        assert_eq!(failure.code, ErrorCode::PackageDigestMismatch);
        assert_eq!(store.come(&blob), 0);
    }
    let failure = store.receive(&blob, 0, &mut &b"what"[..], |_| ()).unwrap_err();
    assert_eq!(failure.code, ErrorCode::RemoteUnreachable);
    assert_eq!(store.come(&blob), 4);
    assert!(store.keep(&blob.digest, b"other").is_err());
}

#[test]
fn a_damaged_blob_does_not_count_as_there() {
    let (folder, store) = store();
    let blob = keep(&store, b"weights");
    assert!(store.holds(&blob));
    let path = folder.path().join("store/blobs/sha256").join(blob.digest.hex());
    fs::write(path, b"wEights").unwrap();
    assert!(!store.holds(&blob));
    assert!(store.read(&blob.digest).is_err());
}

fn version(store: &BlobStore, weights: &[u8]) -> (Digest, Beside) {
    let (config, layer) = (keep(store, b"{}"), keep(store, weights));
    let manifest = json!({"artifactType": VERSION_TYPE, "config": config, "layers": [layer]});
    let version = keep(store, manifest.to_string().as_bytes());
    let bundle = keep(store, b"a bundle");
    let referrer = json!({"artifactType": BUNDLE_TYPE, "config": config, "layers": [bundle],
                          "subject": version});
    let referrer = keep(store, referrer.to_string().as_bytes());
    (version.digest, Beside { signatures: vec![referrer.of_type(BUNDLE_TYPE)], key: None })
}

#[test]
fn what_no_slot_names_goes_and_the_rest_stays() {
    let (_folder, store) = store();
    let (one, two) = (version(&store, b"one"), version(&store, b"two"));
    let other = keep(&store, b"nobody's");
    store.list(&[one.clone(), two.clone()]).unwrap();
    assert_eq!(store.beside(&one.0).unwrap(), one.1);
    let half = blob(&[7; 100]);
    assert!(store.receive(&half, 0, &mut &[7_u8; 50][..], |_| ()).is_err());
    let before = store.size();
    let freed = store.collect(&[one.clone(), two.clone()]).unwrap();
    assert_eq!(freed, other.size + 50);
    assert_eq!(store.size(), before - freed);
    store.collect(std::slice::from_ref(&one)).unwrap();
    assert!(store.read(&one.0).is_ok());
    assert!(store.read(&two.0).is_err());
    assert!(store.holds(&blob(b"one")) && !store.holds(&blob(b"two")));
    // Where a manifest cannot be read nothing is taken.
    assert!(store.collect(std::slice::from_ref(&two)).is_err());
    assert!(store.read(&one.0).is_ok());
    store.list(std::slice::from_ref(&one)).unwrap();
    assert_eq!(store.beside(&one.0).unwrap(), one.1);
}
