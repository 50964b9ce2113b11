from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from dukou.evaluate.intervals import (
    Interval,
    interval_of_resamples,
    iter_resampled_rows,
    iter_resampled_weights,
    paired_difference_interval,
    proportion_interval,
)


def test_bca_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(3).exponential(size=200)
    resampled = np.concatenate(
        [values[rows].mean(axis=1) for rows in iter_resampled_rows(200, 9999, seed=1)]
    )
    left_out = (values.sum() - values) / 199
    ours = interval_of_resamples(
        float(values.mean()), resampled, influence=(left_out, np.ones(200))
    )
    theirs = bootstrap(
        (values,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(2)
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.method == "bootstrap-bca"
    assert abs(ours.low - theirs.low) < 0.05 * width
    assert abs(ours.high - theirs.high) < 0.05 * width


def test_weights_are_the_same_draws() -> None:
    rows = np.concatenate(list(iter_resampled_rows(50, 20, seed=4)))
    weights = np.concatenate(list(iter_resampled_weights(50, 20, seed=4)))
    assert (weights.sum(axis=1) == 50).all()
    for drawn, counted in zip(rows, weights, strict=True):
        assert (np.bincount(drawn, minlength=50) == counted).all()


def test_blocks_bound_the_memory_and_lose_nothing() -> None:
    blocks = list(iter_resampled_rows(3_000_000, 5, seed=0))
    assert len(blocks) == 5
    assert sum(len(block) for block in blocks) == 5


def test_nothing_ever_failed_is_not_certainty() -> None:
    found = proportion_interval(540, 540)
    assert found.high == 1.0
    # The exact bound: 0.025 ** (1 / 540).
    assert found.low == pytest.approx(0.025 ** (1 / 540))


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_exact_intervals_hold_their_share(pair: tuple[int, int]) -> None:
    right, rows = pair
    found = proportion_interval(right, rows)
    assert 0 <= found.low <= found.value <= found.high <= 1
    mirrored = proportion_interval(rows - right, rows)
    assert mirrored.low == pytest.approx(1 - found.high)


def test_tango_without_a_difference_has_a_closed_form() -> None:
    z = 1.959963984540054
    found = paired_difference_interval(0, 0, 300)
    assert found.high == pytest.approx(z * z / (300 + z * z))
    assert found.low == pytest.approx(-found.high)


@given(
    st.integers(2, 300).flatmap(
        lambda n: st.tuples(st.integers(0, n), st.just(n), st.floats(min_value=0.0, max_value=1.0))
    )
)
def test_tango_is_antisymmetric_and_holds_the_value(case: tuple[int, int, float]) -> None:
    discordant, rows, share = case
    more = int(discordant * share)
    less = discordant - more
    found = paired_difference_interval(more, less, rows)
    other = paired_difference_interval(less, more, rows)
    assert -1 <= found.low <= found.value <= found.high <= 1
    assert found.low == pytest.approx(-other.high, abs=1e-9)


def test_tango_covers_the_truth() -> None:
    rng = np.random.default_rng(5)
    gain, loss, rows, covered = 0.06, 0.02, 200, 0
    trials = 600
    for more, less, _ in rng.multinomial(rows, [gain, loss, 1 - gain - loss], size=trials):
        found = paired_difference_interval(int(more), int(less), rows)
        covered += found.low <= gain - loss <= found.high
    # Four standard errors of 0.95 in 600 trials.
    assert abs(covered / trials - 0.95) < 0.036


def test_interval_through_json() -> None:
    for found in (Interval(0.5, 0.4, 0.6), Interval(0.5, math.nan, math.nan, 0.9, "undefined")):
        again = Interval.from_json(found.to_json())
        assert again.to_json() == found.to_json()
