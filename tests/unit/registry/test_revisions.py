"""One number for one content, a larger one for a later content, whoever asks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dukou.registry.registry import Registry

_COUNT = itertools.count()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DUKOU_REGISTRY", raising=False)
    return tmp_path


@pytest.fixture
def registry(home: Path) -> Iterator[Registry]:
    with Registry.open(home) as opened:
        yield opened


def number(registry: Registry, content: str, *, above: int = 0, subject: str = "s") -> int | None:
    return registry.revisions.number(subject, content, above=above, is_current=lambda: True)


def test_who_asks_for_the_same_gets_the_same(registry: Registry, home: Path) -> None:
    assert number(registry, "a") == 1
    with Registry.open(home) as other:
        assert number(other, "a") == 1
        assert number(other, "b") == 2
    assert number(registry, "b") == 2
    # What comes back is later than what stood between.
    assert number(registry, "a") == 3


def test_a_number_is_no_smaller_than_the_end_of_the_audit_chain(registry: Registry) -> None:
    for _ in range(5):
        registry.add_event("something", "x", {})
    assert number(registry, "a") == 5
    assert number(registry, "a", subject="another") == 5
    assert number(registry, "b") == 6
    assert registry.change_token() == 5  # a number is no change


def test_what_is_served_already_is_never_gone_below(registry: Registry) -> None:
    assert number(registry, "a") == 1
    # As after the restore of an older registry.
    assert number(registry, "a", above=41) == 42
    assert number(registry, "a", above=42) == 42
    assert number(registry, "b", above=7) == 43


def test_content_that_is_out_of_date_gets_no_number(registry: Registry) -> None:
    assert number(registry, "new") == 1
    assert registry.revisions.number("s", "old", above=0, is_current=lambda: False) is None
    assert registry.revisions.find("s") == (1, "new")
    # What has its number already is right, however late it is asked for.
    assert registry.revisions.number("s", "new", above=0, is_current=lambda: False) == 1


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=12))
def test_numbers_grow_exactly_where_the_content_changes(
    registry: Registry, steps: list[tuple[str, int]]
) -> None:
    said, before, subject = "", 0, f"subject {next(_COUNT)}"
    for content, events in steps:
        for _ in range(events % 3):
            registry.add_event("something", "x", {})
        got = number(registry, content, above=before, subject=subject)
        assert got is not None
        assert got > before if content != said else got == before
        said, before = content, got
