from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from dukou.base.errors import InputError
from dukou.evaluate import Comparison, compare, compare_classes, compare_numbers
from dukou.evaluate.compare import parse_comparison

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


def test_numbers_are_compared_by_the_paired_difference_of_their_errors() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(100, 20, size=300)
    old, new = truth + rng.normal(0, 10, size=300), truth + rng.normal(0, 5, size=300)
    found = compare_numbers(old, new, truth)
    errors = np.abs(new - truth) - np.abs(old - truth)
    assert found.difference.value == pytest.approx(errors.mean())
    assert found.difference.high < 0 and found.p_value < 0.01
    assert found.relative == pytest.approx(errors.mean() / np.abs(old - truth).mean())
    assert found.gained + found.lost == 300 and found.gained > 180
    assert found.disagree == (np.abs(old - new) > 1e-3 + 0.05 * np.abs(old)).sum()
    assert parse_comparison(found.to_json()) == found
    same = compare_numbers(old, old, truth)
    assert (same.gained, same.lost, same.disagree, same.p_value) == (0, 0, 0, 1.0)


def test_the_bound_on_numbers_that_are_apart_is_the_engines() -> None:
    source = (Path(__file__).parents[3] / "crates/dukou-engine/src/agree.rs").read_text("utf-8")
    found = re.search(
        r"APART: Tolerance = Tolerance \{ absolute: (\S+), relative: (\S+) \}", source
    )
    assert found is not None
    assert (float(found[1]), float(found[2])) == (compare._APART, compare._APART_SHARE)
