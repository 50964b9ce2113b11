"""Whatever byte of a stored version somebody changes, the version is refused."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from pathlib import Path

import pytest
from tests.artifacts import Place, make_layers, make_model

from dukou.base.canonical import dump_canonical
from dukou.base.errors import DukouError, StateError, TrustError
from dukou.package.descriptor import MANIFEST_MEDIA_TYPE, Descriptor
from dukou.package.encryption import find_model_key, model_key_id
from dukou.package.package import package_model, sign_version
from dukou.package.store import Store
from dukou.package.unpack import verify_version
from dukou.trust.keyring import EncryptionKey, Keyring
from dukou.trust.keys import TrustStore, load_or_create_signing_key
from dukou.trust.signature import sign_manifest, verify_bundle

SEED = 20261123
# What a signature's manifest names because the specification wants a config: it says nothing, and
# nothing depends on it. `Store.verify_all` looks at it all the same.
EMPTY = hashlib.sha256(b"{}").hexdigest()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path)


@pytest.fixture
def digest(place: Place, tmp_path: Path) -> str:
    return place.publish(make_model(tmp_path / "m", *make_layers(16, 16))).digest


def meaningful_blobs(store: Store) -> list[Path]:
    blobs = sorted((store.path / "blobs" / "sha256").iterdir())
    assert len(blobs) == 10
    return [path for path in blobs if path.name != EMPTY]


def check_every_flip(place: Place, digest: str, keyring: Keyring | None = None) -> int:
    """Changes every byte of every blob in turn; each time the version must be refused. How many."""
    generator = random.Random(SEED)
    flips = 0
    blobs = sorted((place.store.path / "blobs" / "sha256").iterdir())
    for path in (path for path in blobs if path.name != EMPTY):
        content = path.read_bytes()
        path.chmod(0o644)
        # In place: writing each file anew would have the disk flush it thousands of times.
        with path.open("r+b", buffering=0) as file:
            for at, byte in enumerate(content):
                os.pwrite(file.fileno(), bytes([byte ^ generator.randrange(1, 256)]), at)
                with pytest.raises(TrustError) as caught:
                    verify_version(place.store, digest, place.trusted, keyring)
                assert caught.value.code == "package.digest-mismatch"
                assert path.name in caught.value.message
                flips += 1
                os.pwrite(file.fileno(), bytes([byte]), at)
    return flips


@pytest.mark.timeout(180)
def test_every_flipped_byte_of_every_blob_is_refused(place: Place, digest: str) -> None:
    assert len(meaningful_blobs(place.store)) == 9
    assert check_every_flip(place, digest) > 4000
    assert verify_version(place.store, digest, place.trusted).signed_by == place.key.id
    empty = place.store.blob_path(EMPTY)
    empty.chmod(0o644)
    empty.write_bytes(b"[]")
    assert [error.code for error in place.store.verify_all()] == ["package.digest-mismatch"]


@pytest.mark.timeout(180)
def test_every_flipped_byte_of_an_encrypted_version_is_refused(
    place: Place, tmp_path: Path
) -> None:
    keyring = Keyring.of(EncryptionKey.generate())
    model = make_model(tmp_path / "m", *make_layers(16, 16))
    digest = package_model(
        model, place.store, name="chain", signer=place.key, keyring=keyring
    ).digest
    assert check_every_flip(place, digest, keyring) > 4000
    version = verify_version(place.store, digest, place.trusted, keyring)
    assert version.contents.encrypted
    assert version.signed_by == place.key.id


def test_every_flipped_byte_of_a_ciphertext_is_refused_even_under_a_right_digest(
    place: Place, tmp_path: Path
) -> None:
    """What an intruder would do who can write blobs and sign, and has no key."""
    keyring = Keyring.of(EncryptionKey.generate())
    model = make_model(tmp_path / "m", *make_layers(16, 16))
    digest = package_model(
        model, place.store, name="chain", signer=place.key, keyring=keyring
    ).digest
    manifest = place.store.read_manifest(place.store.find_version(digest))
    key = find_model_key(place.store, model_key_id(manifest, "v"), keyring, "v")
    salt, content = b"s" * 32, b"weights of a model"
    sealed = b"".join(key.seal("application/weights", salt, [content]))
    assert key.open("application/weights", salt, sealed, "it") == content
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1 << (at % 8)
        with pytest.raises(TrustError, match="trust.bad-ciphertext"):
            key.open("application/weights", salt, bytes(changed), "it")
    for media_type, other in (("application/graph", salt), ("application/weights", b"t" * 32)):
        with pytest.raises(TrustError, match="trust.bad-ciphertext"):
            key.open(media_type, other, sealed, "it")
    for cut in (b"", sealed[:15], sealed[:-1], sealed + b"0"):
        with pytest.raises(TrustError, match="trust.bad-ciphertext"):
            key.open("application/weights", salt, cut, "it")


def test_every_cut_of_every_blob_is_refused(place: Place, digest: str) -> None:
    for path in meaningful_blobs(place.store):
        content = path.read_bytes()
        path.chmod(0o644)
        for changed in (b"", content[:-1], content + b"\0", content[: len(content) // 2]):
            path.write_bytes(changed)
            with pytest.raises(TrustError) as caught:
                verify_version(place.store, digest, place.trusted)
            assert caught.value.code == "package.digest-mismatch"
        path.unlink()
        with pytest.raises(StateError) as lost:
            verify_version(place.store, digest, place.trusted)
        assert lost.value.code == "package.incomplete"
        path.write_bytes(content)


def test_a_changed_index_never_leads_to_another_version(place: Place, digest: str) -> None:
    """`index.json` is under no digest: a change is refused in words, or changes nothing."""
    generator = random.Random(SEED)
    path = place.store.path / "index.json"
    content = path.read_bytes()
    refused = 0
    for at in range(len(content)):
        changed = bytearray(content)
        changed[at] ^= generator.randrange(1, 256)
        path.write_bytes(changed)
        try:
            version = verify_version(place.store, digest, place.trusted)
        except DukouError:
            refused += 1
        else:
            assert version.digest == digest
            assert version.signed_by == place.key.id
    assert refused > len(content) // 2


def test_a_changed_bundle_vouches_for_nothing_else(place: Place, digest: str) -> None:
    """The bundle read by itself: every change is refused, or is not part of what was signed."""
    generator = random.Random(SEED)
    manifest = place.store.read_blob(digest)
    bundle = sign_manifest(manifest, place.key, "chain")
    for at in range(len(bundle)):
        changed = bytearray(bundle)
        changed[at] ^= generator.randrange(1, 256)
        try:
            assert verify_bundle(bytes(changed), manifest, place.trusted) == place.key.id
        except TrustError as error:
            assert error.code in ("trust.bad-signature", "trust.unknown-key")
        # And for another manifest it never vouches.
        with pytest.raises(TrustError):
            verify_bundle(bytes(changed), manifest + b" ", place.trusted)


def forge(place: Place, digest: str) -> str:
    """A version with other weights, every digest made right again: what an intruder would do."""
    manifest = place.store.read_manifest(place.store.find_version(digest))
    with place.store.publishing() as publication:
        weights = manifest["layers"][1]
        forged = publication.write_blob(weights["mediaType"], [bytes(weights["size"])])
        manifest["layers"][1] = {**weights, "digest": forged.digest}
        version = publication.write_document(MANIFEST_MEDIA_TYPE, manifest)
        publication.commit(version)
    return version.digest


def code_of(store: Store, digest: str, trusted: TrustStore) -> str:
    with pytest.raises(TrustError) as caught:
        verify_version(store, digest, trusted)
    return caught.value.code


def test_a_forged_version_is_refused_however_it_is_signed(
    place: Place, digest: str, tmp_path: Path
) -> None:
    forged = forge(place, digest)
    assert code_of(place.store, forged, place.trusted) == "trust.unsigned"
    sign_version(place.store, forged, load_or_create_signing_key(tmp_path / "intruder"))
    assert code_of(place.store, forged, place.trusted) == "trust.unknown-key"


def test_the_signature_of_another_version_does_not_count(place: Place, digest: str) -> None:
    forged = forge(place, digest)
    # The genuine signature, listed for the forged version as it is.
    genuine = place.store.referrers(digest)
    with place.store.publishing() as publication:
        publication.commit(place.store.find_version(forged), genuine)
    assert code_of(place.store, forged, place.trusted) == "trust.bad-signature"


def test_the_genuine_bundle_under_a_forged_subject_does_not_count(
    place: Place, digest: str
) -> None:
    forged = forge(place, digest)
    target = place.store.find_version(forged)
    referrer = place.store.referrers(digest)[0]
    document = place.store.read_manifest(referrer)
    document["subject"] = {
        "mediaType": target.media_type, "digest": target.digest, "size": target.size,
    }  # fmt: skip
    with place.store.publishing() as publication:
        moved = publication.write_document(
            MANIFEST_MEDIA_TYPE, document, artifact_type=document["artifactType"]
        )
        publication.commit(target, [moved])
    assert code_of(place.store, forged, place.trusted) == "trust.bad-signature"


@pytest.mark.parametrize(
    "name", ["../../escape.bin", "/etc/dukou", "a/b", "..", ".hidden", "", "graph.onnx", "a\0b"]
)
def test_a_layer_cannot_lead_out_of_the_folder(
    place: Place, digest: str, tmp_path: Path, name: str
) -> None:
    """Even one that a trusted key signed."""
    manifest = place.store.read_manifest(place.store.find_version(digest))
    manifest["layers"][1]["annotations"]["org.cncf.model.filepath"] = name
    with place.store.publishing() as publication:
        version = publication.write_document(MANIFEST_MEDIA_TYPE, manifest)
        publication.commit(version)
    signed = place.key
    bundle = sign_manifest(dump_canonical(manifest), signed, "chain")
    assert verify_bundle(bundle, dump_canonical(manifest), place.trusted) == signed.id
    with pytest.raises(DukouError) as caught:
        verify_version(place.store, version.digest, None)
    assert caught.value.code == "formats.corrupt"


def test_a_digest_cannot_lead_out_of_the_store(place: Place, digest: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    for said in ("sha256:../../../../secret", "../../secret", "sha256:" + "A" * 64, "md5:00", 7):
        descriptor = {"mediaType": MANIFEST_MEDIA_TYPE, "digest": said, "size": 6}
        with pytest.raises(DukouError) as caught:
            Descriptor.from_json(descriptor, "a manifest")
        assert caught.value.code == "formats.corrupt"


def test_a_store_that_was_copied_verifies(place: Place, digest: str, tmp_path: Path) -> None:
    shutil.copytree(place.store.path, tmp_path / "copy")
    copy = Store(tmp_path / "copy")
    assert verify_version(copy, digest, place.trusted).signed_by == place.key.id
