"""Some versions of a store as a store of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.artifacts import Place, make_layers, make_model

from dukou.base.errors import StateError, TrustError
from dukou.package.extract import copy_versions
from dukou.package.unpack import verify_version


def files(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_version_comes_with_its_signature_and_nothing_else(tmp_path: Path) -> None:
    place = Place.make(tmp_path)
    one, two = (
        place.publish(make_model(tmp_path / f"m{seed}", *make_layers(4, 3, seed=seed)), "chain")
        for seed in (1, 2)
    )
    copied = copy_versions(place.store, [one.digest], tmp_path / "copy")
    verify_version(copied, one.digest, place.trusted)
    assert [version.digest for version in copied.versions()] == [one.digest]
    assert not copied.has_blob(two.digest)
    assert not copied.unneeded()
    with pytest.raises(StateError):
        copied.find_version(two.digest)


def test_the_same_versions_give_the_same_bytes(tmp_path: Path) -> None:
    place = Place.make(tmp_path)
    digests = [
        place.publish(
            make_model(tmp_path / f"m{seed}", *make_layers(4, 3, seed=seed)), "chain"
        ).digest
        for seed in (1, 2)
    ]
    copy_versions(place.store, digests, tmp_path / "a")
    copy_versions(place.store, [*reversed(digests), digests[0]], tmp_path / "b")
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_damaged_blob_is_not_copied(tmp_path: Path) -> None:
    place = Place.make(tmp_path)
    version = place.publish(make_model(tmp_path / "m", *make_layers(4, 3)), "chain")
    manifest = place.store.read_manifest(place.store.find_version(version.digest))
    blob = place.store.blob_path(manifest["layers"][0]["digest"])
    content = bytearray(blob.read_bytes())
    content[0] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    with pytest.raises(TrustError) as refused:
        copy_versions(place.store, [version.digest], tmp_path / "copy")
    assert refused.value.code == "package.digest-mismatch"


def test_a_version_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StateError) as refused:
        copy_versions(Place.make(tmp_path).store, ["sha256:" + "0" * 64], tmp_path / "copy")
    assert refused.value.code == "package.incomplete"
    assert not (tmp_path / "copy").exists()
