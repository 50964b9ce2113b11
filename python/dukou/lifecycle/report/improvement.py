"""The plot of an improvement: what probabilities were worth before, and what they are worth now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dukou.lifecycle.report.plots import draw_curves


def draw_improvement(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Two reliability curves over the diagonal, from `calibration` of two evaluations."""
    return draw_curves(
        {"as it was trained": _points(before["bins"]), "improved": _points(after["bins"])},
        names=("said: mean probability of the bin", "came true: share of its rows"),
    )


def _points(bins: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(part["said"], part["came"]["value"]) for part in bins]
