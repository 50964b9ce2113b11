from __future__ import annotations

import numpy as np
import pytest

from dukou.base.errors import InputError
from dukou.formats.parity import check_parity

LABELS = np.array([0, 1, 1, 0])
NUMBERS = np.array([[0.9, 0.1], [0.2, 0.8], [0.3, 0.7], [0.6, 0.4]])


def test_equal_within_float32() -> None:
    found = check_parity(
        "m", labels=(LABELS, LABELS), numbers=(NUMBERS + 1e-6, NUMBERS), by_trees=False
    )
    assert found.rows == 4
    assert found.largest == pytest.approx(1e-6, rel=1e-3)
    assert not found.note


def test_another_class_is_refused_with_both_sides() -> None:
    other = LABELS.copy()
    other[2] = 0
    with pytest.raises(InputError, match="row 2 `0`, the framework says `1`") as caught:
        check_parity("m", labels=(other, LABELS), numbers=(NUMBERS, NUMBERS), by_trees=True)
    assert caught.value.code == "formats.parity"


def test_a_tie_may_break_either_way_and_is_told() -> None:
    numbers = NUMBERS.copy()
    numbers[2] = [0.5, 0.5]
    other = LABELS.copy()
    other[2] = 0
    found = check_parity("m", labels=(other, LABELS), numbers=(numbers, numbers), by_trees=False)
    assert found.labels_differ == 1
    assert "ties" in found.note


def test_a_difference_is_refused_for_what_is_no_tree() -> None:
    apart = NUMBERS + np.array([0.04, -0.04])
    with pytest.raises(InputError, match="up to 0.04") as caught:
        check_parity("m", labels=(LABELS, LABELS), numbers=(apart, NUMBERS), by_trees=False)
    assert caught.value.code == "formats.parity"


def test_a_forest_may_differ_where_labels_agree_and_says_so() -> None:
    apart = NUMBERS + np.array([0.04, -0.04])
    found = check_parity("m", labels=(LABELS, LABELS), numbers=(apart, NUMBERS), by_trees=True)
    assert "0.04" in found.note
    far = NUMBERS + np.array([0.2, -0.2])
    with pytest.raises(InputError, match=r"formats\.parity"):
        check_parity("m", labels=(LABELS, LABELS), numbers=(far, NUMBERS), by_trees=True)


def test_not_a_number_is_a_difference() -> None:
    broken = NUMBERS.copy()
    broken[1, 1] = np.nan
    with pytest.raises(InputError, match="row 1"):
        check_parity("m", labels=(LABELS, LABELS), numbers=(broken, NUMBERS), by_trees=False)


def test_a_binary_margin_is_the_second_score() -> None:
    margin = np.array([-1.0, 2.0, 3.0, -0.5])
    both = np.stack([-margin, margin], axis=1)
    assert check_parity(
        "m", labels=(LABELS, LABELS), numbers=(both, margin), by_trees=False
    ).largest == pytest.approx(0.0)


def test_predictions_are_measured_against_their_size() -> None:
    numbers = np.array([1e6, -2e6, 3e5])
    found = check_parity("m", labels=None, numbers=(numbers + 10, numbers), by_trees=False)
    assert found.scale == pytest.approx(2e6)
    with pytest.raises(InputError, match=r"formats\.parity"):
        check_parity("m", labels=None, numbers=(numbers + 1000, numbers), by_trees=False)
