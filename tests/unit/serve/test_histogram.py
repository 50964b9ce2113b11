"""Quantiles of histograms lie where the counts say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dukou.serve.histogram import quantile

BOUNDS = [50, 100, 200, 400]


def test_nothing_counted_has_no_quantile() -> None:
    assert quantile(BOUNDS, [0] * 5, 0.5) is None


def test_inside_a_bucket_it_is_even() -> None:
    assert quantile(BOUNDS, [0, 10, 0, 0, 0], 0.5) == 75
    assert quantile(BOUNDS, [5, 5, 0, 0, 0], 0.5) == 50


def test_above_the_last_bound_it_is_at_it() -> None:
    assert quantile(BOUNDS, [0, 0, 0, 0, 3], 0.99) == 400


@given(
    st.lists(st.integers(0, 1000), min_size=5, max_size=5).filter(any),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_it_grows_with_the_share(counts: list[int], one: float, other: float) -> None:
    low, high = (quantile(BOUNDS, counts, share) for share in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert 0 <= low <= high <= BOUNDS[-1]
