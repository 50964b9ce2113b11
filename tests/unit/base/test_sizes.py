"""Sizes of memory, read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dukou.base.errors import InputError
from dukou.base.sizes import parse_size, write_size


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("512k", 512 * 1024),
        ("256m", 256 * 1024**2),
        ("256MB", 256 * 1024**2),
        ("256 MiB", 256 * 1024**2),
        ("1.5g", 3 * 512 * 1024**2),
        ("2G", 2 * 1024**3),
    ],
)
def test_as_people_write_them(text: str, count: int) -> None:
    assert parse_size(text, key="--memory") == count


@pytest.mark.parametrize("text", ["", "m", "0", "0.1", "-1m", "1x", "nan", "1e9", "9" * 30, "٣m m"])
def test_what_is_none(text: str) -> None:
    with pytest.raises(InputError) as refused:
        parse_size(text, key="--memory", code="usage.invalid")
    assert refused.value.code == "usage.invalid"
    assert "`--memory`" in refused.value.message
    assert "256m" in refused.value.hint


@given(st.integers(min_value=1, max_value=1 << 50))
def test_what_is_written_reads_the_same(count: int) -> None:
    assert parse_size(write_size(count), key="x") == count
