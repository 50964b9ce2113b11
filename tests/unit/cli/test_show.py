"""Answers and figures as people read them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from dukou.cli.show import show_age, show_answers, show_bytes, show_duration, show_table

ANSWER = [
    {
        "name": "probabilities",
        "datatype": "FP32",
        "shape": [2, 3],
        "data": [0.1, 0.7, 0.2, 1.0, 0, 0],
    },
    {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]},
]
SPECS = [{"name": "label"}, {"name": "probabilities"}]


def _shown(style: str, answers: list[list[dict[str, Any]]]) -> str:
    out = io.StringIO()
    show_answers(answers, SPECS, style, out)
    return out.getvalue()


def test_a_table_has_a_line_a_row_in_the_models_order() -> None:
    lines = _shown("table", [ANSWER, ANSWER]).splitlines()
    assert lines[0].split() == ["row", "label", "probabilities"]
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3", "4"]
    assert lines[1].split()[1:] == ["1", "0.7", "(class", "1)"]


def test_json_has_everything() -> None:
    rows = [json.loads(line) for line in _shown("json", [ANSWER]).splitlines()]
    assert rows == [
        {"label": 1, "probabilities": [0.1, 0.7, 0.2]},
        {"label": 0, "probabilities": [1.0, 0, 0]},
    ]


def test_csv_has_a_column_an_element() -> None:
    lines = _shown("csv", [ANSWER]).splitlines()
    assert lines == [
        "label,probabilities_0,probabilities_1,probabilities_2",
        "1,0.1,0.7,0.2",
        "0,1.0,0,0",
    ]


def test_outputs_without_rows_in_common_stay_whole() -> None:
    answer = [
        {"name": "a", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]},
        {"name": "b", "datatype": "FP32", "shape": [], "data": [3.0]},
    ]
    assert json.loads(_shown("json", [answer])) == {"a": [1.0, 2.0], "b": 3.0}


def test_figures_stand_right() -> None:
    assert show_table(["name", "count"], [["a", "5"], ["bbbbb", "1200"]]) == (
        "name   count\na          5\nbbbbb   1200"
    )


@pytest.mark.parametrize(
    ("microseconds", "text"), [(None, "-"), (85.2, "85.2 µs"), (1234, "1.23 ms"), (3.4e6, "3.4 s")]
)
def test_durations(microseconds: float | None, text: str) -> None:
    assert show_duration(microseconds) == text


def test_ages() -> None:
    assert [show_age(s) for s in (-1, 12, 300, 10800, 172800)] == [
        "0 s",
        "12 s",
        "5 min",
        "3 h",
        "2 d",
    ]


def test_chinese_cells_take_two_columns() -> None:
    lines = show_table(["label", "n"], [["山鸢尾", "1"], ["ab", "12"]]).splitlines()
    assert lines == ["label    n", "山鸢尾   1", "ab      12"]


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (999_900, "1 MB"),
        (3_400_000, "3.4 MB"),
        (1_230_000_000, "1.23 GB"),
        (4_000_000_000_000, "4000 GB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert show_bytes(count) == shown
