"""Cross-validation: how well the training itself does, on rows that it has not seen.

Any framework: the training is a callable from outside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.evaluate.intervals import CONFIDENCE, Interval
from dukou.evaluate.labels import as_labels

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Predict = Callable[[Array], Array]
    Train = Callable[[Array], Predict]


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """Scores by fold.

    Attributes:
        metric: `accuracy`, `f1_macro` or `r2`.
        folds: the score of each.
        deviation: standard deviation of the folds.
        score: their mean with an interval; see `cross_validate`.
        seed: of the folds.
    """

    metric: str
    folds: tuple[float, ...]
    deviation: float
    score: Interval
    seed: int

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "metric": self.metric,
            "folds": list(self.folds),
            "deviation": self.deviation,
            "score": self.score.to_json(),
            "seed": self.seed,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> CrossValidation:
        """The inverse of `to_json`."""
        return cls(
            document["metric"],
            tuple(document["folds"]),
            document["deviation"],
            Interval.from_json(document["score"]),
            document["seed"],
        )


def iter_folds(
    target: Array, *, folds: int, seed: int, task: str = "classification"
) -> Iterator[tuple[Array, Array]]:
    """(rows to train on, rows to score on); classes keep their shares in each fold.

    Raises:
        InputError: `data.quality`, where a class or the data has fewer rows than folds.
    """
    import numpy as np
    from sklearn.model_selection import KFold, StratifiedKFold

    if not 2 <= folds <= len(target):
        raise InputError(
            "data.quality", f"{folds} folds cannot be made of {len(target)} rows; 2 to that many"
        )
    rows = np.arange(len(target))
    if task != "classification":
        yield from KFold(folds, shuffle=True, random_state=seed).split(rows)
        return
    labels = as_labels(target)
    names, counts = np.unique(labels, return_counts=True)
    if counts.min() < folds:
        raise InputError(
            "data.quality",
            f"class `{names[counts.argmin()]}` has {counts.min()} rows, {folds} folds need as many",
            hint="use fewer folds, or more rows of that class",
        )
    yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(rows, labels)


def cross_validate(
    train: Train,
    target: Array,
    *,
    folds: int = 5,
    seed: int = 0,
    metric: str = "accuracy",
    task: str = "classification",
    confidence: float = CONFIDENCE,
) -> CrossValidation:
    """Trains on all folds but one, scores on that one, in turn.

    The folds' scores are not independent (each pair of trainings shares most rows), which a plain
    t interval ignores: the variance is enlarged after Nadeau and Bengio, *Machine Learning* 52
    (2003), 239-281.

    Args:
        train: takes the row numbers to learn from, returns a callable that takes row numbers and
            gives `(rows,)` labels (or numbers, for a regression).
        target: `(rows,)`: the truth of all rows.
        folds: how many.
        seed: of the split; the training has its own.
        metric: `accuracy` or `f1_macro`; `r2` for a regression.
        task: `classification` or `regression`.
        confidence: of the interval.

    Raises:
        InputError: `data.quality` for too few rows; `evaluate.unknown-metric`.
    """
    from scipy.stats import t

    score = _scorer(metric, task)
    scores, held_out = [], 0
    for learn, judge in iter_folds(target, folds=folds, seed=seed, task=task):
        predict = train(learn)
        scores.append(score(target[judge], predict(judge)))
        held_out = len(judge)
    mean = sum(scores) / folds
    deviation = math.sqrt(sum((s - mean) ** 2 for s in scores) / (folds - 1))
    share = held_out / (len(target) - held_out)
    half = float(t.ppf((1 + confidence) / 2, folds - 1)) * deviation * math.sqrt(1 / folds + share)
    low, high = mean - half, mean + half
    if task == "classification":
        low, high = max(0.0, low), min(1.0, high)
    return CrossValidation(
        metric,
        tuple(scores),
        deviation,
        Interval(mean, low, high, confidence, "nadeau-bengio"),
        seed,
    )


def _scorer(metric: str, task: str) -> Callable[[Array, Array], float]:
    from sklearn.metrics import accuracy_score, f1_score, r2_score

    if task == "classification":
        known: dict[str, Callable[[Array, Array], float]] = {
            "accuracy": lambda y, p: float(accuracy_score(as_labels(y), as_labels(p))),
            "f1_macro": lambda y, p: float(
                f1_score(as_labels(y), as_labels(p), average="macro", zero_division=0)
            ),
        }
    else:
        known = {"r2": lambda y, p: float(r2_score(y, p))}
    if metric not in known:
        raise InputError(
            "evaluate.unknown-metric",
            f"`{metric}` cannot be cross-validated for {task}; {', '.join(known)} can",
        )
    return known[metric]
