from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from dukou.base.errors import InputError
from dukou.evaluate.regression import judge_numbers, sample_answers


def _judge(predicted: np.ndarray, truth: np.ndarray) -> dict:
    return judge_numbers(predicted, truth, resamples=400, seed=0, confidence=0.95)


def test_numbers_are_those_of_scikit_learn_inside_their_intervals() -> None:
    chance = np.random.default_rng(0)
    truth = chance.normal(50, 10, size=300)
    predicted = truth + chance.normal(0, 5, size=300)
    found = _judge(predicted, truth)
    assert found["r2"].value == pytest.approx(metrics.r2_score(truth, predicted))
    assert found["mae"].value == pytest.approx(metrics.mean_absolute_error(truth, predicted))
    assert found["rmse"].value == pytest.approx(metrics.root_mean_squared_error(truth, predicted))
    for interval in found.values():
        assert interval.low < interval.value < interval.high


def test_where_the_truth_is_one_number_r2_says_nothing() -> None:
    found = _judge(np.arange(20.0), np.full(20, 7.0))
    assert list(found) == ["rmse", "mae"]


def test_what_does_not_pair_is_refused() -> None:
    with pytest.raises(InputError) as refused:
        _judge(np.arange(3.0), np.array(["a", "b", "c"], dtype=object))
    assert refused.value.code == "data.mismatch"


def test_the_plot_gets_some_of_the_rows_in_their_order() -> None:
    truth = np.arange(2000.0)
    shown = sample_answers(truth + 0.5, truth, seed=1, most=100)
    assert len(shown) == 100 and shown == sample_answers(truth + 0.5, truth, seed=1, most=100)
    assert [true for true, _ in shown] == sorted(true for true, _ in shown)
    assert all(said == true + 0.5 for true, said in shown)
