"""The laws of tags: nothing of a masked value is left, a hash is stable here and another elsewhere,
a coarser number keeps its place in the order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from dukou.base.errors import InputError
from dukou.trust.privacy.tags import MASKED, apply_tag, keyed_hash, parse_tag

HERE, ELSEWHERE = b"h" * 32, b"e" * 32
NUMBERS = st.one_of(
    arrays.integer_dtypes(endianness="<"),
    arrays.unsigned_integer_dtypes(endianness="<"),
    arrays.floating_dtypes(endianness="<", sizes=(16, 32, 64)),
)
COLUMNS = NUMBERS.flatmap(lambda dtype: arrays.arrays(dtype, st.integers(1, 20)))
WHOLE = st.one_of(
    arrays.integer_dtypes(endianness="<"), arrays.unsigned_integer_dtypes(endianness="<")
).flatmap(lambda dtype: arrays.arrays(dtype, st.integers(1, 20)))
TIMES = arrays.arrays(
    st.sampled_from([np.float64, np.int64]),
    st.integers(1, 20),
    elements=st.integers(0, 4_000_000_000),
)
COARSE = st.sampled_from(
    ["10", "7", "0.5", "0.1", "1000000", "0,18,65", "-5,0,1.5", "prefix=1", "prefix=3"]
)
PERIODS = st.sampled_from(["day", "month", "year"])


def texts(*values: str | None) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def test_the_smallest_numbers_stay_finite() -> None:
    for dtype, value in ((np.float64, -1e308), (np.float16, -65500)):
        coarse = apply_tag(parse_tag("generalize:prefix=1", "x"), np.array([value], dtype), HERE)
        assert coarse.tolist() == [float(np.finfo(dtype).min)]


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.tuples(COARSE, COLUMNS), st.tuples(PERIODS, TIMES)))
def test_generalizing_keeps_shape_type_and_order(case) -> None:
    rest, column = case
    tag = parse_tag(f"generalize:{rest}", "x")
    coarse = apply_tag(tag, column, HERE)
    assert coarse.shape == column.shape
    assert coarse.dtype == column.dtype
    known = ~np.isnan(column.astype(np.float64))
    order = np.argsort(column[known], kind="stable")
    steps = coarse[known][order].astype(object)
    assert all(low <= high for low, high in itertools.pairwise(steps))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(["10", "0,18,65", "prefix=2", "day"]), st.one_of(WHOLE, TIMES))
def test_generalizing_twice_is_generalizing_once(rest, column) -> None:
    tag = parse_tag(f"generalize:{rest}", "x")
    once = apply_tag(tag, column, HERE)
    assert np.array_equal(apply_tag(tag, once, HERE), once, equal_nan=once.dtype.kind == "f")


@settings(max_examples=200, deadline=None)
@given(COLUMNS)
def test_a_hash_is_stable_here_and_another_elsewhere(column) -> None:
    tag = parse_tag("hash", "x")
    one, again, other = (apply_tag(tag, column, key) for key in (HERE, HERE, ELSEWHERE))
    assert np.array_equal(one, again, equal_nan=one.dtype.kind == "f")
    assert one.dtype == column.dtype
    for value in set(column[column == column].tolist()):
        assert len(set(one[column == value].tolist())) == 1
    if column.dtype.itemsize == 8 and (column == column).all():
        assert not np.array_equal(one, other)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=8))
def test_hashed_texts_say_nothing_and_still_join(values) -> None:
    hashed = apply_tag(parse_tag("hash", "x"), texts(*values), HERE).tolist()
    assert all(len(text) == 32 for text in hashed)
    assert len(set(hashed)) == len(set(values))
    assert hashed == [keyed_hash(HERE, value) for value in values]


@given(st.lists(st.text(min_size=4), min_size=1, max_size=8), st.sampled_from(["mask", "drop"]))
def test_masked_texts_hold_nothing_of_what_they_were(values, word) -> None:
    masked = apply_tag(parse_tag(word, "x"), texts(*values), HERE).tolist()
    assert masked == [MASKED] * len(values)


def test_numbers_that_are_masked_are_missing() -> None:
    mask = parse_tag("mask", "x")
    assert np.isnan(apply_tag(mask, np.array([[1.5, 2.5]], np.float32), HERE)).all()
    assert apply_tag(mask, np.array([7, 8], np.int64), HERE).tolist() == [0, 0]
    assert apply_tag(mask, np.array([True]), HERE).tolist() == [False]


@pytest.mark.parametrize(
    ("tag", "before", "after"),
    [
        ("keep", ["13800138000"], ["13800138000"]),
        ("detect", ["打 13800138000", None, ""], ["打 <phone>", None, ""]),
        ("generalize:prefix=3", ["100871", "ab"], ["100", "ab"]),
        ("generalize:day", ["2026-11-24T10:00:00+08:00", "soon"], ["2026-11-24", MASKED]),
        ("generalize:month", ["2026-11-24"], ["2026-11"]),
        ("generalize:10", ["38", "-1", "old"], ["30", "-10", MASKED]),
        ("generalize:0,18,65", ["17.5", "70", "-3"], ["0", "65", "0"]),
    ],
)
def test_texts(tag, before, after) -> None:
    assert apply_tag(parse_tag(tag, "x"), texts(*before), HERE).tolist() == after


@pytest.mark.parametrize(
    ("tag", "before", "after"),
    [
        ("generalize:10", [38.0, -1.0, float("nan")], [30.0, -10.0, float("nan")]),
        ("generalize:0,18,65", [-3.0, 17.0, 18.0, 99.0], [0.0, 0.0, 18.0, 65.0]),
        ("generalize:prefix=3", [90210.0, 12.0], [90200.0, 12.0]),
        (
            "generalize:day",
            [86_400.0 * 3 + 5, 86_400_000.0 * 20_000 + 7],
            [86_400.0 * 3, 86_400_000.0 * 20_000],
        ),
    ],
)
def test_numbers(tag, before, after) -> None:
    coarse = apply_tag(parse_tag(tag, "x"), np.array(before), HERE)
    assert np.array_equal(coarse, np.array(after), equal_nan=True)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("hsah", "must be keep, detect", "did you mean `hash`?"),
        ("keep:1", "must be", "did you mean `keep`?"),
        ("generalize", "needs a step", "for example"),
        ("generalize:0", "needs a step", "for example"),
        ("generalize:nan", "needs a step", "for example"),
        ("generalize:5,1", "edges that rise", "for example"),
        ("generalize:prefix=0", "`prefix=N`", "for example"),
        ("", "must be", ""),
    ],
)
def test_a_tag_that_there_is_not_is_refused(text, words, hint) -> None:
    with pytest.raises(InputError) as refused:
        parse_tag(text, "age")
    assert refused.value.code == "privacy.invalid"
    assert "privacy.fields.age" in refused.value.message
    assert words in refused.value.message
    assert hint in (refused.value.hint or "")
