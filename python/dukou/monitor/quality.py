"""How right the served answers were, from labels that came later: accuracy, recall and F1, or for numbers
R², RMSE and MAE; all with intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from dukou.monitor.store import Labelled

    Array = np.ndarray[Any, Any]

METRICS = ("accuracy", "recall_macro", "f1_macro")
_RESAMPLES = 500


def judge_served(
    labelled: Labelled, labels: Sequence[str], *, confidence: float = 0.95, seed: int = 0
) -> dict[str, Any]:
    """The quality of what was served.

    Args:
        labelled: answered rows with their truth.
        labels: the model's classes, where known.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A document: `rows`, `metrics` (name → value, low, high) of all rows, and `versions` (version →
        the same). For a model that answers numbers the metrics are `r2`, `rmse` and `mae`, of the rows whose
        label is a number; `unreadable` counts the others.
    """
    import numpy as np

    requests, truth = labelled.requests, labelled.truth
    document = {"rows": requests.rows, **_judge(labelled, labels, confidence, seed)}
    versions = {}
    for version in sorted(set(requests.versions.tolist()), key=_order):
        rows = np.flatnonzero(requests.versions == version)
        part = type(labelled)(requests.take(rows), truth[rows])
        versions[version] = {"rows": len(rows), **_judge(part, labels, confidence, seed)}
    return {**document, "versions": versions}


def _judge(
    labelled: Labelled, labels: Sequence[str], confidence: float, seed: int
) -> dict[str, Any]:
    import numpy as np

    from dukou.evaluate.classification import judge_classes
    from dukou.evaluate.predict import Predictions
    from dukou.evaluate.regression import judge_numbers

    said = labelled.requests.said(labels)
    if said is None:
        numbers = labelled.requests.numbers()
        if numbers is None:
            return {"metrics": {}}
        truth_numbers = as_numbers(labelled.truth)
        good = np.isfinite(truth_numbers)
        if not good.any():
            return {"metrics": {}, "unreadable": int((~good).sum())}
        metrics = judge_numbers(
            numbers[good],
            truth_numbers[good],
            resamples=_RESAMPLES,
            seed=seed,
            confidence=confidence,
        )
        return {
            "metrics": {name: value.to_json() for name, value in metrics.items()},
            "unreadable": int((~good).sum()),
        }
    truth = [str(label) for label in labelled.truth.tolist()]
    names = tuple(dict.fromkeys([*labels, *sorted({*truth, *said})]))
    index = {name: place for place, name in enumerate(names)}
    chosen = np.array([index[name] for name in said], dtype=np.int64)
    found = judge_classes(
        Predictions(names, chosen, None, None),
        np.array(truth, dtype=object),
        resamples=_RESAMPLES,
        seed=seed,
        confidence=confidence,
    )
    return {"metrics": {name: found.metrics[name].to_json() for name in METRICS}}


def as_numbers(labels: Array) -> Array:
    """`(rows,)` float64: labels as numbers, NaN where one is none."""
    import numpy as np

    values = np.full(len(labels), np.nan)
    for place, label in enumerate(labels.tolist()):
        try:
            values[place] = float(label)
        except (TypeError, ValueError):
            continue  # stays NaN: the caller counts these
    return values


def _order(version: str) -> tuple[int, str]:
    return (int(version), "") if version.isdigit() else (1 << 62, version)
