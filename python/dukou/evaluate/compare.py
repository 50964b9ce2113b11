"""Two models on the same rows: how much one gains or loses, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.evaluate.intervals import (
    CONFIDENCE,
    RESAMPLES,
    Interval,
    interval_of_resamples,
    iter_resampled_weights,
    paired_difference_interval,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Numbers that are nearer than this say the same: `APART` of crates/dukou-engine/src/agree.rs.
_APART, _APART_SHARE = 1e-3, 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """A challenger against a champion, row by row.

    Attributes:
        rows: how many were asked of both.
        gained: rows that only the challenger has right.
        lost: rows that only the champion has right.
        disagree: rows on which they say different things, right or wrong.
        difference: the challenger's accuracy less the champion's.
        p_value: McNemar's exact test of `gained` against `lost`, two-sided.
    """

    rows: int
    gained: int
    lost: int
    disagree: int
    difference: Interval
    p_value: float

    def loss_bound(self, confidence: float = CONFIDENCE) -> float:
        """The accuracy that the challenger loses at most, at this one-sided confidence."""
        # A bound at c is one end of the two-sided interval at 2c - 1.
        two_sided = 2 * confidence - 1
        return paired_difference_interval(self.lost, self.gained, self.rows, two_sided).high

    def require_not_worse(self, margin: float) -> None:
        """Raises InputError `evaluate.gate-failed` where more than `margin` may be lost."""
        bound = self.loss_bound()
        if bound > margin:
            raise InputError(
                "evaluate.gate-failed",
                f"the challenger may lose up to {bound:.4f} of accuracy against the champion "
                f"({self.lost} rows lost, {self.gained} gained of {self.rows}), {margin:g} is "
                "allowed",
            )

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "rows": self.rows,
            "gained": self.gained,
            "lost": self.lost,
            "disagree": self.disagree,
            "difference": self.difference.to_json(),
            "p_value": self.p_value,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Comparison:
        """The inverse of `to_json`."""
        return cls(**{**document, "difference": Interval.from_json(document["difference"])})


@dataclass(frozen=True, slots=True)
class NumberComparison:
    """A challenger against a champion, both answering numbers, row by row.

    Attributes:
        rows: how many were asked of both.
        gained: rows on which the challenger is nearer to the truth.
        lost: rows on which the champion is.
        disagree: rows on which they say numbers that are apart, as the engine judges a shadow's.
        difference: the challenger's mean absolute error less the champion's, paired; below 0 is better.
        relative: the same as a share of the champion's.
        p_value: of the paired differences' signs being chance (random sign flips), two-sided.
    """

    rows: int
    gained: int
    lost: int
    disagree: int
    difference: Interval
    relative: float
    p_value: float

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "kind": "numbers",
            "rows": self.rows,
            "gained": self.gained,
            "lost": self.lost,
            "disagree": self.disagree,
            "difference": self.difference.to_json(),
            "relative": self.relative,
            "p_value": self.p_value,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> NumberComparison:
        """The inverse of `to_json`."""
        fields = {name: value for name, value in document.items() if name != "kind"}
        return cls(**{**fields, "difference": Interval.from_json(document["difference"])})


def parse_comparison(document: dict[str, Any]) -> Comparison | NumberComparison:
    """Either kind, from its JSON."""
    if document.get("kind") == "numbers":
        return NumberComparison.from_json(document)
    return Comparison.from_json(document)


def compare_numbers(
    champion: Array,
    challenger: Array,
    truth: Array,
    *,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> NumberComparison:
    """Compares what two regressors said of the same rows, by the paired difference of absolute errors.

    Args:
        champion: `(rows,)` of numbers.
        challenger: the same, of the other model.
        truth: the same, as it is.
        confidence: of the difference's interval.
        seed: of the resampling.

    Raises:
        InputError: `data.mismatch`, where they are not of one length; `data.empty`.
    """
    import numpy as np

    if not len(truth) == len(champion) == len(challenger):
        raise InputError(
            "data.mismatch",
            f"{len(champion)} and {len(challenger)} answers do not pair with {len(truth)} rows",
        )
    if not len(truth):
        raise InputError("data.empty", "there are no rows to compare on")
    old, new = np.abs(champion - truth), np.abs(challenger - truth)
    apart, rows = new - old, len(truth)
    drawn, flipped = [], []
    chance = np.random.default_rng(seed)
    for weights in iter_resampled_weights(rows, RESAMPLES, seed):
        drawn.append(weights @ apart / rows)
        flipped.append(chance.choice([-1.0, 1.0], size=weights.shape) @ apart / rows)
    value = float(apart.mean())
    interval = interval_of_resamples(
        value,
        np.concatenate(drawn),
        influence=((apart.sum() - apart) / max(1, rows - 1), np.ones(rows)),
        confidence=confidence,
    )
    # A rounding error must not make equal things unequal.
    as_far = np.abs(np.concatenate(flipped)) >= abs(value) * (1 - 1e-9)
    before = float(old.mean())
    return NumberComparison(
        rows,
        int((apart < 0).sum()),
        int((apart > 0).sum()),
        int((np.abs(champion - challenger) > _APART + _APART_SHARE * np.abs(champion)).sum()),
        interval,
        value / before if before else float(value > 0),
        float((as_far.sum() + 1) / (RESAMPLES + 1)),
    )


def compare_classes(
    champion: Array, challenger: Array, truth: Array, *, confidence: float = CONFIDENCE
) -> Comparison:
    """Compares what two classifiers said of the same rows.

    Args:
        champion: `(rows,)` of labels in the form of `dukou.evaluate.labels`.
        challenger: the same, of the other model.
        truth: the same, as it is.
        confidence: of the difference's interval.

    Raises:
        InputError: `data.mismatch`, where they are not of one length; `data.empty`.
    """
    from scipy.stats import binomtest

    if not len(truth) == len(champion) == len(challenger):
        raise InputError(
            "data.mismatch",
            f"{len(champion)} and {len(challenger)} answers do not pair with {len(truth)} rows",
        )
    if not len(truth):
        raise InputError("data.empty", "there are no rows to compare on")
    old, new = champion == truth, challenger == truth
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    return Comparison(
        len(truth),
        gained,
        lost,
        int((champion != challenger).sum()),
        paired_difference_interval(gained, lost, len(truth), confidence),
        float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
    )
