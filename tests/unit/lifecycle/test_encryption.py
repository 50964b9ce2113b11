"""What is sealed is counted right; a rotation leaves nothing that the old key opens."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.monitor.test_store import tapped

from dukou.base.errors import DukouError
from dukou.lifecycle.doctor_home import check_encryption
from dukou.lifecycle.encryption import protect, rotate, survey
from dukou.monitor.store import CaptureStore
from dukou.trust.keyring import (
    EncryptionKey,
    Keyring,
    create_key,
    key_path,
    require_keyring,
    write_key_file,
)


@pytest.fixture(autouse=True)
def _no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)


def counts(home: Path, place: str = "captures and labels") -> tuple[int, int]:
    holding = next(h for h in survey(home) if h.place == place)
    return holding.sealed, holding.clear


def test_what_was_in_clear_is_counted_and_sealed(tmp_path: Path) -> None:
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 3))
    store.add_labels({"a": "1"})
    assert counts(tmp_path) == (0, 2)
    with pytest.raises(DukouError) as caught:
        protect(tmp_path)
    assert caught.value.code == "trust.no-encryption-key"
    create_key(tmp_path)
    assert protect(tmp_path) == 2
    assert counts(tmp_path) == (2, 0)
    assert protect(tmp_path) == 0


def test_after_a_rotation_the_old_key_opens_nothing(tmp_path: Path) -> None:
    old, path = create_key(tmp_path)
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 3))
    store.add_labels({"a": "1"})
    done = rotate(tmp_path)
    assert (done.retired, done.turned, done.taken_away) == ((old.id,), 2, True)
    assert require_keyring(tmp_path).keys == (done.key,)
    assert {key for h in survey(tmp_path) for key in h.under} == {done.key.id}
    assert store.read().rows == 3
    assert (path.parent / "encryption.id").read_text().strip() == done.key.id
    write_key_file(path, Keyring.of(old), replace=True)
    with pytest.raises(DukouError) as caught:
        store.read()
    assert caught.value.code == "trust.wrong-encryption-key"


def test_a_rotation_that_was_cut_short_is_finished_with_the_same_key(tmp_path: Path) -> None:
    old, path = create_key(tmp_path)
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 3))
    new = EncryptionKey.generate()
    write_key_file(path, Keyring.of(new, old), replace=True)
    store.append(tapped(3, 1))  # between: the new key seals, both open
    assert store.read().rows == 4
    done = rotate(tmp_path)
    assert done.key == new
    assert done.turned == 1
    assert require_keyring(tmp_path).keys == (new,)
    assert store.read().rows == 4


def test_a_key_from_elsewhere_is_turned_by_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = EncryptionKey.generate(), EncryptionKey.generate()
    monkeypatch.setenv("DUKOU_ENCRYPTION_KEY", "env:KEK")
    monkeypatch.setenv("KEK", old.text())
    store = CaptureStore(tmp_path, "m")
    store.append(tapped(0, 3))
    with pytest.raises(DukouError) as caught:
        rotate(tmp_path)
    assert caught.value.code == "trust.key-elsewhere"
    monkeypatch.setenv("KEK", f"{new.text()}\n{old.text()}")
    done = rotate(tmp_path)
    assert (done.key, done.retired, done.taken_away) == (new, (old.id,), False)
    monkeypatch.setenv("KEK", new.text())
    assert store.read().rows == 3
    assert not key_path(tmp_path).exists()


def test_what_goes_on_being_written_under_the_old_key_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, path = create_key(tmp_path)
    CaptureStore(tmp_path, "m").append(tapped(0, 1))
    monkeypatch.setattr("dukou.lifecycle.encryption._protect", lambda _home, _keyring: 0)
    with pytest.raises(DukouError) as caught:
        rotate(tmp_path)
    assert caught.value.code == "trust.rotation-unfinished"
    assert old.id in caught.value.message
    assert len(require_keyring(tmp_path).keys) == 2, "both keys stay"
    assert path.exists()


def test_the_doctor_says_how_the_key_is_and_what_it_does_not_open(tmp_path: Path) -> None:
    CaptureStore(tmp_path, "m").append(tapped(0, 1))
    assert [f.level for f in check_encryption(tmp_path)] == ["ok"]
    old, path = create_key(tmp_path)
    CaptureStore(tmp_path, "m").append(tapped(1, 1))
    [found] = check_encryption(tmp_path)
    assert (found.level, found.code) == ("ok", None)
    assert f"`{old.id}`: 1 things are sealed, 1 lie here in clear" in found.says
    new = EncryptionKey.generate()
    write_key_file(path, Keyring.of(new, old), replace=True)
    assert [f.level for f in check_encryption(tmp_path)] == ["ok", "warning"]
    write_key_file(path, Keyring.of(new), replace=True)
    problem = list(check_encryption(tmp_path))[-1]
    assert (problem.level, problem.code) == ("problem", "trust.wrong-encryption-key")
    assert old.id in problem.says
    path.chmod(0o644)
    with pytest.raises(DukouError, match="trust.key-readable"):
        list(check_encryption(tmp_path))
