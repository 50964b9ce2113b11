"""Two models on the same rows: how much one gains or loses, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.evaluate.intervals import CONFIDENCE, Interval, paired_difference_interval

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


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
