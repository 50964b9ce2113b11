"""Sealed backups: nothing in the clear, nothing without the key, and another key when it is time."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.artifacts import Place, make_layers, make_model

from dukou.base.errors import StateError, TrustError
from dukou.lifecycle.backup import (
    open_backups,
    prove_home,
    restore_backup,
    take_backup,
    verify_backup,
)
from dukou.lifecycle.encryption import rotate
from dukou.package.package import package_model
from dukou.registry.backup.folder import Backups
from dukou.registry.registry import ANYTHING, Registry
from dukou.trust.keyring import create_key, key_path, require_keyring, retired_path


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place.make(tmp_path)
    packaged = made.publish(make_model(tmp_path / "m", *make_layers(4, 3, seed=1)), "chain")
    with Registry.open(made.home) as registry:
        number = registry.register_version("chain", packaged.digest)
        registry.set_alias("chain", "champion", number, expected=ANYTHING)
    create_key(made.home)
    return made


def test_nothing_stands_in_the_clear_and_all_comes_back(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    taken = take_backup(place.home, open_backups(place.home, folder)).snapshot
    content = b"".join(p.read_bytes() for p in folder.rglob("*") if p.is_file())
    for planted in (b"SQLite format 3", b"BEGIN PRIVATE KEY", b"registry.db", b"MatMul"):
        assert planted not in content
    for file in taken.files:
        assert file.sha256.encode() not in content
        assert bytes.fromhex(file.sha256) not in content
    assert taken.sealed
    # The private key travels with it, the encryption key does not.
    names = {file.path for file in taken.files}
    assert "keys/signing.pem" in names
    assert "keys/encryption.key" not in names
    assert take_backup(place.home, open_backups(place.home, folder)).new_bytes < taken.size
    restored = tmp_path / "restored"
    restore_backup(
        open_backups(place.home, folder), taken, restored, replace=False, say=lambda _text: None
    )
    assert prove_home(restored, tmp_path / "scratch")["versions"] == {"chain:1": 1}


def test_without_its_key_it_opens_nowhere(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    taken = take_backup(place.home, open_backups(place.home, folder)).snapshot
    with pytest.raises(TrustError) as no_key:
        Backups(folder).read(taken.id)
    assert no_key.value.code == "backup.sealed"
    other = tmp_path / "other"
    create_key(other)
    with pytest.raises(TrustError) as wrong:
        open_backups(other, folder).read(taken.id)
    assert wrong.value.code == "trust.wrong-encryption-key"
    blob = max((folder / "blobs").iterdir(), key=lambda p: p.stat().st_size)
    whole = blob.read_bytes()
    blob.chmod(0o600)
    backups = open_backups(place.home, folder)
    for position in range(0, len(whole), max(1, len(whole) // 20)):
        damaged = bytearray(whole)
        damaged[position] ^= 4
        blob.write_bytes(damaged)
        with pytest.raises(TrustError):
            backups.restore(taken, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_rotation_turns_the_backups_too(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    taken = take_backup(place.home, open_backups(place.home, folder)).snapshot
    away = tmp_path / "away"
    folder.rename(away)
    with pytest.raises(StateError) as unreachable:
        rotate(place.home)
    assert unreachable.value.code == "trust.rotation-unfinished"
    assert str(folder) in unreachable.value.message
    away.rename(folder)
    old = key_path(place.home).read_text(encoding="ascii")
    rotate(place.home)
    assert key_path(place.home).read_text(encoding="ascii") != old
    backups = open_backups(place.home, folder)
    backups.restore(backups.read(taken.id), tmp_path / "restored")
    again = take_backup(place.home, backups)
    assert again.new_bytes < again.snapshot.size
    shutil.rmtree(tmp_path / "restored")
    backups.restore(again.snapshot, tmp_path / "restored")


def test_encrypted_versions_are_proved_from_memory_also_after_a_rotation(
    place: Place, tmp_path: Path
) -> None:
    """What is wrapped inside a snapshot stays so: the old key is kept for it, and for nothing else."""
    packaged = package_model(
        make_model(tmp_path / "e", *make_layers(4, 3, seed=2)),
        place.store,
        name="secret",
        signer=place.key,
        keyring=require_keyring(place.home),
    )
    with Registry.open(place.home) as registry:
        number = registry.register_version("secret", packaged.digest)
        registry.set_alias("secret", "champion", number, expected=ANYTHING)
    backups = open_backups(place.home, tmp_path / "backups")
    taken = take_backup(place.home, backups).snapshot
    assert "secret:1" in verify_backup(place.home, backups, taken.id).found["versions"]
    old = require_keyring(place.home).current
    done = rotate(place.home)
    assert done.kept == (retired_path(place.home, old.id),)
    assert done.kept[0].stat().st_mode & 0o777 == 0o600
    assert require_keyring(place.home).keys == (done.key,)
    again = open_backups(place.home, tmp_path / "backups")
    assert "secret:1" in verify_backup(place.home, again, taken.id).found["versions"]
    done.kept[0].unlink()
    with pytest.raises(StateError, match="trust.wrong-encryption-key"):
        verify_backup(place.home, again, taken.id)
    newer = take_backup(place.home, again).snapshot
    assert "secret:1" in verify_backup(place.home, again, newer.id).found["versions"]
