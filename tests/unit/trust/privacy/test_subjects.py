"""A person's key seals, and is gone for good when it is destroyed."""

from __future__ import annotations

import sqlite3
import stat

import pytest

from dukou.base.errors import TrustError
from dukou.trust.keyring import (
    EncryptionKey,
    Keyring,
    create_key,
    own_file,
    require_keyring,
    write_key_file,
)
from dukou.trust.privacy.subjects import SubjectKeys


def test_what_is_sealed_opens_with_its_key_for_its_place_alone(tmp_path) -> None:
    keys = SubjectKeys(tmp_path)
    one, two = keys.make(["a", "b"]).values()
    sealed = one.seal("王小明".encode(), "r\0input\0x")
    assert "王小明".encode() not in sealed
    assert keys.get(["a"])["a"].open(sealed, "r\0input\0x") == "王小明".encode()
    assert one.seal(b"x", "p") != one.seal(b"x", "p")
    flipped = bytearray(sealed)
    flipped[-1] ^= 1
    for key, content, place in (
        (two, sealed, "r\0input\0x"),
        (one, sealed, "r\0input\0y"),
        (one, bytes(flipped), "r\0input\0x"),
        (one, b"", "r\0input\0x"),
    ):
        with pytest.raises(TrustError) as refused:
            key.open(content, place)
        assert refused.value.code == "privacy.damaged"


def test_a_destroyed_key_stands_in_no_file(tmp_path) -> None:
    keys = SubjectKeys(tmp_path)
    keys.make([f"person-{i}" for i in range(1200)])
    path = tmp_path / "keys" / "subjects.db"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with sqlite3.connect(path) as database:
        (secret,) = database.execute(
            "SELECT key FROM subjects WHERE pseudonym = 'person-700'"
        ).fetchone()
    assert secret in path.read_bytes()
    assert keys.destroy(["person-700"]) == 1
    for file in path.parent.iterdir():
        assert secret not in file.read_bytes(), file
    assert keys.get(["person-700"]) == {}
    assert len(keys.get([f"person-{i}" for i in range(1200)])) == 1199
    erased = keys.erased(["person-700", "person-1"])
    assert erased
    assert keys.destroy(["person-700"]) == 0
    assert keys.erased(["person-700"]) == erased


def test_whoever_comes_again_gets_another_key(tmp_path) -> None:
    keys = SubjectKeys(tmp_path)
    sealed = keys.make(["a"])["a"].seal(b"x", "p")
    keys.destroy(["a"])
    again = keys.make(["a"])["a"]
    assert again.erased
    assert not again.has_sealed(sealed)
    with pytest.raises(TrustError):
        again.open(sealed, "p")
    assert keys.make(["a"])["a"].open(again.seal(b"y", "p"), "p") == b"y"


def test_nobody_has_a_key_where_nothing_was_made(tmp_path) -> None:
    keys = SubjectKeys(tmp_path)
    assert keys.get(["a"]) == keys.make([]) == {}
    assert keys.destroy(["a"]) == 0
    assert keys.erased(["a"]) == ""
    assert not (tmp_path / "keys").exists()


def test_keys_are_wrapped_where_an_encryption_key_is_configured(tmp_path) -> None:
    keys = SubjectKeys(tmp_path)
    sealed = keys.make(["plain"])["plain"].seal(b"x", "p")
    assert keys.under() == {"": 1}
    create_key(tmp_path)
    first = require_keyring(tmp_path)
    later = keys.make(["wrapped"])["wrapped"].seal(b"y", "p")
    assert keys.under() == {"": 1, first.current.id: 1}
    assert keys.protect(first) == 1
    assert keys.under() == {first.current.id: 2}
    assert keys.get(["plain"])["plain"].open(sealed, "p") == b"x"
    second = Keyring.of(EncryptionKey.generate(), *first.keys)
    assert keys.protect(second) == 2
    assert keys.under() == {second.current.id: 2}
    with pytest.raises(TrustError):
        keys.get(["wrapped"])
    write_key_file(own_file(tmp_path), second, replace=True)
    assert keys.get(["wrapped"])["wrapped"].open(later, "p") == b"y"
    assert keys.destroy(["plain"]) == 1
    assert keys.under() == {second.current.id: 1}
