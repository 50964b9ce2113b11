from __future__ import annotations

import pytest

from dukou.base.errors import InputError
from dukou.evaluate import (
    CrossValidation,
    Evaluation,
    Interval,
    check_gates,
    classification,
    gates,
    regression,
    require_gates,
)
from dukou.evaluate.classification import ClassReport
from dukou.evaluate.gates import check_gate_metrics, parse_gate

SCORE = Interval(0.96, 0.94, 0.98)
EVALUATION = Evaluation(
    task="classification",
    variant="original",
    rows=500,
    source="test.csv",
    data_digest="",
    metrics={"accuracy": SCORE, "f1_macro": Interval(0.9, 0.8, 0.95), "log_loss": SCORE},
    per_class={"big cat": ClassReport(9, SCORE, Interval(0.5, 0.2, 0.8), SCORE)},
    crossval=CrossValidation("accuracy", (0.9, 0.92), 0.01, Interval(0.91, 0.85, 0.97), 0),
)


@pytest.mark.parametrize(
    ("gate", "held"),
    [
        ("accuracy >= 0.95", True),
        ("accuracy >= 0.97", False),
        ("accuracy.lower >= 0.95", False),
        ("accuracy.upper>=0.98", True),
        ("f1 >= 0.9", True),
        ("f1_macro > 0.9", False),
        ("log_loss <= 1e0", True),
        ("log_loss < 0.5", False),
        ("recall[big cat] >= 0.5", True),
        ("recall[big cat].lower >= 0.5", False),
        ("cv.accuracy >= 0.9", True),
        ("cv.accuracy.lower >= 0.9", False),
    ],
)
def test_gates(gate: str, held: bool) -> None:
    (result,) = check_gates(EVALUATION, [gate])
    assert result.held is held


def test_a_failure_names_number_interval_and_gate_of_all() -> None:
    results = check_gates(
        EVALUATION, ["accuracy >= 0.97", "log_loss <= 1", "recall[big cat] >= 0.9"]
    )
    with pytest.raises(InputError) as caught:
        require_gates(results)
    assert caught.value.code == "evaluate.gate-failed"
    assert "`accuracy >= 0.97` fails: 0.9600 [0.9400, 0.9800]" in caught.value.message
    assert "`recall[big cat] >= 0.9` fails: 0.5000" in caught.value.message
    assert "log_loss" not in caught.value.message
    require_gates(results[1:2])


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy => 0.9", "0.9 <= accuracy", "accuracy >= high", "a >= 1 or b"]
)
def test_what_is_no_gate(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_gate(text)
    assert caught.value.code == "project.invalid"
    assert "accuracy >= 0.95" in caught.value.message


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("acuracy >= 0.9", "accuracy, f1_macro, log_loss"),
        ("recall[dog] >= 0.9", "`big cat`"),
        ("cv.f1 >= 0.9", "no cross-validation of `f1`"),
    ],
)
def test_unknown_metrics_list_what_there_is(gate: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        check_gates(EVALUATION, [gate])
    assert caught.value.code == "evaluate.unknown-metric"
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("gate", "task", "words", "hint"),
    [
        (
            "accuracy >= 0.9",
            "regression",
            "only r2, rmse, mae",
            'is `task = "classification"` meant',
        ),
        ("mae <= 3", "classification", "a classification has no `mae`", 'is `task = "regression"`'),
        ("acuracy >= 0.9", "classification", "only accuracy, precision_macro", ""),
    ],
)
def test_a_gate_of_another_task_is_refused_before_anything_is_trained(
    gate: str, task: str, words: str, hint: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_gate_metrics([gate], task)
    assert caught.value.code == "evaluate.unknown-metric"
    assert words in caught.value.message and hint in (caught.value.hint or "")


def test_every_metric_of_the_judges_may_stand_in_a_gate() -> None:
    assert {*classification.METRICS, *classification.BINARY_METRICS} == {
        *gates._METRICS["classification"]
    }
    assert set(regression.METRICS) == set(gates._METRICS["regression"])
    for gate in ("f1 >= 0.9", "recall[ill].lower >= 0.8", "cv.accuracy >= 0.9", "brier <= 0.2"):
        check_gate_metrics([gate], "classification")
    check_gate_metrics(["mae.upper <= 3", "cv.r2 >= 0.4"], "regression")
