from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris

from dukou.base.errors import InputError
from dukou.evaluate import DataReport, DataRules, Table, check_data, load_table


def _table(**columns: Any) -> Table:
    return Table({name: np.array(values) for name, values in columns.items()}, "t.csv")


def _kinds(report: DataReport) -> dict[str, str]:
    return {finding.check: finding.severity for finding in report.findings}


GOOD = _table(a=[1.0, 2.0, 3.0, 4.0], b=[5.0, 1.0, 2.0, 3.0], y=[0, 1, 0, 1])


def test_nothing_to_say() -> None:
    report = check_data(GOOD, target="y")
    assert report.findings == ()
    assert report.classes == {"0": 2, "1": 2}
    report.require()


def test_missing_names_the_rows() -> None:
    table = _table(a=[1.0, np.nan, 3.0, np.nan], y=[0, 1, 0, 1])
    report = check_data(table, target="y")
    assert _kinds(report)["missing"] == "error"
    assert (report.errors[0].rows, report.errors[0].counted) == ((2, 4), "row")
    with pytest.raises(InputError, match="`a` lacks 2 of 4") as caught:
        report.require()
    assert caught.value.code == "data.quality"
    allowed = check_data(table, target="y", rules=DataRules(max_missing=0.5))
    assert _kinds(allowed)["missing"] == "warning"


def test_a_missing_target_is_always_an_error() -> None:
    table = Table(
        {"a": np.arange(100.0), "y": np.array(["x"] * 50 + [None] + ["z"] * 49, dtype=object)}
    )
    report = check_data(table, target="y", rules=DataRules(max_missing=1.0))
    assert [f.rows for f in report.errors if f.check == "missing"] == [(51,)]


def test_infinity_constants_and_ranges() -> None:
    table = _table(a=[1.0, np.inf, 2.0, 3.0], b=[7, 7, 7, 7], c=[0, 5, 17, -1], y=[0, 1, 0, 1])
    report = check_data(table, target="y", rules=DataRules(ranges={"c": (0, 16)}))
    assert _kinds(report) == {
        "not-finite": "error",
        "out-of-range": "error",
        "constant": "warning",
    }
    ranges = next(f for f in report.findings if f.check == "out-of-range")
    assert ranges.rows == (3, 4)


def test_leak_counts_rows_of_equal_content() -> None:
    test = _table(a=[2.0, 9.0], b=[1.0, 9.0], y=[1, 0])
    report = check_data(GOOD, test, target="y")
    leak = next(f for f in report.findings if f.check == "leak")
    assert (leak.severity, leak.rows, leak.count) == ("error", (1,), 1)
    allowed = check_data(GOOD, test, target="y", rules=DataRules(max_leak=0.5))
    assert _kinds(allowed)["leak"] == "warning"


def test_iris_has_one_row_twice() -> None:
    x, y = load_iris(return_X_y=True)
    table = Table({**{f"c{i}": x[:, i] for i in range(4)}, "y": y}, "iris")
    report = check_data(table, target="y")
    twice = next(f for f in report.findings if f.check == "duplicates")
    assert (twice.rows, twice.severity) == ((143,), "warning")


def test_classes() -> None:
    rows = 200
    y = np.array(["a"] * (rows - 2) + ["b"] * 2, dtype=object)
    train = Table({"a": np.arange(float(rows)), "y": y}, "train")
    test = Table({"a": np.array([500.0]), "y": np.array(["c"], dtype=object)}, "test")
    report = check_data(train, test, target="y")
    balance = [f.severity for f in report.findings if f.check == "class-balance"]
    assert balance == ["warning", "error"]
    strict = check_data(train, target="y", rules=DataRules(min_class_share=0.05))
    assert [f.severity for f in strict.findings if f.check == "class-balance"] == ["error"]


def test_other_columns_and_values_beyond_training() -> None:
    report = check_data(GOOD, _table(a=[99.0, 2.5], y=[0, 1]), target="y")
    assert _kinds(report) == {"columns": "error", "out-of-range": "warning"}


def test_a_target_that_is_not_there() -> None:
    with pytest.raises(InputError) as caught:
        check_data(GOOD, target="z")
    assert caught.value.code == "data.missing-column"


def test_rows_of_a_csv_are_its_lines_however_it_was_cut(tmp_path: Path) -> None:
    """The number is where an editor shows the row: blank lines, quoted line ends and all."""
    file = tmp_path / "t.csv"
    file.write_text('a,note,y\n1,x,0\n\n2,"two\nlines",1\n,x,0\n4,x,1\n', encoding="utf-8")
    table = load_table(file)
    assert table.counted == "line" and table.numbers().tolist() == [2, 5, 6, 7]
    part = table.take([3, 2])
    found = check_data(part, target="y", rules=DataRules(max_missing=1.0)).findings[0]
    assert (found.check, found.rows, found.counted) == ("missing", (6,), "line")
    assert found.source == str(file) and found.message.endswith("(line 6)")
    rows = Table({"a": np.arange(5.0)}).take([4, 0]).take([0])
    assert rows.counted == "row" and rows.numbers().tolist() == [5]


def test_a_regression_wants_numbers_and_names_the_line(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,y\n1,3.5\n2,4 kg\n3,5\n", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        check_data(load_table(file), target="y", task="regression")
    assert refused.value.code == "data.text-target"
    assert "column `y` holds `4 kg` (line 3), a regression predicts numbers" in str(refused.value)
    report = check_data(GOOD, target="y", task="regression")
    assert report.classes == {}
