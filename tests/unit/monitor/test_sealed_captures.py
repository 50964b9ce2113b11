"""With a key no captured row and no label lies on the disk in clear; without it none can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.unit.monitor.test_store import tapped

from dukou.base.errors import TrustError
from dukou.monitor.store import CaptureStore
from dukou.trust.envelope import is_sealed
from dukou.trust.keyring import EncryptionKey, Keyring, create_key, require_keyring, write_key_file

PLANTED = np.full(2, 1, np.float32).tobytes()


@pytest.fixture(autouse=True)
def _no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)


def files(home: Path) -> list[Path]:
    return [p for p in (home / "monitor").rglob("*") if p.is_file() and p.name != ".lock"]


def test_what_is_written_with_a_key_is_sealed_and_read_back(tmp_path: Path) -> None:
    create_key(tmp_path)
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 5))
    store.add_labels({f"{0:016x}:0": "planted-label", f"{1:016x}:0": "1"})
    parts = files(tmp_path)
    assert len(parts) == 2
    for part in parts:
        content = part.read_bytes()
        assert is_sealed(content)
        for planted in (b"PAR1", b"planted-label", b"request_id", f"{0:016x}".encode(), PLANTED):
            assert planted not in content
    assert store.read().rows == 5
    assert store.count_labels() == 2
    assert store.labels()[f"{0:016x}:0"] == "planted-label"
    assert store.read_labelled(newest_rows=9).truth.tolist() == ["planted-label", "1"]


def test_parts_from_before_the_key_are_read_beside_sealed_ones_and_can_be_sealed(
    tmp_path: Path,
) -> None:
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 3))
    store.add_labels({"a": "1"})
    create_key(tmp_path)
    store.append(tapped(3, 3))
    store.add_labels({"b": "2"})
    before = store.read().keys
    assert len(before) == 6
    assert store.labels() == {"a": "1", "b": "2"}
    assert store.protect(require_keyring(tmp_path)) == 2
    assert store.protect(require_keyring(tmp_path)) == 0
    assert all(is_sealed(part.read_bytes()) for part in files(tmp_path))
    assert store.read().keys == before


def test_putting_parts_together_seals_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dukou.monitor.store._PARTS", 3)
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 1))
    create_key(tmp_path)
    for number in range(1, 9):
        store.append(tapped(number, 1))
    assert all(is_sealed(part.read_bytes()) for part in files(tmp_path))
    assert store.read().rows == 9


def test_without_the_key_nothing_is_read_and_nothing_is_written_in_clear(tmp_path: Path) -> None:
    _, path = create_key(tmp_path)
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 2))
    aside = path.rename(tmp_path / "aside")
    for action in (
        store.read,
        lambda: store.append(tapped(2, 1)),
        lambda: store.add_labels({"a": "1"}),
    ):
        with pytest.raises(TrustError) as caught:
            action()
        assert caught.value.code == "trust.no-encryption-key"
    assert len(files(tmp_path)) == 1
    write_key_file(path, Keyring.of(EncryptionKey.generate()), replace=False)
    with pytest.raises(TrustError) as wrong:
        store.read()
    assert wrong.value.code == "trust.wrong-encryption-key"
    aside.replace(path)
    assert store.read().rows == 2


def test_a_part_of_another_model_or_kind_does_not_open(tmp_path: Path) -> None:
    create_key(tmp_path)
    first, second = CaptureStore(tmp_path, "m"), CaptureStore(tmp_path, "n")
    first.append(tapped(0, 2))
    second.append(tapped(0, 1))
    stolen, place = first.parts()[0], second.parts()[0]
    place.write_bytes(stolen.read_bytes())
    with pytest.raises(TrustError) as caught:
        second.read()
    assert caught.value.code == "trust.bad-ciphertext"
    assert str(place) in caught.value.message


def test_every_flipped_byte_of_a_sealed_part_is_refused(tmp_path: Path) -> None:
    create_key(tmp_path)
    store = CaptureStore(tmp_path, "m")
    store.add_labels({"a": "1"})
    part = store.parts()[0]
    content = part.read_bytes()
    for at in range(8, len(content), 7):
        part.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(TrustError):
            store.labels()
