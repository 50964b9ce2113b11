"""How much a rollout can see: the harm that would have shown by now, and what a fixed test would need.

The figures of the first kind go with every decision: "no harm was seen" means little without "and so
much would have been".
"""

from __future__ import annotations

import math
from statistics import NormalDist

from dukou.rollout.evidence import PAIRED_WEIGHTS


def detectable_rate(
    champion: tuple[int, int],
    challenger_requests: int,
    *,
    ratio: float,
    slack: float,
    alpha: float,
    power: float = 0.95,
) -> float | None:
    """The challenger's rate of events that would have been found harmful by now.

    An approximation by the normal distribution of a bet's logarithm at its best stake; the mixture over
    stakes costs the logarithm of the smallest part of the capital more. Right to about a quarter where a
    handful of events
    or more are expected.

    Args:
        champion: (requests, events) so far.
        challenger_requests: so far.
        ratio: of the champion's rate that is allowed.
        slack: and so much more.
        alpha: of the test.
        power: the probability with which.

    Returns:
        A share of requests; None where even failing at every request would not have been enough.
    """
    requests, events = champion
    if not requests or not challenger_requests:
        return None
    usual = events / requests
    allowed = ratio * usual + slack
    wanted = math.log(1.0 / (min(PAIRED_WEIGHTS) * alpha))
    quantile = NormalDist().inv_cdf(power)
    # distance²/2 - quantile * distance = wanted
    distance = quantile + math.sqrt(quantile * quantile + 2.0 * wanted)

    def seen(rate: float) -> bool:
        weight = ratio * challenger_requests / requests
        variance = challenger_requests * rate + weight * weight * events
        return challenger_requests * (rate - allowed) >= distance * math.sqrt(variance)

    if not seen(1.0):
        return None
    low, high = min(allowed, 1.0), 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if seen(middle) else (middle, high)
    return high


def fixed_horizon_requests(
    champion_rate: float, challenger_rate: float, *, alpha: float, power: float, share: float
) -> float:
    """Requests of both arms together that the classical test of two proportions needs, looked at once.

    The one-sided z-test with the pooled variance (Fleiss, Levin & Paik, *Statistical Methods for Rates
    and Proportions*, chapter 4), at this allocation.

    Args:
        champion_rate: its share of errors.
        challenger_rate: its share of errors, larger.
        alpha: one-sided.
        power: the probability of finding the difference.
        share: of the requests that the challenger gets.
    """
    normal = NormalDist()
    pooled = (1 - share) * champion_rate + share * challenger_rate
    # Per request of both arms together.
    none = pooled * (1 - pooled) * (1 / share + 1 / (1 - share))
    some = challenger_rate * (1 - challenger_rate) / share
    some += champion_rate * (1 - champion_rate) / (1 - share)
    root = normal.inv_cdf(1 - alpha) * math.sqrt(none) + normal.inv_cdf(power) * math.sqrt(some)
    return (root / (challenger_rate - champion_rate)) ** 2


def fixed_horizon_rows(budget: float, rate: float, *, alpha: float, power: float) -> float:
    """Compared rows that the classical test of one proportion against `budget` needs, looked at once."""
    normal = NormalDist()
    root = normal.inv_cdf(1 - alpha) * math.sqrt(budget * (1 - budget))
    root += normal.inv_cdf(power) * math.sqrt(rate * (1 - rate))
    return (root / (rate - budget)) ** 2
