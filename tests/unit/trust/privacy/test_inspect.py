"""Columns that look personal, in two languages, by what stands in them too; the others are left alone."""

from __future__ import annotations

import numpy as np
import pytest

from dukou.trust.privacy.inspect import inspect_columns
from dukou.trust.privacy.tags import parse_tag


def column(*values) -> np.ndarray:
    if all(isinstance(value, int | float) for value in values):
        return np.array(values)
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found


@pytest.mark.parametrize(
    ("name", "values", "tag"),
    [
        ("姓名", ["甲", "乙"], "drop"),
        ("customerName", ["a", "b"], "drop"),
        ("手机号", [13800138000, 13800138001], "hash"),
        ("x7", [13800138000, 13912345678], "hash"),
        ("身份证号", ["a", "b"], "hash"),
        ("c1", ["11010519491231002X", "440524188001010014"], "hash"),
        ("Email", ["-", "-"], "hash"),
        ("contact", ["a@example.com", "b@example.com"], "hash"),
        ("出生日期", ["1990-01-01", "1991-01-01"], "generalize:year"),
        ("age", [31, 42], "generalize:10"),
        ("年龄", [31, 42], "generalize:10"),
        ("zip_code", ["100871", "100872"], "generalize:prefix=3"),
        ("家庭住址", ["a", "b"], "drop"),
        ("备注", ["x", "y"], "detect"),
        ("text", ["打 13800138000 找我, 今天下午都在家里", "没有"], "detect"),
        ("客户号", ["1", "2"], "hash"),
        ("sex", [0, 1], "keep"),
        ("card", [4111111111111111, 5500005555555559], "hash"),
    ],
)
def test_personal_columns_are_found(name, values, tag) -> None:
    (found,) = inspect_columns({name: column(*values)})
    assert (found.column, found.tag) == (name, tag)
    assert found.why
    parse_tag(found.tag, name)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("pixel_1", [0.0, 16.0]),
        ("filename", ["a.png", "b.png"]),
        ("stage", [1, 2]),
        ("tellurium", [0.1, 0.2]),
        ("description_length", [10, 20]),
        ("class", ["yes", "no"]),
        ("amount", [1250.5, 99.0]),
        ("shipped", [1, 0]),
        ("empty", [float("nan"), float("nan")]),
    ],
)
def test_others_are_left_alone(name, values) -> None:
    assert inspect_columns({name: column(*values)}) == []


def test_long_texts_that_all_differ_are_free_text() -> None:
    texts = [f"the crossing was rough on day {i} and late" for i in range(40)]
    (found,) = inspect_columns({"t": column(*texts)})
    assert found.tag == "detect"
