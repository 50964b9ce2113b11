from __future__ import annotations

import json

import numpy as np

from dukou.evaluate import DataSet, Evaluation, Predictions, find_limitations, judge_slices
from dukou.evaluate.classification import judge_classes
from dukou.evaluate.regression import judge_numbers

ROWS = 120


def _judged(said: np.ndarray, data: DataSet) -> Evaluation:
    both = np.stack([1 - said, said], axis=1)
    predictions = Predictions(("no", "yes"), both.argmax(axis=1), both, both)
    found = judge_classes(predictions, data.target, resamples=200, seed=0, confidence=0.95)
    right = predictions.names() == data.target
    return Evaluation(
        "classification",
        "original",
        data.rows,
        "test.csv",
        "",
        found.metrics,
        found.per_class,
        found.labels,
        calibration=found.calibration,
        slices=judge_slices(data, right, task="classification"),
    )


def test_each_limit_has_its_sentence_and_its_numbers() -> None:
    rng = np.random.default_rng(0)
    age = np.r_[np.full(60, 30.0), np.full(60, 70.0)]
    truth = np.where(rng.random(ROWS) < 0.9, "yes", "no")
    # On the old it says the opposite, and is sure of everything.
    said = np.where((truth == "yes") == (age < 50), 0.97, 0.03)
    test = DataSet({"age": age, "town": np.array(["A", "B"] * 60, dtype=object)}, truth)
    train = DataSet(
        {"age": np.linspace(20, 65, 300), "town": np.array(["A"] * 300, dtype=object)},
        np.array(["yes"] * 290 + ["no"] * 10),
    )
    evaluation = _judged(said, test)
    found = find_limitations(evaluation, train, test)
    assert find_limitations(evaluation, train, test) == found
    json.dumps(found, allow_nan=False)
    by_kind = {entry["kind"]: entry for entry in found}
    assert by_kind["slice"]["slice"] in ("age = 30", "age = 70")
    worst = next(entry for entry in found if entry["slice"] == "age = 70")
    assert worst["rows"] == 60 and worst["value"]["value"] == 0.0
    assert worst["sentence"] == (
        "Worse where `age = 70`: right on 0.0% of 60 rows against 100.0% of the others."
    )
    assert "off by" in by_kind["calibration"]["sentence"]
    assert by_kind["calibration"]["error"]["low"] > 0.1
    inputs = by_kind["input-range"]
    assert inputs["features"]["age"] == {"low": 20.0, "high": 65.0, "outside": 0.5}
    assert inputs["features"]["town"] == {"values": ["A"], "distinct": 1, "outside": 0.5}
    assert inputs["outside"] == 0.75 and "75.0% of the held-out rows" in inputs["sentence"]
    assert by_kind["few-rows"]["rows"] == ROWS
    assert by_kind["rare-class"]["classes"]["no"]["train"] == 10


def test_a_regression_without_a_bad_part_says_how_much_that_proves() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=400)
    test = DataSet({"a": rng.uniform(size=400)}, truth)
    said = truth + rng.normal(size=400)
    evaluation = Evaluation(
        "regression",
        "original",
        400,
        "test.csv",
        "",
        judge_numbers(said, truth, resamples=100, seed=0, confidence=0.95),
        slices=judge_slices(test, np.abs(said - truth), task="regression", resamples=100),
    )
    found = find_limitations(evaluation, test, test)
    assert [entry["kind"] for entry in found] == ["slice", "input-range"]
    assert "none is worse than the rest beyond chance" in found[0]["sentence"]
