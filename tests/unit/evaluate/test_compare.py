from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from dukou.base.errors import InputError
from dukou.evaluate import Comparison, compare_classes

TRUTH = np.array(["a", "b"] * 100)


def _flip(rows: slice) -> np.ndarray:
    said = TRUTH.copy()
    said[rows] = np.where(said[rows] == "a", "b", "a")
    return said


def test_counts_and_mcnemar() -> None:
    found = compare_classes(_flip(slice(0, 10)), _flip(slice(8, 11)), TRUTH)
    assert (found.gained, found.lost, found.disagree) == (8, 1, 9)
    assert found.difference.value == pytest.approx(7 / 200)
    assert found.p_value == pytest.approx(binomtest(8, 9).pvalue)
    assert Comparison.from_json(found.to_json()) == found


def test_the_bound_counts_what_was_not_seen() -> None:
    """Equal on 200 rows is no proof of equal: up to 1.3 % may hide."""
    same = compare_classes(TRUTH, TRUTH, TRUTH)
    assert same.p_value == 1.0
    assert same.loss_bound(0.95) == pytest.approx(2.705543 / 202.705543, rel=1e-4)
    same.require_not_worse(0.02)
    with pytest.raises(InputError) as caught:
        same.require_not_worse(0.01)
    assert caught.value.code == "evaluate.gate-failed"


def test_losses_move_the_bound() -> None:
    bounds = [
        compare_classes(TRUTH, _flip(slice(0, lost)), TRUTH).loss_bound() for lost in (0, 2, 6)
    ]
    assert bounds == sorted(bounds)
    assert bounds[2] > 6 / 200


def test_what_does_not_pair() -> None:
    with pytest.raises(InputError, match="200 and 199 answers do not pair with 200"):
        compare_classes(TRUTH, TRUTH[1:], TRUTH)
