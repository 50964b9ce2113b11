"""Encrypted versions: nothing of them in clear on the disk, shared where nothing changed, keys that turn."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from tests.artifacts import Place, make_layers, make_model

from dukou.base.errors import DukouError
from dukou.model.model import Model
from dukou.package.contents import Contents
from dukou.package.encryption import (
    find_model_key,
    is_encrypted,
    model_key_id,
    rewrap_model_keys,
    wrapped_keys,
)
from dukou.package.extract import copy_versions
from dukou.package.layout import CARD_FILE
from dukou.package.memory import is_in_memory, make_memory_folder, memory_folder
from dukou.package.package import PackagedVersion, package_model, sign_version
from dukou.package.store import KEY_TAG, REF_NAME
from dukou.package.unpack import open_version, read_card, read_config, verify_version
from dukou.trust.keyring import EncryptionKey, Keyring, create_key

KEY, OTHER = EncryptionKey.generate(), EncryptionKey.generate()
RING = Keyring.of(KEY)


@dataclass
class House(Place):
    """A place that encrypts."""

    def seal(self, model: Model, name: str = "chain", keyring: Keyring = RING) -> PackagedVersion:
        return package_model(model, self.store, name=name, signer=self.key, keyring=keyring)

    def weights(self, version: PackagedVersion) -> list[str]:
        return [
            layer["digest"]
            for layer in version.manifest["layers"]
            if "weight" in layer["mediaType"]
        ]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)
    return House(**vars(Place.make(tmp_path)))


def code_of(action: object) -> str:
    assert callable(action)
    with pytest.raises(DukouError) as caught:
        action()
    return caught.value.code


def test_nothing_of_it_lies_in_clear_and_it_runs_from_memory(place: House, tmp_path: Path) -> None:
    layers = make_layers(16, 32, 8)
    model = make_model(tmp_path / "m", *layers)
    version = place.seal(model)
    planted = [layer.tobytes()[:64] for layer in layers] + [
        b"MatMul",
        b"import onnx",
        b"FP32",
        b"diffIds",
    ]
    for path in place.store.path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [one for one in planted if one in content], path
    assert is_encrypted(version.manifest)
    verified = verify_version(place.store, version.digest, place.trusted, RING)
    assert verified.signed_by == place.key.id
    opened = open_version(place.store, version.digest, place.trusted, keyring=RING)
    assert is_in_memory(opened.graph)
    assert opened.graph.parent.stat().st_mode & 0o777 == 0o700
    assert opened.golden is not None
    session = onnxruntime.InferenceSession(str(opened.graph))
    for inputs, outputs in opened.golden.samples:
        np.testing.assert_allclose(session.run(None, dict(inputs))[0], outputs["y"], rtol=1e-5)
    assert opened.card == model.card
    assert not (place.store.path / "versions").exists()


def test_the_same_model_is_the_same_version_and_another_model_s_chunks_are_its_own(
    place: House, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "m", *make_layers(16, 16))
    first = place.seal(model)
    again = place.seal(model)
    assert again.digest == first.digest
    assert again.new_bytes == 0
    other = place.seal(model, name="another")
    assert not set(place.weights(first)) & set(place.weights(other))
    plain = place.publish(model)
    assert plain.digest != first.digest
    assert {key["model"] for key in wrapped_keys(place.store)} == {"chain", "another"}
    assert {v.digest for v in place.store.versions()} == {first.digest, other.digest, plain.digest}


def test_two_versions_that_differ_in_one_layer_share_the_others(
    place: House, tmp_path: Path
) -> None:
    first = make_layers(64, 8192, 64)
    second = [first[0], first[1] + 1]
    a = place.seal(make_model(tmp_path / "a", *first))
    b = place.seal(make_model(tmp_path / "b", *second))
    shared = set(place.weights(a)) & set(place.weights(b))
    assert len(place.weights(a)) == len(place.weights(b)) == 2
    assert len(shared) == 1
    assert b.new_bytes < 0.6 * a.new_bytes


def test_without_the_right_key_nothing_is_read(place: House, tmp_path: Path) -> None:
    version = place.seal(make_model(tmp_path / "m", *make_layers(16, 16)))
    store, digest = place.store, version.digest
    wrong = Keyring.of(OTHER)
    for action in (
        lambda keyring: verify_version(store, digest, place.trusted, keyring),
        lambda keyring: open_version(store, digest, place.trusted, keyring=keyring),
        lambda keyring: read_config(store, digest, keyring),
        lambda keyring: read_card(store, digest, keyring),
        lambda keyring: sign_version(store, digest, place.key, keyring),
    ):
        assert code_of(lambda action=action: action(None)) == "trust.no-encryption-key"
        assert code_of(lambda action=action: action(wrong)) == "trust.wrong-encryption-key"
    # What needs no key: every digest, and who refers to what.
    assert store.verify_all() == []
    assert store.unneeded() == []
    # A second version of the model cannot be encrypted with a key that cannot be had.
    model = make_model(tmp_path / "n", *make_layers(16, 16, seed=8))
    assert code_of(lambda: place.seal(model, keyring=wrong)) == "trust.wrong-encryption-key"
    assert len(store.versions()) == 1


def test_the_home_s_key_is_taken_where_none_is_given(place: House, tmp_path: Path) -> None:
    key, _ = create_key(place.home)
    version = place.seal(make_model(tmp_path / "m", *make_layers(16, 16)), keyring=Keyring.of(key))
    assert read_config(place.store, version.digest).name == "chain"
    assert read_card(place.store, version.digest)["lineage"]["framework"] == "onnx 1"
    assert verify_version(place.store, version.digest, place.trusted).contents.encrypted


def test_a_copy_of_it_stays_encrypted_and_brings_its_key(place: House, tmp_path: Path) -> None:
    version = place.seal(make_model(tmp_path / "m", *make_layers(4, 3)))
    place.seal(make_model(tmp_path / "other", *make_layers(4, 3, seed=8)), "other")
    copied = copy_versions(place.store, [version.digest], tmp_path / "copy")
    verified = verify_version(copied, version.digest, place.trusted, RING)
    assert verified.config.name == "chain"
    keys = [d for d in copied.index() if (d.annotation(REF_NAME) or "").startswith(KEY_TAG)]
    assert len(keys) == 1
    assert code_of(lambda: verify_version(copied, version.digest, place.trusted, None)) == (
        "trust.no-encryption-key"
    )


def test_a_rotation_changes_no_digest_and_leaves_nothing_for_the_old_key(
    place: House, tmp_path: Path
) -> None:
    versions = [
        place.seal(make_model(tmp_path / str(seed), *make_layers(16, 16, seed=seed)), name=name)
        for seed, name in ((1, "chain"), (2, "chain"), (3, "another"))
    ]
    blobs = {path.name for path in (place.store.path / "blobs" / "sha256").iterdir()}
    both = Keyring.of(OTHER, KEY)
    assert rewrap_model_keys(place.store, both) == 2
    assert rewrap_model_keys(place.store, both) == 0
    new = Keyring.of(OTHER)
    for version in versions:
        assert verify_version(place.store, version.digest, place.trusted, new).signed_by
        assert code_of(lambda version=version: read_config(place.store, version.digest, RING)) == (
            "trust.wrong-encryption-key"
        )
    after = {path.name for path in (place.store.path / "blobs" / "sha256").iterdir()}
    assert len(blobs - after) == len(after - blobs) == 4, "two keys and two manifests were replaced"
    for path in (place.store.path / "blobs" / "sha256").iterdir():
        assert KEY.id.encode() not in path.read_bytes()
    assert place.store.verify_all() == []
    assert place.store.unneeded() == []
    # A version that comes after shares with those from before.
    again = place.seal(make_model(tmp_path / "1", *make_layers(16, 16, seed=1)), keyring=new)
    assert again.digest == versions[0].digest


def test_a_wrapped_key_that_is_gone_is_told(place: House, tmp_path: Path) -> None:
    version = place.seal(make_model(tmp_path / "m", *make_layers(16, 16)))
    path = place.store.path / "index.json"
    index = json.loads(path.read_bytes())
    index["manifests"] = [e for e in index["manifests"] if "dukou-key-" not in json.dumps(e)]
    path.write_text(json.dumps(index))
    with pytest.raises(DukouError) as caught:
        verify_version(place.store, version.digest, place.trusted, RING)
    assert caught.value.code == "package.incomplete"
    assert model_key_id(version.manifest, "v") in caught.value.message


def test_an_encrypted_version_is_never_laid_out_on_a_disk(place: House, tmp_path: Path) -> None:
    version = place.seal(make_model(tmp_path / "m", *make_layers(16, 16)))
    disk = Path(__file__).parent / "never-made"
    assert not is_in_memory(disk)
    for copy in (True, False):
        assert (
            code_of(
                lambda copy=copy: open_version(
                    place.store, version.digest, None, folder=disk, copy=copy, keyring=RING
                )
            )
            == "trust.not-in-memory"
        )
    assert not disk.exists()
    with memory_folder() as folder:
        model = open_version(place.store, version.digest, None, folder=folder / "v", keyring=RING)
        assert model.graph == folder / "v" / "graph.onnx"
    assert not folder.exists()


def test_folders_of_processes_that_are_gone_are_taken_away() -> None:
    left = make_memory_folder()
    dead = left.with_name("dukou-clear-999999999-left")
    dead.mkdir()
    (dead / "weights").write_bytes(b"clear")
    alive = make_memory_folder()
    assert not dead.exists()
    assert left.exists()
    assert alive.exists()


def test_a_model_key_is_not_shown(place: House, tmp_path: Path) -> None:
    version = place.seal(make_model(tmp_path / "m", *make_layers(16, 16)))
    key_id = model_key_id(version.manifest, "v")
    key = find_model_key(place.store, key_id, RING, "v")
    assert key.id == key_id
    assert repr(key) == f"ModelKey(id='{key_id}', model='chain')"
    verified = verify_version(place.store, version.digest, None, RING)
    assert "ModelKey" not in repr(verified)
    assert Contents.of(place.store, version.digest, RING).read("absent") is None
    assert Contents.of(place.store, version.digest, RING).read(CARD_FILE)
