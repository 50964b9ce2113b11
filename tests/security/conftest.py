"""A house of its own for every wall that is tried."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests import serving


@pytest.fixture(scope="module")
def house() -> Iterator[serving.House]:
    with serving.house() as made:
        yield made
