"""What rounds are summed up to: medians with their spread, and ratios of rounds that stood side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """A median, and the least and the most that was seen."""

    median: float
    least: float
    most: float
    count: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value."""
        listed = sorted(values)
        return cls(statistics.median(listed), listed[0], listed[-1], len(listed))


def paired(
    ours: Sequence[float],
    theirs: Sequence[float],
    compare: Callable[[float, float], float],
) -> Spread | None:
    """A comparison round by round, then its spread.

    Machines drift: what was measured in the same round stood next to each other, so the comparison is
    made there and not between two medians. None where no round has both.
    """
    values = [compare(mine, other) for mine, other in zip(ours, theirs, strict=False)]
    return Spread.of(values) if values else None


def ratio(mine: float, other: float) -> float:
    """How many times the other; infinite where the other is zero."""
    return mine / other if other else float("inf")


def difference(mine: float, other: float) -> float:
    """How much more than the other."""
    return mine - other
