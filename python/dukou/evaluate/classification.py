"""A classifier is judged: metrics with intervals, per class too, the confusion matrix, ROC curves.

scikit-learn computes the numbers; the resampled ones are computed here for all resamples at once,
and a test holds the two equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.evaluate.calibration import Calibration, calibrate_predictions
from dukou.evaluate.intervals import (
    Interval,
    interval_of_resamples,
    iter_resampled_weights,
    proportion_interval,
)
from dukou.evaluate.labels import as_labels

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.predict import Predictions

    Array = np.ndarray[Any, Any]

METRICS = (
    "accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
    "roc_auc",
    "log_loss",
    "brier",
    "calibration_error",
)
# With two classes also these, of the second class.
BINARY_METRICS = ("precision", "recall", "f1")
_CURVE_POINTS = 101
_CURVE_CLASSES = 20
# A probability of 0 for the true class would be an infinite loss.
_LEAST = 1e-15


@dataclass(frozen=True, slots=True)
class ClassReport:
    """One class: how many rows it has, and how well it is found."""

    support: int
    precision: Interval
    recall: Interval
    f1: Interval


@dataclass(frozen=True, slots=True)
class Classification:
    """All that is known of a classifier on some rows.

    Attributes:
        metrics: by name, see `METRICS`.
        per_class: by label.
        labels: order of the matrix.
        confusion: rows are the truth, columns what was said; counts.
        curves: label → (false positive rates, true positive rates).
        calibration: what its probabilities are worth; none where it gives none.
    """

    metrics: dict[str, Interval]
    per_class: dict[str, ClassReport]
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    curves: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]
    calibration: Calibration | None = None


def index_truth(predictions: Predictions, truth: Array) -> Array:
    """`(rows,)` int64: the truth as indices into the model's classes.

    Raises:
        InputError: `data.mismatch`, for a class that the model does not know.
    """
    import numpy as np

    labels = as_labels(truth)
    index = {name: i for i, name in enumerate(predictions.labels)}
    unknown = sorted(set(labels.tolist()) - set(index))
    if unknown:
        raise InputError(
            "data.mismatch",
            f"the data has the classes {', '.join(f'`{n}`' for n in unknown[:5])}, the model knows "
            f"{', '.join(f'`{n}`' for n in predictions.labels[:20])}",
            hint="name the model's classes in its card, in the order of its outputs",
        )
    if len(labels) != len(predictions.chosen):
        raise InputError(
            "data.mismatch",
            f"there are {len(labels)} true classes for {len(predictions.chosen)} answers",
        )
    return np.array([index[name] for name in labels.tolist()], dtype=np.int64)


def judge_classes(
    predictions: Predictions,
    truth: Array,
    *,
    resamples: int,
    seed: int,
    confidence: float,
) -> Classification:
    """Every metric of a classifier's answers, with intervals.

    Args:
        predictions: what the model said.
        truth: `(rows,)` of classes, as the data has them.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        confidence: of the intervals.
    """
    import numpy as np
    from sklearn.metrics import confusion_matrix

    true = index_truth(predictions, truth)
    labels = predictions.labels
    count = len(labels)
    matrix = confusion_matrix(true, predictions.chosen, labels=list(range(count)))
    metrics, per_class = _judge_matrix(labels, matrix, resamples, seed, confidence)
    curves = {}
    if predictions.scores is not None:
        metrics |= _judge_scores(predictions, true, resamples, seed, confidence)
        curves = _curves(labels, true, predictions.scores)
    calibration = calibrate_predictions(
        predictions, truth, resamples=resamples, seed=seed, confidence=confidence
    )
    if calibration is not None:
        metrics |= {"brier": calibration.brier, "calibration_error": calibration.error}
    return Classification(
        metrics,
        per_class,
        labels,
        tuple(tuple(map(int, row)) for row in np.asarray(matrix)),
        curves,
        calibration,
    )


def matrix_metrics(matrices: Array) -> dict[str, Array]:
    """Metrics of many confusion matrices at once.

    Args:
        matrices: `(…, classes, classes)` of counts.

    Returns:
        `(…,)` by name, and `(…, classes)` under `class_precision`, `class_recall`, `class_f1`.
        A class that is neither true nor said counts in no average; 0 / 0 is 0 else, as
        scikit-learn's `zero_division=0`.
    """
    import numpy as np

    counts = matrices.astype(np.float64)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, said = counts.sum(axis=-1), counts.sum(axis=-2)
    rows = true.sum(axis=-1)

    def divide(above: Array, below: Array) -> Array:
        return np.divide(above, below, out=np.zeros_like(above), where=below > 0)

    found: dict[str, Array] = {"accuracy": divide(right.sum(axis=-1), rows)}
    occurs = (true + said) > 0
    classes = {
        "precision": divide(right, said),
        "recall": divide(right, true),
        "f1": divide(2 * right, true + said),
    }
    for name, values in classes.items():
        found[f"class_{name}"] = values
        found[f"{name}_macro"] = divide((values * occurs).sum(-1), occurs.sum(-1).astype(float))
        found[f"{name}_weighted"] = divide((values * true).sum(axis=-1), rows)
        if counts.shape[-1] == 2:
            found[name] = values[..., 1]
    return found


def _judge_matrix(
    labels: tuple[str, ...], matrix: Array, resamples: int, seed: int, confidence: float
) -> tuple[dict[str, Interval], dict[str, ClassReport]]:
    """Resampling rows and counting them is a multinomial draw of the matrix's cells."""
    import numpy as np

    count, rows = len(labels), int(matrix.sum())
    rng = np.random.default_rng(seed)
    cells = matrix.reshape(-1)
    drawn = rng.multinomial(rows, cells / rows, size=resamples).reshape(-1, count, count)
    point, resampled = matrix_metrics(matrix), matrix_metrics(drawn)
    # Leaving out a row leaves out one of its cell: there are only as many cases as cells.
    filled = np.flatnonzero(cells)
    left = np.repeat(cells[None], len(filled), axis=0)
    left[np.arange(len(filled)), filled] -= 1
    left_out = matrix_metrics(left.reshape(-1, count, count))
    weights = cells[filled]

    def interval(name: str, which: int | None = None) -> Interval:
        def pick(found: dict[str, Array]) -> Array:
            return found[name] if which is None else found[name][..., which]

        return interval_of_resamples(
            float(pick(point)),
            pick(resampled),
            influence=(pick(left_out), weights),
            confidence=confidence,
        )

    names = [n for n in (*METRICS, *BINARY_METRICS) if n in point]
    metrics = {name: interval(name) for name in names}
    if metrics["accuracy"].method == "bootstrap-collapsed":
        # No error seen, or nothing right: resampling sees no doubt where there is some.
        metrics["accuracy"] = proportion_interval(int(np.trace(matrix)), rows, confidence)
    per_class = {
        label: ClassReport(
            int(matrix[i].sum()),
            interval("class_precision", i),
            interval("class_recall", i),
            interval("class_f1", i),
        )
        for i, label in enumerate(labels)
    }
    return metrics, per_class


def _judge_scores(
    predictions: Predictions, true: Array, resamples: int, seed: int, confidence: float
) -> dict[str, Interval]:
    import numpy as np

    assert predictions.scores is not None  # noqa: S101 - asked by the caller
    rows, found = len(true), {}
    areas, losses = [], []
    loss = None
    if predictions.probabilities is not None:
        chosen = predictions.probabilities[np.arange(rows), true]
        loss = -np.log(np.clip(chosen, _LEAST, 1.0))
    for weights in iter_resampled_weights(rows, resamples, seed):
        areas.append(roc_areas(predictions.scores, true, weights))
        if loss is not None:
            losses.append(weights @ loss / rows)
    area = float(roc_areas(predictions.scores, true, np.ones((1, rows)))[0])
    if np.isfinite(area):
        found["roc_auc"] = interval_of_resamples(area, np.concatenate(areas), confidence=confidence)
    if loss is not None:
        mean = float(loss.mean())
        left_out = (loss.sum() - loss) / max(1, rows - 1)
        found["log_loss"] = interval_of_resamples(
            mean,
            np.concatenate(losses),
            influence=(left_out, np.ones(rows)),
            confidence=confidence,
        )
    return found


def roc_areas(scores: Array, true: Array, weights: Array) -> Array:
    """Area under the ROC curve, one against the rest, averaged over the classes that occur.

    Args:
        scores: `(rows, classes)`; with two classes the second is the positive one.
        true: `(rows,)` indices.
        weights: `(resamples, rows)`: how often each row counts.

    Returns:
        `(resamples,)`; NaN where no class has both rows of it and rows of others.
    """
    import numpy as np

    classes = range(scores.shape[1]) if scores.shape[1] > 2 else (1,)
    total, counted = np.zeros(len(weights)), np.zeros(len(weights))
    for k in classes:
        order = np.argsort(scores[:, k], kind="stable")
        ranked = scores[order, k]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        ordered = weights[:, order].astype(np.float64)
        mine = true[order] == k
        positive = np.add.reduceat(ordered * mine, starts, axis=1)
        negative = np.add.reduceat(ordered * ~mine, starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative
        pairs = positive.sum(axis=1) * negative.sum(axis=1)
        won = (positive * (below + negative / 2)).sum(axis=1)
        total += np.divide(won, pairs, out=np.zeros_like(won), where=pairs > 0)
        counted += pairs > 0
    undefined = np.full(len(weights), np.nan)
    return np.asarray(np.divide(total, counted, out=undefined, where=counted > 0))


def _curves(
    labels: tuple[str, ...], true: Array, scores: Array
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Thinned to a hundred points; a class without rows of both kinds has no curve."""
    import numpy as np
    from sklearn.metrics import roc_curve

    found = {}
    for k, label in enumerate(labels[:_CURVE_CLASSES]):
        if len(labels) == 2 and k == 0:
            continue
        mine = true == k
        if not mine.any() or mine.all():
            continue
        false_rate, true_rate, _ = roc_curve(mine, scores[:, k])
        grid = np.linspace(0, len(false_rate) - 1, min(_CURVE_POINTS, len(false_rate)))
        picked = np.unique(grid.round().astype(int))
        found[label] = (
            tuple(np.round(false_rate[picked], 6).tolist()),
            tuple(np.round(true_rate[picked], 6).tolist()),
        )
    return found
