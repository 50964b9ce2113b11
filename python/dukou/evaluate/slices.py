"""Where a model is worse: its quality on parts of the rows, each against the rest.

Parts are named by the project (`[evaluate] slices`: a column, or comparisons), made of each class, and
found by themselves: quarters of a column of numbers, values of a column of text. What is compared is
right or wrong for classes, and the absolute error for numbers.

A part is called worse only where it is: with many parts looked at, some look bad by chance. Each is
tested one-sided against the rest (Fisher's exact test for right and wrong; random permutations of the
rows for absolute errors), and Benjamini and Yekutieli's procedure (*Annals of Statistics* 29 (2001),
1165-1188), which holds however the parts overlap, keeps the expected share of false ones among those
called worse at 5 %: once for the parts that were asked for with the classes, once for those found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.evaluate.conditions import Part, find_parts
from dukou.evaluate.intervals import (
    CONFIDENCE,
    RESAMPLES,
    Interval,
    interval_of_resamples,
    iter_resampled_weights,
    proportion_interval,
)

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.data import DataSet

    Array = np.ndarray[Any, Any]

LEVEL = 0.05
METHOD = "benjamini-yekutieli"
# Parts that were found and say nothing are not kept, beyond this many: the worst first.
_KEPT = 40
_FEWEST_PERMUTATIONS, _MOST_PERMUTATIONS = 999, 9_999
# Elements of all permutations together: bounds the time.
_PERMUTED = 20_000_000


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of the rows.

    Attributes:
        name: as a person would say it: `age > 60`, `sex = F`, `class 3`.
        origin: `named` by the project, `class`, or `found`.
        rows: how many are in it.
        value: the metric in it; no number where it has no rows.
        difference: the metric in it less the metric in the rest.
        p_value: of being no worse than the rest.
        worse: whether it is worse, beyond what looking at many parts explains.
    """

    name: str
    origin: str
    rows: int
    value: Interval
    difference: Interval
    p_value: float
    worse: bool = False

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "name": self.name,
            "origin": self.origin,
            "rows": self.rows,
            "value": self.value.to_json(),
            "difference": self.difference.to_json(),
            "p_value": self.p_value if self.p_value == self.p_value else None,
            "worse": self.worse,
        }


@dataclass(frozen=True, slots=True)
class SliceTable:
    """All parts that were looked at, the worst first.

    Attributes:
        metric: `accuracy`, or `mae` for a regression.
        slices: those called worse, then by their distance to the rest, the worst first.
        tested: how many were tested, those that are not kept here too.
        level: the expected share of false ones among those called worse, at most.
        method: how that is kept.
    """

    metric: str
    slices: tuple[Slice, ...]
    tested: int
    level: float = LEVEL
    method: str = METHOD

    @property
    def worse(self) -> tuple[Slice, ...]:
        """Those that are worse than the rest."""
        return tuple(part for part in self.slices if part.worse)

    def to_json(self) -> dict[str, Any]:
        """For reports; `from_json` reads it back equal."""
        return {
            "metric": self.metric,
            "slices": [part.to_json() for part in self.slices],
            "tested": self.tested,
            "level": self.level,
            "method": self.method,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> SliceTable:
        """The inverse of `to_json`."""
        slices = tuple(
            Slice(
                **{
                    **part,
                    "value": Interval.from_json(part["value"]),
                    "difference": Interval.from_json(part["difference"]),
                    "p_value": float("nan") if part["p_value"] is None else part["p_value"],
                }
            )
            for part in document["slices"]
        )
        return cls(**{**document, "slices": slices})


def judge_slices(
    data: DataSet,
    outcomes: Array,
    *,
    task: str,
    named: Sequence[str] = (),
    allow_empty: bool = False,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> SliceTable:
    """Looks at every part of the rows.

    Args:
        data: the rows.
        outcomes: `(rows,)`: whether the model was right, or how far off it was.
        task: `classification` or `regression`.
        named: what the project asks for, see `dukou.evaluate.conditions`.
        allow_empty: keep a named part without rows as one that says nothing, instead of refusing it.
        seed: of the resampling.
        confidence: of the intervals.
        resamples: of the bootstrap, for a regression.

    Raises:
        InputError: `evaluate.unknown-slice`, `evaluate.empty-slice`.
    """
    parts = find_parts(data, named=named, classes=task == "classification", allow_empty=allow_empty)
    judge = _judge_shares if task == "classification" else _judge_means
    found = judge(outcomes, parts, seed, confidence, resamples)
    slices = [part for family in _families(found) for part in _mark_worse(family)]
    sign = 1 if task == "classification" else -1
    slices.sort(key=lambda part: (not part.worse, _order(part, sign), part.name))
    kept = [part for part in slices if part.worse or part.origin != "found"]
    kept += [part for part in slices if not part.worse and part.origin == "found"][:_KEPT]
    kept.sort(key=slices.index)
    metric = "accuracy" if task == "classification" else "mae"
    return SliceTable(metric, tuple(kept), sum(part.rows > 0 for part in found))


def _order(part: Slice, sign: int) -> float:
    """By how much worse it is; a part without a rest, or without rows, comes last."""
    value = part.difference.value
    return sign * value if value == value else float("inf")


def _families(slices: Sequence[Slice]) -> tuple[list[Slice], list[Slice]]:
    asked = [part for part in slices if part.origin != "found"]
    return asked, [part for part in slices if part.origin == "found"]


def _mark_worse(slices: list[Slice]) -> list[Slice]:
    """Benjamini and Yekutieli's step-up procedure."""
    import dataclasses

    tested = sorted((p for p in slices if p.p_value == p.p_value), key=lambda part: part.p_value)
    count = len(tested)
    level = LEVEL / sum(1 / rank for rank in range(1, count + 1)) if count else 0.0
    last = 0
    for rank, part in enumerate(tested, 1):
        if part.p_value <= level * rank / count:
            last = rank
    worse = {id(part) for part in tested[:last]}
    return [dataclasses.replace(part, worse=id(part) in worse) for part in slices]


_NOTHING = Interval(float("nan"), float("nan"), float("nan"), CONFIDENCE, "undefined")


def _judge_shares(
    right: Array, parts: Sequence[Part], _seed: int, confidence: float, _resamples: int
) -> list[Slice]:
    """Shares of right answers: exact intervals, Newcombe's for the difference, Fisher's exact test."""
    from scipy.stats import hypergeom

    total, hits = len(right), int(right.sum())
    found = []
    for part in parts:
        rows, mine = int(part.mask.sum()), int(right[part.mask].sum())
        if not rows:
            found.append(Slice(part.name, part.origin, 0, _NOTHING, _NOTHING, float("nan")))
            continue
        value = proportion_interval(mine, rows, confidence)
        if rows == total:
            found.append(Slice(part.name, part.origin, rows, value, _NOTHING, float("nan")))
            continue
        difference = _newcombe(mine, rows, hits - mine, total - rows, confidence)
        p_value = float(hypergeom.cdf(mine, total, hits, rows))
        found.append(Slice(part.name, part.origin, rows, value, difference, p_value))
    return found


def _newcombe(hits: int, rows: int, other: int, rest: int, confidence: float) -> Interval:
    """The hybrid score interval of a difference of shares (*Statistics in Medicine* 17 (1998), 873-890)."""
    import math

    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))

    def wilson(successes: int, count: int) -> tuple[float, float]:
        share = successes / count
        middle = (share + z * z / (2 * count)) / (1 + z * z / count)
        half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
        half /= 1 + z * z / count
        return middle - half, middle + half

    one, two = hits / rows, other / rest
    (low_one, high_one), (low_two, high_two) = wilson(hits, rows), wilson(other, rest)
    value = one - two
    return Interval(
        value,
        value - math.hypot(one - low_one, high_two - two),
        value + math.hypot(high_one - one, two - low_two),
        confidence,
        "newcombe",
    )


def _judge_means(
    errors: Array, parts: Sequence[Part], seed: int, confidence: float, resamples: int
) -> list[Slice]:
    """Mean absolute errors: percentiles of resampled rows, and random permutations for the test."""
    import numpy as np

    total = len(errors)
    masks = np.array([part.mask for part in parts], dtype=np.float64).reshape(len(parts), total)
    rows = masks.sum(axis=1)
    drawn_here, drawn_rest = [], []
    with np.errstate(invalid="ignore", divide="ignore"):
        for weights in iter_resampled_weights(total, resamples, seed):
            counted, summed = weights @ masks.T, (weights * errors) @ masks.T
            everything = (weights @ errors)[:, None]
            drawn_here.append(summed / counted)
            drawn_rest.append((everything - summed) / (total - counted))
        here = masks @ errors / rows
        rest = (errors.sum() - masks @ errors) / (total - rows)
    mine, others = np.concatenate(drawn_here), np.concatenate(drawn_rest)
    p_values = _permute(errors, masks, seed)
    found = []
    for index, part in enumerate(parts):
        if not rows[index]:
            found.append(Slice(part.name, part.origin, 0, _NOTHING, _NOTHING, float("nan")))
            continue
        value = interval_of_resamples(float(here[index]), mine[:, index], confidence=confidence)
        difference, p_value = _NOTHING, float("nan")
        if rows[index] < total:
            apart = mine[:, index] - others[:, index]
            difference = interval_of_resamples(
                float(here[index] - rest[index]), apart, confidence=confidence
            )
            p_value = float(p_values[index])
        found.append(Slice(part.name, part.origin, int(rows[index]), value, difference, p_value))
    return found


def _permute(errors: Array, masks: Array, seed: int) -> Array:
    """`(parts,)`: how often chance alone gives a part errors as large as it has."""
    import numpy as np

    total = len(errors)
    times = int(np.clip(_PERMUTED // total, _FEWEST_PERMUTATIONS, _MOST_PERMUTATIONS))
    chance = np.random.default_rng(seed)
    seen = masks @ errors
    # A rounding error must not make equal sums unequal.
    seen -= 1e-9 * np.abs(seen)
    reached = np.zeros(len(masks))
    block = max(1, 4_000_000 // total)
    for start in range(0, times, block):
        count = min(block, times - start)
        shuffled = chance.permuted(np.tile(errors, (count, 1)), axis=1)
        reached += (shuffled @ masks.T >= seen).sum(axis=0)
    return np.asarray((reached + 1) / (times + 1))
