from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import fisher_exact

from dukou.base.errors import InputError
from dukou.evaluate import DataSet, SliceTable, judge_slices
from dukou.evaluate.conditions import check_parts, find_parts

ROWS = 400


def _data(seed: int = 0, rows: int = ROWS) -> DataSet:
    rng = np.random.default_rng(seed)
    sex = np.array(["F", "M"], dtype=object)[rng.integers(0, 2, rows)]
    return DataSet(
        {"age": rng.integers(20, 80, rows), "sex": sex, "城市 income": rng.normal(size=rows)},
        np.array(["ill", "well"])[rng.integers(0, 2, rows)],
        "state",
        "people.csv",
    )


def test_a_part_that_is_worse_is_found_and_stands_first() -> None:
    data = _data()
    old = np.asarray(data.features["age"]) > 60
    right = np.random.default_rng(1).random(ROWS) < np.where(old, 0.5, 0.95)
    table = judge_slices(data, right, task="classification", named=["age > 60", "sex"])
    first = table.slices[0]
    assert first.worse and first.name == "age > 60" and first.origin == "named"
    assert first.rows == old.sum() and first.value.value == pytest.approx(right[old].mean())
    assert first.difference.value == pytest.approx(right[old].mean() - right[~old].mean())
    assert first.difference.high < 0
    counts = [[right[part].sum(), (~right[part]).sum()] for part in (old, ~old)]
    assert first.p_value == pytest.approx(fisher_exact(counts, "less").pvalue)
    names = [part.name for part in table.slices]
    assert {"sex = F", "sex = M", "class ill", "class well"} <= {*names}
    assert SliceTable.from_json(table.to_json()) == table


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_where_nothing_is_worse_nothing_is_called_so(task: str) -> None:
    """The promise: in few of many tables that hold nothing but chance is anything called worse."""
    called, tables = 0, 40 if task == "classification" else 15
    for seed in range(tables):
        rng = np.random.default_rng(seed)
        data = _data(seed, rows=200)
        outcomes = rng.random(200) < 0.9 if task == "classification" else rng.exponential(size=200)
        table = judge_slices(data, outcomes, task=task, named=["sex"], resamples=100)
        called += bool(table.worse)
    assert called <= tables * 0.15


def test_absolute_errors_are_compared_by_their_means() -> None:
    data = _data(2)
    men = np.asarray(data.features["sex"]) == "M"
    errors = np.random.default_rng(3).exponential(size=ROWS) * np.where(men, 2.0, 1.0)
    table = judge_slices(data, errors, task="regression", named=["sex"])
    assert table.metric == "mae" and table.worse[0].name == "sex = M"
    worst = table.slices[0]
    assert worst.value.value == pytest.approx(errors[men].mean())
    assert worst.value.low < worst.value.value < worst.value.high
    assert worst.difference.value == pytest.approx(errors[men].mean() - errors[~men].mean())
    assert not any(part.origin == "class" for part in table.slices)


def test_conditions_are_read_as_a_person_means_them() -> None:
    data = _data()
    age, sex = np.asarray(data.features["age"]), np.asarray(data.features["sex"])
    asked = ["age >= 30 and sex == F", 'sex != "F"', "城市 income > 0", "age=30", "state"]
    named = [p for p in find_parts(data, named=asked, classes=False) if p.origin == "named"]
    assert [part.name for part in named] == [
        "age ≥ 30 and sex = F",
        "sex ≠ F",
        "城市 income > 0",
        "age = 30",
        "state = ill",
        "state = well",
    ]
    assert (named[0].mask == ((age >= 30) & (sex == "F"))).all()
    assert (named[1].mask == (sex != "F")).all()


def test_quarters_hold_every_row_once() -> None:
    data = _data()
    income = [p for p in find_parts(data, classes=False) if p.name.find("income") >= 0]
    assert len(income) == 4 and (sum(part.mask.astype(int) for part in income) == 1).all()
    gone = np.where(np.arange(ROWS) < 50, np.nan, np.arange(ROWS, dtype=float))
    parts = find_parts(DataSet({"a": gone}, data.target), classes=False)
    assert parts[0].name == "a is missing" and parts[0].mask.sum() == 50
    assert (sum(part.mask.astype(int) for part in parts) == 1).all()


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        ("wage > 3", "unknown-slice", "`people.csv` has `age`, `sex`, `城市 income`, `state`"),
        ("height", "unknown-slice", "names the column `height`"),
        ("age > old", "unknown-slice", "`age` holds numbers"),
        ("sex > F", "unknown-slice", "`sex` holds text"),
        ("sex and age > 3", "unknown-slice", "cannot be joined"),
        ("age > 200", "empty-slice", "`age` goes from 20 to 79"),
        ("sex == X", "empty-slice", "`sex` is `F`, `M`"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(asked: str, code: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        check_parts(_data(), [asked])
    assert refused.value.code == f"evaluate.{code}"
    assert words in refused.value.message


def test_a_retraining_may_have_no_rows_of_a_part() -> None:
    table = judge_slices(
        _data(),
        np.ones(ROWS, dtype=bool),
        task="classification",
        named=["age > 200"],
        allow_empty=True,
    )
    empty = next(part for part in table.slices if part.name == "age > 200")
    assert empty.rows == 0 and not empty.worse
    read = SliceTable.from_json(table.to_json())
    assert [part.name for part in read.slices] == [part.name for part in table.slices]
