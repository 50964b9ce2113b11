from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dukou.base import extensions
from dukou.base.extensions import list_extensions, load_extension
from dukou.formats.table import READERS, list_readers, load_reader

_BUILTIN = {"zip": "zipfile:ZipFile", "counter": "collections:Counter"}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that registers extensions, as pip would have left it."""
    folder = tmp_path / "river_formats-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: river-formats\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text(
        "[dukou.readers]\nriver = river_formats:RiverReader\nonnx = river_formats:RiverReader\n"
        "[test.things]\ncounter = river_formats:RiverReader\nordered = collections:OrderedDict\n"
    )
    (tmp_path / "river_formats.py").write_text("class RiverReader:\n    name = 'river'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    extensions._read_entry_points.cache_clear()
    yield tmp_path
    extensions._read_entry_points.cache_clear()


def test_built_in_first_and_not_to_be_taken(installed: Path) -> None:
    found = list_extensions("test.things", _BUILTIN)
    assert list(found) == ["zip", "counter", "ordered"]
    assert found["counter"] == "collections:Counter"
    assert load_extension("test.things", _BUILTIN, "ordered") == {}


def test_a_registered_reader_is_found(installed: Path) -> None:
    assert list_readers() == (*READERS, "river")
    assert load_reader("river").name == "river"
    assert type(load_reader("onnx")).__name__ == "OnnxReader"
