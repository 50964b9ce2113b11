"""What rounds are summed up to."""

from __future__ import annotations

from bench.figures import Spread, difference, paired, ratio
from hypothesis import given
from hypothesis import strategies as st

positive = st.floats(min_value=0.01, max_value=1e6)


def test_a_spread_is_a_median_with_its_ends() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0, 3)
    assert Spread.of([4.0, 2.0]).median == 3.0


@given(st.lists(positive, min_size=1, max_size=20))
def test_a_median_lies_between_its_ends(values: list[float]) -> None:
    spread = Spread.of(values)
    assert spread.least <= spread.median <= spread.most
    assert spread.count == len(values)


def test_comparisons_are_made_within_a_round() -> None:
    # The machine was twice as slow in the second round: the two medians would differ by 15, and
    # there is no round in which the servers did.
    echo, ours = [10.0, 20.0], [20.0, 40.0]
    times = paired(ours, echo, ratio)
    assert times == Spread(2.0, 2.0, 2.0, 2)
    over = paired(ours, echo, difference)
    assert over == Spread(15.0, 10.0, 20.0, 2)


def test_a_round_that_one_of_them_lacks_is_left_out() -> None:
    found = paired([1.0, 2.0], [1.0], ratio)
    assert found is not None
    assert found.count == 1
    assert paired([], [1.0], ratio) is None


def test_nothing_is_infinitely_slower() -> None:
    assert ratio(1.0, 0.0) == float("inf")
