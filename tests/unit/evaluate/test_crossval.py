from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_score

from dukou.base.errors import InputError
from dukou.evaluate import CrossValidation, cross_validate
from dukou.evaluate.crossval import iter_folds


def _trainer(estimator: Any, x: Any, y: Any) -> Callable[[Any], Callable[[Any], Any]]:
    def train(rows: Any) -> Callable[[Any], Any]:
        fitted = estimator.fit(x[rows], y[rows])
        return lambda others: fitted.predict(x[others])

    return train


def test_folds_are_scikit_learns() -> None:
    x, y = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=2000)
    found = cross_validate(_trainer(estimator, x, y), y, folds=5, seed=3)
    expected = cross_val_score(estimator, x, y, cv=StratifiedKFold(5, shuffle=True, random_state=3))
    assert found.folds == pytest.approx(tuple(expected))
    assert found.score.value == pytest.approx(expected.mean())
    assert found.deviation == pytest.approx(expected.std(ddof=1))
    assert found.score.low < found.score.value < found.score.high <= 1.0
    assert CrossValidation.from_json(found.to_json()) == found


def test_the_interval_is_wider_than_the_plain_one() -> None:
    """Folds share their training rows: pretending that they do not is too sure of itself."""
    x, y = load_diabetes(return_X_y=True)
    found = cross_validate(_trainer(LinearRegression(), x, y), y, metric="r2", task="regression")
    plain = 2.776445 * found.deviation / np.sqrt(5)
    assert found.score.high - found.score.value > 1.4 * plain


def test_no_row_is_judged_by_what_learned_from_it() -> None:
    y = np.array(["a"] * 20 + ["b"] * 10)
    judged: Counter[int] = Counter()
    for learn, judge in iter_folds(y, folds=5, seed=0):
        assert not set(learn) & set(judge)
        assert len(learn) + len(judge) == 30
        assert (y[judge] == "b").sum() == 2
        judged.update(judge.tolist())
    assert judged == Counter(range(30))


@pytest.mark.parametrize(
    ("target", "folds", "words"),
    [
        (np.array(["a"] * 20 + ["b"] * 3), 5, "`b` has 3 rows"),
        (np.array([0, 1]), 5, "2 rows"),
        (np.array([0, 1] * 10), 1, "1 folds"),
    ],
)
def test_too_few_rows(target: Any, folds: int, words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        cross_validate(lambda _: lambda rows: target[rows], target, folds=folds)
    assert caught.value.code == "data.quality"


def test_a_metric_that_is_not_there() -> None:
    with pytest.raises(InputError, match="accuracy, f1_macro can"):
        cross_validate(lambda _: lambda r: r, np.array([0, 1] * 5), metric="charm")
