"""The plot of a retraining: how right the served versions were over time, and the first without any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dukou.lifecycle.report.plots import draw_lines


def draw_stream(points: Sequence[Mapping[str, Any]], metric: str = "accuracy") -> str:
    """Accuracy on labelled requests in the order of time, or a regression's mean absolute error: points of
    `retrain.describe_stream`.
    """
    rows, edges = 0, []
    for point in points:
        rows += point["rows"]
        edges.append(rows)
    return draw_lines(
        edges,
        {
            "what was served": [point["served"] for point in points],
            "the first version, unchanged": [point["frozen"] for point in points],
        },
        names=("labelled requests", metric),
        marks=_changes(points, edges),
    )


def _changes(points: Sequence[Mapping[str, Any]], edges: Sequence[int]) -> dict[float, str]:
    """Where another version gave most of the answers: position → its number."""
    changes: dict[float, str] = {}
    before = ""
    for point, edge in zip(points, edges, strict=True):
        most = max(point["versions"], key=lambda number: point["versions"][number])
        if before and most != before:
            changes[edge - point["rows"]] = f"version {most}"
        before = most
    return changes
