"""Pearson's chi-square test of two samples on common bins.

The reference is a sample too: its own chance is in the test. Bins that both together fill with too few
rows join their neighbours, since the distribution holds for expected counts of about five and more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dukou.monitor.drift.contract import Finding

_FEWEST = 5.0


class ChiSquare:
    """See the module."""

    name = "chi-square"

    def test(self, reference: Sequence[int], window: Sequence[int]) -> Finding:
        """See `DriftTest`."""
        from scipy.special import chdtrc

        old, new = _merge(reference, window)
        rows, seen = sum(old), sum(new)
        if not rows or not seen or len(old) < 2:
            return Finding(1.0, 0.0)
        statistic = 0.0
        for a, b in zip(old, new, strict=True):
            expected = (a + b) * seen / (rows + seen)
            beside = (a + b) * rows / (rows + seen)
            statistic += (b - expected) ** 2 / expected + (a - beside) ** 2 / beside
        return Finding(float(chdtrc(len(old) - 1, statistic)), _stability(old, new))

    def rows_needed(self, reference: Sequence[int], *, alpha: float, effect: float) -> int:
        """See `DriftTest`. By the noncentral chi-square distribution (Cohen 1988), the effect taken as
        the sum of squared differences over expected shares, which the index is near for small ones.
        """
        from scipy.special import chdtri, chndtr

        bins = sum(count > 0 for count in reference)
        if bins < 2:
            return 0
        critical = chdtri(bins - 1, alpha)
        rows = sum(reference)
        low, high = 1, 1 << 24
        while low < high:
            middle = (low + high) // 2
            # Of two samples, the harmonic mean counts.
            noncentral = effect * middle * rows / (middle + rows)
            if chndtr(critical, bins - 1, noncentral) <= 0.2:
                high = middle
            else:
                low = middle + 1
        return low


def _merge(reference: Sequence[int], window: Sequence[int]) -> tuple[list[float], list[float]]:
    """Neighbouring bins together, until each is expected to hold enough in the smaller sample."""
    rows, seen = sum(reference), sum(window)
    share = min(rows, seen) / max(1, rows + seen)
    old, new, a, b = [], [], 0.0, 0.0
    for more, less in zip(reference, window, strict=True):
        a, b = a + more, b + less
        if (a + b) * share >= _FEWEST:
            old.append(a)
            new.append(b)
            a = b = 0.0
    if (a or b) and old:
        old[-1] += a
        new[-1] += b
    return old, new


def _stability(old: Sequence[float], new: Sequence[float]) -> float:
    """The population stability index, half a row added to each bin so that none is empty."""
    rows, seen = sum(old) + len(old) / 2, sum(new) + len(new) / 2
    shares = [((a + 0.5) / rows, (b + 0.5) / seen) for a, b in zip(old, new, strict=True)]
    return sum((b - a) * math.log(b / a) for a, b in shares)
