"""A house of its own for every command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests import serving


@pytest.fixture
def house() -> Iterator[serving.House]:
    with serving.house() as made:
        yield made


@pytest.fixture
def other_house() -> Iterator[serving.House]:
    """A second installation."""
    with serving.house() as made:
        yield made
