"""What a person should know before they rely on a model: its limits, computed, each with its numbers.

The worst parts of the rows, what its probabilities are worth, the range of what it learned from and how
many held-out rows lay outside, and where there were too few rows to say. Each is an entry with a `kind`,
a `sentence` for people and the numbers for programs; the card carries them with the version.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.data import DataSet
    from dukou.evaluate.evaluation import Evaluation
    from dukou.evaluate.slices import SliceTable

    Array = np.ndarray[Any, Any]

# Fewer held-out rows than this leave wide intervals on everything.
FEW_ROWS = 200
FEW_CLASS_ROWS = 20
_NAMED = 5
# A miscalibration that is real and this small is nobody's trouble.
_SMALL_ERROR = 0.02
_KNOWN_VALUES = 30

Limitation = dict[str, Any]


def find_limitations(evaluation: Evaluation, train: DataSet, test: DataSet) -> list[Limitation]:
    """The limits of a model, worst first within each kind.

    Args:
        evaluation: of the model, on `test`.
        train: the rows that it learned from.
        test: the held-out rows.

    Returns:
        Documents of plain values with at least `kind` and `sentence`. Kinds: `slice`, `calibration`,
        `input-range`, `few-rows`, `rare-class`. The same rows and evaluation give the same documents.
    """
    found = _limits_of_slices(evaluation.slices) if evaluation.slices else []
    if evaluation.calibration is not None:
        found += _limits_of_calibration(evaluation)
    found += [_limit_of_inputs(train, test)]
    found += _limits_of_rows(evaluation, train)
    return found


def _limits_of_slices(table: SliceTable) -> list[Limitation]:
    found = []
    for part in table.worse[:_NAMED]:
        word = "right on" if table.metric == "accuracy" else "off on average by"
        value = _say(table.metric, part.value.value)
        rest = _say(table.metric, part.value.value - part.difference.value)
        sentence = (
            f"Worse where `{part.name}`: {word} {value} of {part.rows} rows against {rest} of the others"
            if table.metric == "accuracy"
            else f"Worse where `{part.name}`: {word} {value} on {part.rows} rows, on the others by {rest}"
        )
        found.append(
            {
                "kind": "slice",
                "sentence": sentence + ".",
                "slice": part.name,
                "rows": part.rows,
                "metric": table.metric,
                "value": part.value.to_json(),
                "difference": part.difference.to_json(),
            }
        )
    if not found:
        found.append(
            {
                "kind": "slice",
                "sentence": (
                    f"Of {table.tested} parts of the rows that were looked at, none is worse than the "
                    "rest beyond chance; that proves no part as good as the rest."
                ),
                "slice": None,
                "rows": 0,
                "metric": table.metric,
                "value": None,
                "difference": None,
            }
        )
    return found


def _say(metric: str, value: float) -> str:
    return f"{value:.1%}" if metric == "accuracy" else f"{value:.4g}"


def _limits_of_calibration(evaluation: Evaluation) -> list[Limitation]:
    found = evaluation.calibration
    assert found is not None  # noqa: S101 - asked by the caller
    error = found.error
    if error.low > 0 and error.value > _SMALL_ERROR:
        lean = "more sure than it is right" if found.leaning > 0 else "less sure than it is right"
        if found.of != "said":
            lean = f"says `{found.of}` {'more' if found.leaning > 0 else 'less'} than it comes true"
        else:
            lean = f"is {lean}"
        sentence = (
            f"Probabilities are off by {error.value:.1%} on average (at least {error.low:.1%}): the "
            f"model {lean}."
        )
    else:
        sentence = (
            f"Probabilities are off by {error.value:.1%} on average, {error.high:.1%} at most; "
            "no miscalibration that matters was found."
        )
    return [
        {
            "kind": "calibration",
            "sentence": sentence,
            "error": error.to_json(),
            "leaning": found.leaning,
        }
    ]


def _limit_of_inputs(train: DataSet, test: DataSet) -> Limitation:
    """The range of each feature in the training rows, and the share of held-out rows outside of it."""
    import numpy as np

    features: dict[str, Any] = {}
    beyond = np.zeros(test.rows, dtype=bool)
    for name, column in train.features.items():
        other = test.features.get(name)
        if other is None or column.size != len(column) or other.size != len(other):
            continue
        known, outside = _range_of(column.reshape(-1), other.reshape(-1))
        beyond |= outside
        features[name] = {**known, "outside": round(float(outside.mean()), 6)}
    share = float(beyond.mean())
    some = sorted((name for name in features if features[name]["outside"]), key=_by_share(features))
    where = f", most of all in {', '.join(f'`{name}`' for name in some[:3])}" if some else ""
    sentence = (
        f"It learned from {train.rows:,} rows and knows nothing outside of their ranges: {share:.1%} of "
        f"the held-out rows lay outside in some feature{where}."
    )
    return {
        "kind": "input-range",
        "sentence": sentence,
        "rows": train.rows,
        "outside": round(share, 6),
        "features": features,
    }


def _by_share(features: Mapping[str, Any]) -> Any:
    return lambda name: (-features[name]["outside"], name)


def _range_of(column: Array, other: Array) -> tuple[dict[str, Any], Array]:
    import numpy as np

    if column.dtype.kind in "iufb" and other.dtype.kind in "iufb":
        numbers, asked = column.astype(np.float64), other.astype(np.float64)
        if not np.isfinite(numbers).any():
            return {"low": None, "high": None}, np.zeros(len(other), dtype=bool)
        low, high = float(np.nanmin(numbers)), float(np.nanmax(numbers))
        return {"low": low, "high": high}, np.asarray((asked < low) | (asked > high))
    seen = {str(value) for value in column.tolist()}
    outside = np.array([str(value) not in seen for value in other.tolist()])
    # A column of names would put every name into the card.
    known = sorted(seen) if len(seen) <= _KNOWN_VALUES else None
    return {"values": known, "distinct": len(seen)}, outside


def _limits_of_rows(evaluation: Evaluation, train: DataSet) -> list[Limitation]:
    from dukou.evaluate.labels import as_labels

    found: list[Limitation] = []
    if evaluation.rows < FEW_ROWS:
        name = "accuracy" if evaluation.task == "classification" else "mae"
        metric = evaluation.metrics[name]
        found.append(
            {
                "kind": "few-rows",
                "sentence": (
                    f"Judged on {evaluation.rows} held-out rows only: its {name} is known as "
                    f"{metric.low:.4g} to {metric.high:.4g}, not better."
                ),
                "rows": evaluation.rows,
                "metric": name,
                "value": metric.to_json(),
            }
        )
    if evaluation.task != "classification":
        return found
    labels = as_labels(train.target).tolist()
    rare = {
        label: {"train": labels.count(label), "held_out": report.support}
        for label, report in evaluation.per_class.items()
        if report.support < FEW_CLASS_ROWS
    }
    if rare:
        fewest = sorted(rare, key=lambda label: (rare[label]["held_out"], label))
        said = ", ".join(
            f"`{label}` ({rare[label]['held_out']} held out, {rare[label]['train']} to learn from)"
            for label in fewest[:_NAMED]
        )
        more = f" and {len(rare) - _NAMED} more" if len(rare) > _NAMED else ""
        found.append(
            {
                "kind": "rare-class",
                "sentence": f"Little is known of classes with few rows: {said}{more}.",
                "classes": rare,
            }
        )
    return found
