"""Every registered optimization pass keeps the contract; none is excused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.optimize.table import PASSES, list_passes, load_pass
from dukou.testing import PASS_CHECKS


def test_every_line_of_the_table_is_found() -> None:
    assert set(PASSES) <= set(list_passes())


@pytest.mark.parametrize("check", PASS_CHECKS)
@pytest.mark.parametrize("name", list_passes())
def test_pass(name: str, check: str, tmp_path: Path) -> None:
    step = load_pass(name)
    assert step.name == name
    PASS_CHECKS[check](step, tmp_path)
