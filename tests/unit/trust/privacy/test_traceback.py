"""A log says where and what, and nothing that somebody sent."""

from __future__ import annotations

import pytest

from dukou.trust.privacy.traceback import describe_privately, hide_values

MAIL = "wang@example.com"
WORDS = f"row of {MAIL}: 'Ann Lee' at 13800138000, id 123456789"


def fail(value: str, words: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise RuntimeError(words) from error


def test_a_traceback_keeps_the_places_and_loses_the_values() -> None:
    with pytest.raises(RuntimeError) as raised:
        fail(MAIL, WORDS)
    text = describe_privately(raised.value)
    assert "ValueError: could not convert string to float: `…`" in text
    assert "RuntimeError: row of <email>: `…` at <phone>, id #" in text
    assert text.index("ValueError") < text.index("which led to") < text.index("RuntimeError: row")
    assert "in fail" in text
    for value in ("wang", "example.com", "Ann", "138", "123456789"):
        assert value not in text


def test_what_is_no_value_stays() -> None:
    assert hide_values("12 rows of 3 columns") == "12 rows of 3 columns"
    assert hide_values("key “王小明” and `x`") == "key `…` and `…`"


def test_an_error_without_a_cause_is_said_alone() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise TypeError("second") from None
    except TypeError as error:
        text = describe_privately(error)
    assert "first" not in text.replace('KeyError("first")', "")
    assert "which led to" not in text
