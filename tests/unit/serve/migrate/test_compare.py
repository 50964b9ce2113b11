"""When two answers say the same, and what is said where they do not."""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dukou.serve.migrate.compare import Tolerance
from dukou.serve.migrate.http.answer import Answer, compare

TOLERANCE = Tolerance(1e-4, 1e-5)


def _json(document: Any, status: int = 200) -> Answer:
    return Answer(status, {}, json.dumps(document).encode())


def _binary(name: str, datatype: str, shape: list[int], raw: bytes) -> Answer:
    head = json.dumps(
        {
            "model_name": "m",
            "outputs": [
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": shape,
                    "parameters": {"binary_data_size": len(raw)},
                }
            ],
        }
    ).encode()
    return Answer(200, {"inference-header-content-length": str(len(head))}, head + raw)


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ({"predictions": [1.0, 2]}, {"predictions": [1.00005, 2.0]}, None),
        ({"predictions": [1.0]}, {"predictions": [1.1]}, "`predictions[0]` is 1.0, and 1.1 here"),
        ({"predictions": [[1], [2]]}, {"predictions": [[1]]}, "`predictions` has 2 elements"),
        ({"predictions": ["a"]}, {"predictions": ["b"]}, '`predictions[0]` is "a", and "b" here'),
        ({"predictions": [{"a": 1}]}, {"predictions": [{"b": 1}]}, "only one of the two has `a`,"),
        ({"outputs": 3}, {"outputs": [3]}, "`outputs` is 3, and [3] here"),
        ({"p": [True]}, {"p": [1]}, "`p[0]` is true, and 1 here"),
        ({"p": [float("nan"), 1e400]}, {"p": [float("nan"), 1e400]}, None),
        ({"p": [1e400]}, {"p": [-1e400]}, "`p[0]` is inf, and -inf here"),
        ([1, 2], [1, 2], None),
        ({"a": 1, "model_version": "1"}, {"a": 1, "model_version": "7"}, None),
    ],
)
def test_json(old: Any, new: Any, difference: str | None) -> None:
    found = compare(_json(old), _json(new), TOLERANCE)
    assert (found is None) is (difference is None), found
    assert difference is None or difference in str(found)


def test_a_status_is_compared_and_an_errors_words_are_not() -> None:
    assert (
        compare(_json({"error": "x"}, 404), _json({"error": "y", "code": "z"}, 404), TOLERANCE)
        is None
    )
    found = compare(_json({}), _json({}, 500), TOLERANCE)
    assert found == "the status is 200, and 500 here"


def test_v2_by_names_flat_or_nested_binary_or_not() -> None:
    flat = {"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
    other = {"name": "z", "datatype": "BYTES", "shape": [1], "data": ["渡"]}
    nested = {**flat, "data": [[1, 2], [3, 4]]}
    old = {"id": "1", "model_name": "m", "outputs": [flat, other]}
    new = {
        "model_name": "n",
        "model_version": "3",
        "outputs": [other, {**nested, "parameters": None}],
    }
    assert compare(_json(old), _json(new), TOLERANCE) is None
    raw = struct.pack("<4f", 1, 2, 3, 4)
    binary = _binary("y", "FP32", [2, 2], raw)
    assert compare(binary, _json({"outputs": [nested]}), TOLERANCE) is None
    wrong = _binary("y", "FP32", [2, 2], struct.pack("<4f", 1, 2, 3, 5))
    assert compare(binary, wrong, TOLERANCE) == "`outputs.y.data[3]` is 4.0, and 5.0 here"
    shaped = _binary("y", "FP32", [4], raw)
    assert "`outputs.y.shape` has 2 elements" in str(compare(binary, shaped, TOLERANCE))
    text = "渡".encode()
    raw = struct.pack("<I", len(text)) + text
    assert compare(_binary("z", "BYTES", [1], raw), _json({"outputs": [other]}), TOLERANCE) is None
    half = _binary("y", "BF16", [2], struct.pack("<2H", 0x3F80, 0xC000))
    said = {"outputs": [{"name": "y", "datatype": "BF16", "shape": [2], "data": [1, -2]}]}
    assert compare(half, _json(said), TOLERANCE) is None


def test_what_is_no_json_is_compared_by_its_bytes() -> None:
    assert compare(Answer(200, {}, b"\xff\x00"), Answer(200, {}, b"\xff\x00"), TOLERANCE) is None
    found = compare(Answer(200, {}, b"\xff\x00"), _json({}), TOLERANCE)
    assert "cannot be read" in str(found)


@settings(max_examples=50)
@given(
    st.lists(st.floats(width=32), min_size=1, max_size=6), st.floats(width=32), st.integers(0, 255)
)
def test_many_numbers_are_judged_as_one_by_one(some: list[float], other: float, index: int) -> None:
    """The fast way and the plain one have the same word, whatever the numbers are."""
    numbers = (some * 256)[:256]
    changed = [*numbers[:index], other, *numbers[index + 1 :]]
    found = compare(_json({"p": numbers}), _json({"p": changed}), TOLERANCE)
    assert (found is None) is TOLERANCE.holds(numbers[index], other), found
