"""Every registered source format keeps the contract; none is excused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.frameworks import require

from dukou.formats.table import READERS, list_readers, load_reader
from dukou.testing import READER_CHECKS


def test_every_line_of_the_table_is_found() -> None:
    assert set(READERS) <= set(list_readers())


# Every conversion is a process of its own, which imports its framework: seconds, beside other tests.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", READER_CHECKS)
@pytest.mark.parametrize("name", list_readers())
def test_reader(name: str, check: str, tmp_path: Path) -> None:
    reader = load_reader(name)
    require(*getattr(reader, "needs", ()))
    assert reader.name == name
    READER_CHECKS[check](reader, tmp_path)
