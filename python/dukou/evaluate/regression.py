"""A regressor is judged: r2, rmse and mae with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.evaluate.intervals import Interval, interval_of_resamples, iter_resampled_weights

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

METRICS = ("r2", "rmse", "mae")
SHOWN_ANSWERS = 500


def judge_numbers(
    predicted: Array, truth: Array, *, resamples: int, seed: int, confidence: float
) -> dict[str, Interval]:
    """Metrics of a regressor's answers; without `r2` where the truth is one number in every row.

    Args:
        predicted: `(rows,)`.
        truth: `(rows,)` of numbers.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        confidence: of the intervals.

    Raises:
        InputError: `data.mismatch`, where the truth is not numbers or of another length.
    """
    import numpy as np
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    if truth.dtype.kind not in "iufb" or len(truth) != len(predicted):
        raise InputError(
            "data.mismatch",
            f"a number is expected for each of {len(predicted)} answers, the truth is "
            f"{len(truth)} of {truth.dtype}",
        )
    true = truth.astype(np.float64)
    resampled: dict[str, list[Array]] = {name: [] for name in METRICS}
    for weights in iter_resampled_weights(len(true), resamples, seed):
        for name, values in _weighted(predicted, true, weights).items():
            resampled[name].append(values)
    points = {
        "r2": r2_score(true, predicted) if len(true) > 1 else float("nan"),
        "rmse": root_mean_squared_error(true, predicted),
        "mae": mean_absolute_error(true, predicted),
    }
    found = {
        name: interval_of_resamples(
            float(points[name]), np.concatenate(resampled[name]), confidence=confidence
        )
        for name in METRICS
    }
    return {name: value for name, value in found.items() if value.method != "undefined"}


def sample_answers(
    predicted: Array, truth: Array, *, seed: int, most: int = SHOWN_ANSWERS
) -> tuple[tuple[float, float], ...]:
    """(true, predicted) of at most `most` rows, drawn at random, in the order of the data: for plots."""
    import numpy as np

    rows = np.arange(len(truth))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).permutation(len(truth))[:most])
    return tuple(
        (float(f"{true:.6g}"), float(f"{said:.6g}"))
        for true, said in zip(truth[rows].tolist(), predicted[rows].tolist(), strict=True)
    )


def _weighted(predicted: Array, true: Array, weights: Array) -> dict[str, Array]:
    import numpy as np

    rows = len(true)
    apart = predicted - true
    squared = weights @ apart**2
    mean = (weights @ true) / rows
    around = weights @ true**2 - rows * mean**2
    unexplained = np.divide(squared, around, out=np.full(len(around), np.nan), where=around > 0)
    return {
        "r2": 1 - unexplained,
        "rmse": np.sqrt(squared / rows),
        "mae": weights @ np.abs(apart) / rows,
    }
