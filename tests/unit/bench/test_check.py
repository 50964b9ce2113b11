"""A server that errs is not timed: what counts as the same answer."""

from __future__ import annotations

from typing import Any

import pytest
from bench.check import difference_at

WANTED = {"outputs": [{"name": "y", "shape": [1, 2], "data": [0.25, 1000.0]}]}


def _answer(**changed: Any) -> dict[str, Any]:
    return {"model_version": "1", "outputs": [{**WANTED["outputs"][0], **changed}]}


def test_an_answer_may_say_more() -> None:
    assert difference_at(_answer(more=True), WANTED, 1e-4) is None


def test_numbers_are_near_absolutely_below_one_and_relatively_above() -> None:
    assert difference_at(_answer(data=[0.25009, 1000.09]), WANTED, 1e-4) is None
    assert difference_at(_answer(data=[0.2502, 1000.0]), WANTED, 1e-4) is not None
    assert difference_at(_answer(data=[0.25, 1000.2]), WANTED, 1e-4) is not None


@pytest.mark.parametrize(
    ("came", "words"),
    [
        (_answer(data=[0.25]), "`outputs[0].data` has 1 elements, 2 are expected"),
        (_answer(data=[0.25, None]), "`outputs[0].data[1]` is None"),
        (_answer(data=[0.25, True]), "`outputs[0].data[1]` is True"),
        (_answer(name="z"), "`outputs[0].name` is 'z', 'y' is expected"),
        ({"error": "no"}, "`outputs` is missing"),
        ([], "is []"),
    ],
)
def test_a_difference_names_its_place_and_both_sides(came: Any, words: str) -> None:
    assert words in str(difference_at(came, WANTED, 1e-4))
