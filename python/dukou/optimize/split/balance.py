"""Where a line of steps is cut: stages of equal weight, and of the cuts that do, the narrowest. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# How much heavier than the best balance a stage may be for narrower cuts, as a share of an equal part.
SLACK = 0.05
# What all the work counts beside all the weights: it decides where weights do not.
_WORK_SHARE = 0.02
# The search compares every two of them.
_MOST_PLACES = 1000
# A stage that holds more than this is the whole in all but name.
MOST = 0.9


@dataclass(frozen=True, slots=True)
class Load:
    """What one step brings.

    Attributes:
        weights: names of the weights that it needs.
        work: its arithmetic.
    """

    weights: Sequence[str]
    work: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Where the cuts are.

    Attributes:
        cuts: before which steps; ascending.
        weight_bytes: of each stage; what two stages need counts in both.
        share: of the heaviest stage, of all.
        crossing_bytes: over each cut, for a request of one row.
    """

    cuts: tuple[int, ...]
    weight_bytes: tuple[int, ...]
    share: float
    crossing_bytes: tuple[float, ...]


def plan_cuts(
    loads: Sequence[Load],
    weight_bytes: dict[str, int],
    crossing: Sequence[float],
    stages: int,
) -> Plan:
    """The cuts for so many stages.

    Args:
        loads: of each step, in order.
        weight_bytes: of each weight.
        crossing: what crosses a cut before step `i`, for `i` in 1 … len(loads) - 1 (index 0 is not
            looked at); infinite where there can be no cut.
        stages: at least 2.

    Raises:
        InputError: `split.impossible`, where there are too few places to cut; `split.unbalanced`,
            where the best that can be had is hardly a split.
    """
    import numpy as np

    places = [i for i in range(1, len(loads)) if np.isfinite(crossing[i])]
    if len(places) < stages - 1:
        raise InputError(
            "split.impossible",
            f"{stages} stages need {stages - 1} places to cut, the graph has {len(places)} "
            f"({len(loads)} nodes)",
        )
    places = _thin(places, crossing, stages)
    ends = [0, *places, len(loads)]
    cost = _stage_costs(loads, weight_bytes, ends)
    best = _least_heaviest(cost, stages)
    limit = best + SLACK / stages + 1e-12
    wide = np.array([0.0, *(crossing[i] for i in places), 0.0])
    cuts = _narrowest(cost, wide, stages, limit)
    bounds = [0, *(ends[c] for c in cuts), len(loads)]
    found = tuple(
        sum(weight_bytes[name] for name in {n for load in loads[a:b] for n in load.weights})
        for a, b in pairwise(bounds)
    )
    used = {name for load in loads for name in load.weights}
    total = sum(weight_bytes[name] for name in used)
    share = max(found) / total if total else 1 / stages
    if share > MOST:
        heaviest = max(used, key=lambda name: weight_bytes[name])
        raise InputError(
            "split.unbalanced",
            f"the best balance of {stages} stages has one with {share:.0%} of {total:,} bytes: "
            f"weight `{heaviest}` alone has {weight_bytes[heaviest]:,}, and no weight is cut",
        )
    return Plan(
        tuple(ends[c] for c in cuts), found, share, tuple(float(crossing[ends[c]]) for c in cuts)
    )


def _thin(places: Sequence[int], crossing: Sequence[float], stages: int) -> list[int]:
    """Of very many places the narrowest in each window of neighbours."""
    window = -(-len(places) // max(_MOST_PLACES, stages))
    return [
        min(places[start : start + window], key=lambda i: crossing[i])
        for start in range(0, len(places), window)
    ]


def _stage_costs(loads: Sequence[Load], weight_bytes: dict[str, int], ends: Sequence[int]) -> Array:
    """`cost[a, b]` of the stage from `ends[a]` to `ends[b]`, as a share of the whole; infinite for none."""
    import numpy as np

    total = sum(weight_bytes[n] for n in {n for load in loads for n in load.weights})
    work = np.cumsum([0.0, *(load.work for load in loads)])
    scale = 1.0 if total == 0 else _WORK_SHARE
    count = len(ends)
    cost = np.full((count, count), np.inf)
    # What stands first at each step, counting only steps before `end`: kept up to date as it grows.
    held, last = np.zeros(len(loads) + 1), dict[str, int]()
    for b in range(1, count):
        for step in range(ends[b - 1], ends[b]):
            for name in loads[step].weights:
                if name in last:
                    held[last[name]] -= weight_bytes[name]
                held[step] += weight_bytes[name]
                last[name] = step
        # A weight counts in a stage where its last use before the end is at or behind the start.
        behind = np.concatenate([np.cumsum(held[: ends[b]][::-1])[::-1], [0.0]])
        for a in range(b):
            share = behind[ends[a]] / total if total else 0.0
            cost[a, b] = share + scale * (work[ends[b]] - work[ends[a]]) / max(work[-1], 1e-300)
    return cost


def _least_heaviest(cost: Array, stages: int) -> float:
    """The least that the heaviest of so many stages can weigh."""
    import numpy as np

    reached = cost[0].copy()
    for _ in range(1, stages):
        # Over every place of the cut before: the heavier of what is behind it and the last stage.
        reached = np.min(np.maximum(reached[:, None], cost), axis=0)
    return float(reached[-1])


def _narrowest(cost: Array, wide: Array, stages: int, limit: float) -> list[int]:
    """Cuts (indices into the ends) over which the least crosses, no stage above `limit`."""
    import numpy as np

    allowed = np.where(cost <= limit, 0.0, np.inf)
    # Of equally narrow cuts the better balanced ones.
    price = allowed + np.where(np.isfinite(cost), cost, 0.0) ** 2 * 1e-3
    least = price[0].copy()
    came: list[Array] = []
    for _ in range(1, stages):
        ways = (least + wide)[:, None] + price
        came.append(np.argmin(ways, axis=0))
        least = np.min(ways, axis=0)
    at, cuts = cost.shape[0] - 1, list[int]()
    for back in reversed(came):
        at = int(back[at])
        cuts.append(at)
    return cuts[::-1]
