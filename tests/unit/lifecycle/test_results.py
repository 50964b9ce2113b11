"""Kept results of stages: in clear without a key, sealed with one, and never taken for whole when they are not."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from dukou.base.errors import DukouError, StateError
from dukou.lifecycle.cache import use_cache
from dukou.lifecycle.encryption import protect, rotate, survey
from dukou.lifecycle.results import FACTS, SEALED, KeptResults, kept_results
from dukou.package.memory import is_in_memory, memory_scope
from dukou.trust.keyring import create_key


@pytest.fixture(autouse=True)
def _no_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)


def leave(home: Path, key: str = "k1", text: str = "planted rows") -> Path:
    results = KeptResults(home)
    work = results.begin("data", key)
    (work / "sub").mkdir()
    (work / "sub" / "train.csv").write_text(text)
    (work / FACTS).write_text("{}")
    return results.keep("data", key, work)


def on_disk(home: Path) -> bytes:
    return b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())


def test_without_a_key_a_result_is_a_folder_of_the_cache(tmp_path: Path) -> None:
    place = leave(tmp_path)
    assert place == tmp_path / "cache" / "stages" / "data" / "k1"
    assert KeptResults(tmp_path).find("data", "k1") == place
    assert KeptResults(tmp_path).find("data", "k2") is None


def test_with_a_key_a_result_is_sealed_and_its_folder_in_memory(tmp_path: Path) -> None:
    create_key(tmp_path)
    with memory_scope():
        place = leave(tmp_path)
        assert is_in_memory(place)
        archive = tmp_path / "cache" / "stages" / "data" / ("k1" + SEALED)
        assert list(kept_results(tmp_path)) == [archive]
        assert archive.stat().st_mode & 0o777 == 0o600
        assert b"planted" not in on_disk(tmp_path)
        assert b"train.csv" not in on_disk(tmp_path)
        again = KeptResults(tmp_path).find("data", "k1")
        assert again is not None
        assert again != place
        assert is_in_memory(again)
        assert (again / "sub" / "train.csv").read_text() == "planted rows"
        leave(tmp_path, text="newer")
        newest = KeptResults(tmp_path).find("data", "k1")
        assert newest is not None
        assert (newest / "sub" / "train.csv").read_text() == "newer"
    assert not place.exists()
    assert not again.exists()


def test_temporary_files_of_a_sealed_run_are_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = tempfile.gettempdir()
    with KeptResults(tmp_path).private_temporaries():
        assert tempfile.gettempdir() == before
    create_key(tmp_path)
    with memory_scope():
        with KeptResults(tmp_path).private_temporaries():
            assert is_in_memory(Path(tempfile.gettempdir()))
            assert os.environ["TMPDIR"] == tempfile.gettempdir()
        assert os.environ["TMPDIR"] == str(tmp_path)
        assert tempfile.gettempdir() == before


def test_a_damaged_archive_is_refused_and_leaves_no_folder(tmp_path: Path) -> None:
    create_key(tmp_path)
    with memory_scope():
        leave(tmp_path)
        archive = next(kept_results(tmp_path))
        content = archive.read_bytes()
        archive.write_bytes(content[:-1])
        results = KeptResults(tmp_path)
        for _ in range(2):
            with pytest.raises(DukouError) as caught:
                results.find("data", "k1")
            assert caught.value.code == "trust.bad-ciphertext"
            assert str(archive) in caught.value.message


def test_what_was_kept_before_there_was_a_key_is_found_and_can_be_sealed(tmp_path: Path) -> None:
    plain = leave(tmp_path)
    copy = tmp_path / "cache" / "champions" / "abc"
    copy.mkdir(parents=True)
    (copy / "graph.onnx").write_text("planted weights")
    key, _ = create_key(tmp_path)
    assert KeptResults(tmp_path).find("data", "k1") == plain
    before = {h.place: h.clear for h in survey(tmp_path)}
    assert (before["results of stages"], before["copies"]) == (1, 1)
    with use_cache(tmp_path), pytest.raises(StateError, match="cache.in-use"):
        protect(tmp_path)
    assert protect(tmp_path) == 1
    assert b"planted" not in on_disk(tmp_path)
    assert not plain.exists()
    with memory_scope():
        place = KeptResults(tmp_path).find("data", "k1")
        assert place is not None
        assert (place / "sub" / "train.csv").read_text() == "planted rows"
        done = rotate(tmp_path)
        assert done.turned == 1
        assert key.id not in {one for h in survey(tmp_path) for one in h.under}
        assert KeptResults(tmp_path).find("data", "k1") is not None
