"""The bets are fair: exactly, over every way in which a block may fall, and however events cluster."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dukou.rollout.evidence import (
    BUDGET_SHARES,
    PAIRED_WEIGHTS,
    RESERVE,
    BudgetTest,
    PairedTest,
)
from dukou.rollout.power import detectable_rate, fixed_horizon_requests, fixed_horizon_rows

SHARES = st.floats(0.01, 0.99)


def factors(test: PairedTest | BudgetTest, after: PairedTest | BudgetTest) -> list[float]:
    pairs = zip(test.capitals, after.capitals, strict=True)
    return [math.exp(new - old) for old, new in pairs]


@given(
    n_c=st.integers(1, 200),
    n_t=st.integers(1, 60),
    p=SHARES,
    ratio=st.floats(1.0, 2.0),
    slack=st.floats(0.0, 0.05),
)
def test_a_first_bet_is_fair_however_events_cluster(
    n_c: int, n_t: int, p: float, ratio: float, slack: float
) -> None:
    """All of an arm fails together, or nothing of it: the worst clusters there are, at the same rate."""
    start = PairedTest(reserve=0.0)
    worst = min(1.0, ratio * p + slack)
    mean = np.zeros(len(PAIRED_WEIGHTS))
    for champion, likely_c in ((n_c, p), (0, 1 - p)):
        for challenger, likely_t in ((n_t, worst), (0, 1 - worst)):
            after = start.add((n_c, champion), (n_t, challenger), ratio=ratio, slack=slack)
            mean += likely_c * likely_t * np.array(factors(start, after))
    assert (mean <= 1 + 1e-9).all()


@given(n_t=st.integers(1, 60), p=st.floats(0.001, 0.05))
def test_a_later_bet_is_fair_where_no_block_is_worse_than_its_bound(n_t: int, p: float) -> None:
    start = PairedTest(reserve=0.0)
    for _ in range(5):
        start = start.add((200, 10), (n_t, 0), ratio=1.0, slack=0.0)
    # Ten or none of the champion's: within the mean of ten and two deviations.
    mean = np.zeros(len(PAIRED_WEIGHTS))
    for champion, likely_c in ((10, 20 * p), (0, 1 - 20 * p)):
        for challenger, likely_t in ((n_t, p), (0, 1 - p)):
            after = start.add((200, champion), (n_t, challenger), ratio=1.0, slack=0.0)
            mean += likely_c * likely_t * np.array(factors(start, after))
    assert (mean <= 1 + 1e-9).all()


@given(rows=st.integers(1, 500), budget=st.floats(0.001, 0.5))
def test_a_bet_on_a_budget_is_fair_and_never_ruinous(rows: int, budget: float) -> None:
    start = BudgetTest(reserve=0.0)
    all_differ = factors(start, start.add(rows, rows, budget=budget))
    none_differ = factors(start, start.add(rows, 0, budget=budget))
    for share, all_, none in zip(BUDGET_SHARES, all_differ, none_differ, strict=True):
        assert budget * all_ + (1 - budget) * none <= 1 + 1e-9
        assert none == pytest.approx(1 - share)


def test_a_block_that_is_worse_than_the_bound_costs_what_is_staked_and_no_more() -> None:
    test = PairedTest()
    for _ in range(5):
        test = test.add((100, 1), (10, 0), ratio=1.0, slack=0.0)
    test = test.add((100, 100), (10, 0), ratio=1.0, slack=0.0)
    assert test.capitals == (-math.inf,) * len(PAIRED_WEIGHTS)
    assert 0 < test.value == test.reserve < RESERVE
    assert PairedTest.from_json(test.to_json()) == test
    # What was kept back goes on betting: harm that follows is still found.
    for _ in range(60):
        test = test.add((100, 1), (10, 5), ratio=1.0, slack=0.0)
    assert test.value > 200


def test_what_is_kept_back_makes_no_capital_of_nothing() -> None:
    """Blocks that neither win nor lose: the whole stays what it was, in whatever pocket."""
    test, budget = PairedTest(), BudgetTest()
    for _ in range(500):
        test = test.add((100, 0), (10, 0), ratio=1.0, slack=0.0)
        budget = budget.add(100, 2, budget=0.02)
    assert test.value == pytest.approx(1.0)
    assert budget.value == pytest.approx(1.0)
    assert 0 < test.reserve < RESERVE / 4


def test_a_rollout_that_began_when_nothing_was_kept_back_goes_on() -> None:
    older = PairedTest(capitals=(0.5, 0.1, -0.2), blocks=9, recent=(900.0, 9.0)).to_json()
    del older["reserve"]
    read = PairedTest.from_json(older)
    assert (read.reserve, read.blocks) == (0.0, 9)
    kept = BudgetTest().to_json()
    del kept["reserve"], kept["blocks"]
    assert BudgetTest.from_json(kept).reserve == 0.0


def test_bursts_that_hit_one_arm_alone_are_no_harm_where_both_have_as_many() -> None:
    """Each arm fails whole in one second of a hundred, by itself: a bet without a bound a block has
    proven harm by the first two that hit the challenger."""
    chance = np.random.default_rng(11)
    proven = 0
    for _ in range(200):
        test = PairedTest()
        for _ in range(120):
            events = [
                n if chance.random() < 0.01 else int(chance.binomial(n, 0.005)) for n in (270, 30)
            ]
            test = test.add((270, events[0]), (30, events[1]), ratio=1.0, slack=0.0005)
            if test.value >= 200:
                proven += 1
                break
    print(f"{proven} of 200 proven")
    assert proven <= 4  # alpha is 0.005; more than 4 of 200 would come up once in 250 times


def test_seconds_that_resemble_those_before_them_are_no_harm() -> None:
    """Bad times of ten seconds that hit both arms, as a slow disk or a bad client makes them."""
    chance = np.random.default_rng(12)
    proven = 0
    for _ in range(200):
        test, rate = PairedTest(), 0.005
        for _ in range(120):
            if chance.random() < 0.1:
                rate = float(chance.choice([0.005, 0.005, 0.05, 0.5]))
            events = [int(chance.binomial(n, rate)) for n in (270, 30)]
            test = test.add((270, events[0]), (30, events[1]), ratio=1.0, slack=0.0005)
            if test.value >= 200:
                proven += 1
                break
    print(f"{proven} of 200 proven")
    assert proven <= 4


def test_equal_rates_in_batches_of_different_sizes_are_no_harm() -> None:
    """What a bet on the shares of events would call harm in most of these rollouts."""
    chance = np.random.default_rng(5)
    proven = 0
    for _ in range(300):
        test = PairedTest()
        for _ in range(200):
            champion = 8 * int(chance.binomial(270 // 8, 0.02))
            challenger = int(chance.binomial(30, 0.02))
            test = test.add((270, champion), (30, challenger), ratio=1.1, slack=0.0, together=8)
            if test.value >= 200:
                proven += 1
                break
    assert proven <= 3  # alpha is 0.005


def test_what_would_have_been_seen_is_seen() -> None:
    """The rate that is said to be found with probability 0.95, planted in fixed traffic."""
    chance = np.random.default_rng(6)
    options = {"ratio": 1.1, "slack": 0.001}
    rate = detectable_rate((27_000, 270), 9_000, alpha=0.005, **options)
    assert rate is not None
    assert 0.012 < rate < 0.03
    found = 0
    for _ in range(100):
        test, best = PairedTest(), 0.0
        for _ in range(120):
            events = int(chance.binomial(225, 0.01)), int(chance.binomial(75, rate))
            test = test.add((225, events[0]), (75, events[1]), **options)
            best = max(best, test.value)
        found += best >= 200
    print(f"a rate of {rate:.4f} was found in {found} of 100")
    assert found >= 80


def test_nothing_can_be_seen_in_no_traffic() -> None:
    assert detectable_rate((0, 0), 0, ratio=1.1, slack=0.0, alpha=0.01) is None
    assert detectable_rate((100, 0), 3, ratio=1.1, slack=0.0, alpha=0.01) is None


def test_fixed_tests_need_what_the_textbook_says() -> None:
    # Two equal arms, 10 % against 20 %, alpha 0.05 one-sided, power 0.8: 157 each.
    both = fixed_horizon_requests(0.1, 0.2, alpha=0.05, power=0.8, share=0.5)
    assert both / 2 == pytest.approx(157, abs=1)
    assert fixed_horizon_rows(0.02, 0.05, alpha=0.003, power=0.95) == pytest.approx(616, abs=5)
