"""Every registered target format keeps the contract; none is excused."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.frameworks import require

from dukou.formats.table import WRITERS, list_writers, load_writer
from dukou.testing import WRITER_CHECKS


def test_every_line_of_the_table_is_found() -> None:
    assert set(WRITERS) <= set(list_writers())


@pytest.mark.parametrize("check", WRITER_CHECKS)
@pytest.mark.parametrize("name", list_writers())
def test_writer(name: str, check: str, tmp_path: Path) -> None:
    writer = load_writer(name)
    assert writer.name == name
    require(*writer.needs)
    WRITER_CHECKS[check](writer, tmp_path)
