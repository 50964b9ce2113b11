from __future__ import annotations

import numpy as np
import pytest

from dukou.base.errors import InputError
from dukou.evaluate.threshold import Objective, count_cells, fit_threshold, parse_objective

LABELS = ("ill", "well")


def _rows(seed: int, rows: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.random(rows).round(2).astype(np.float32)
    true = (rng.random(rows) < values**2).astype(np.int64)
    return values, true, (values >= 0.5).astype(np.int64)


def _fit(
    values: np.ndarray, true: np.ndarray, said: np.ndarray, text: str, **more: object
) -> float | None:
    objective = parse_objective(text, more.get("costs"))  # type: ignore[arg-type]
    budget = float(more.get("budget", 1.0))  # type: ignore[arg-type]
    return fit_threshold(
        values, true, said, objective=objective, labels=LABELS, accuracy_budget=budget
    )


@pytest.mark.parametrize("text", ["accuracy", "f1[ill]", "f1", "recall_macro", "f1_macro"])
@pytest.mark.parametrize("seed", range(4))
def test_no_other_line_is_better(text: str, seed: int) -> None:
    values, true, said = _rows(seed)
    objective = parse_objective(text)

    def score(chosen: np.ndarray) -> float:
        return float(objective.measure(count_cells(true, chosen), LABELS))

    every = max(score((values >= line).astype(np.int64)) for line in [*np.unique(values), 2.0])
    found = _fit(values, true, said, text)
    if found is None:
        assert every <= score(said) + 1e-12
    else:
        chosen = (values >= np.float32(found)).astype(np.int64)
        assert score(chosen) == pytest.approx(max(every, score(chosen)))
        assert score(chosen) > score(said)
        assert found not in values


def test_accuracy_is_kept_within_the_budget() -> None:
    values, true, said = _rows(1, 400)
    before = float((said == true).mean())
    for budget in (0.0, 0.02, 0.1):
        line = _fit(values, true, said, "recall[well]", budget=budget)
        chosen = said if line is None else (values >= np.float32(line)).astype(np.int64)
        assert float((chosen == true).mean()) >= before - budget - 1e-9
        assert (chosen[true == 1] == 1).mean() >= (said[true == 1] == 1).mean()


def test_costs_move_the_line_and_no_accuracy_is_kept_beside_them() -> None:
    values, true, said = _rows(2, 400)
    lines = [
        _fit(values, true, said, "cost", costs={"ill": 1.0, "well": cost}, budget=0.0)
        for cost in (1.0, 5.0, 25.0)
    ]
    assert None not in lines
    assert lines == sorted(lines, reverse=True)  # type: ignore[type-var]
    measured = Objective("cost", "", (("ill", 1.0), ("well", 5.0))).measure(
        np.array([[6, 4], [2, 8]]), LABELS
    )
    assert float(measured) == pytest.approx(-(4 * 1 + 2 * 5) / 20)


def test_of_equally_good_lines_the_one_that_changes_least() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.7], dtype=np.float32)
    true = np.array([0, 1, 0, 1, 1, 1])
    said = np.array([0, 0, 0, 0, 1, 1])
    # From 0.4 on one more is right; from 0.2 on also, and two answers change besides.
    line = _fit(values, true, said, "accuracy")
    assert line == pytest.approx(0.35)


def test_two_neighbours_have_no_number_between_them() -> None:
    low = np.float32(0.5)
    high = np.nextafter(low, np.float32(1))
    line = _fit(np.array([low, high]), np.array([0, 1]), np.array([1, 1]), "accuracy")
    assert line == float(high)


@pytest.mark.parametrize(
    ("text", "costs", "says"),
    [
        ("speed", None, "`speed` is not an objective"),
        ("accuracy[ill]", None, "is not an objective"),
        ("log_loss", None, "is not an objective"),
        ("", {"ill": 2.0}, "is not an objective"),
        ("f1", {"ill": 2.0}, "costs go with the objective `cost`"),
        ("cost", None, "names 0 classes"),
        ("cost", {"ill": 0.0, "well": 1.0}, "a number above 0"),
    ],
)
def test_what_is_no_objective(text: str, costs: dict[str, float] | None, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        parse_objective(text, costs)
    assert caught.value.code == "project.invalid"


@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (parse_objective("recall[sick]"), "about the class `sick`, the model's are `ill`, `well`"),
        (parse_objective("cost", {"ill": 2.0, "sick": 1.0}), "the class `sick`"),
        (parse_objective("cost", {"ill": 2.0}), "`improve.costs` lacks `well`"),
    ],
)
def test_a_class_that_there_is_not(objective: Objective, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        objective.require_labels(LABELS)
    assert caught.value.code == "improve.cannot-apply"
