"""Quantiles from the engine's histograms (`spec/state.md`)."""

from __future__ import annotations

from collections.abc import Sequence


def quantile(bounds: Sequence[float], counts: Sequence[int], share: float) -> float | None:
    """The value below which `share` of what was counted lies; None where nothing was.

    Even inside a bucket; what lies above the last bound is said to be at it.

    Args:
        bounds: upper bounds, ascending.
        counts: of each bucket, not cumulative, and last of what lies above.
        share: 0 to 1.
    """
    total = sum(counts)
    if total == 0:
        return None
    wanted = share * total
    below = 0
    lower = 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if count and below + count >= wanted:
            return lower + (bound - lower) * (wanted - below) / count
        below += count
        lower = bound
    return float(bounds[-1])
