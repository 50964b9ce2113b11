"""Every registered source format keeps the contract; none is excused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.formats.table import READERS, list_readers, load_reader
from dukou.testing import READER_CHECKS


def test_every_line_of_the_table_is_found() -> None:
    assert set(READERS) <= set(list_readers())


@pytest.mark.parametrize("check", READER_CHECKS)
@pytest.mark.parametrize("name", list_readers())
def test_reader(name: str, check: str, tmp_path: Path) -> None:
    reader = load_reader(name)
    assert reader.name == name
    READER_CHECKS[check](reader, tmp_path)
