"""One window of requests against the reference: which features moved, and whether to raise an alarm.

The alarm is a promise: without drift, no more of them than `false_alarms` says. A window's share of
that is its length in time; Benjamini and Hochberg's procedure shares it among the features (under no
drift at all, the chance of any rejection is then at most the level).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dukou.monitor.drift import load_drift_test
from dukou.monitor.profile import count_numbers, count_texts

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# A difference that is real and this small is nobody's trouble.
LEAST_EFFECT = 0.05
# The effect for which the rows are stated that it takes to find it.
STATED_EFFECT = 0.25
_LARGEST_LEVEL = 0.05
_SHOWN = 10
PREDICTED, PREDICTED_NUMBER = "(predicted class)", "(predicted number)"


@dataclass(frozen=True, slots=True)
class Promise:
    """How many false alarms there may be.

    Attributes:
        alarms: so many,
        within: in so much time.
    """

    alarms: float
    within: timedelta

    def level(self, length: timedelta) -> float:
        """The chance of a false alarm that a window of this length may have."""
        share = self.alarms * (length / self.within)
        return min(_LARGEST_LEVEL, max(share, 1e-12))


def find_drift(
    profile: Mapping[str, Any],
    inputs: Mapping[str, Array],
    predicted: Sequence[str] | Array | None,
    *,
    level: float,
    test: str = "chi-square",
) -> dict[str, Any]:
    """Compares a window with the reference.

    Args:
        profile: of the version that answered.
        inputs: the requests' tensors by input name, rows on the first axis.
        predicted: the class that each row was given, or the number, as an array; None for a model that
            gives neither.
        level: the chance of a false alarm that is allowed.
        test: the name of a registered drift test.

    Returns:
        A document: `alarm`, `level`, `rows`, `tested`, `moved` (how many features) and `features`, the
        furthest first, each with `name`, `p_value`, `effect` and `moved`; and `rows_needed`, in which
        an effect of `STATED_EFFECT` in one feature is found four times out of five.
    """
    judge = load_drift_test(test)
    found = []
    rows = 0
    for name, reference, window in _histograms(profile, inputs, predicted):
        rows = max(rows, sum(window))
        finding = judge.test(reference, window)
        found.append((name, finding, reference))
    count = len(found)
    order = sorted(range(count), key=lambda index: found[index][1].p_value)
    last = -1
    for rank, index in enumerate(order):
        if found[index][1].p_value <= level * (rank + 1) / count:
            last = rank
    rejected = set(order[: last + 1])
    features = [
        {
            "name": found[index][0],
            "p_value": found[index][1].p_value,
            "effect": round(found[index][1].effect, 4),
            "moved": index in rejected and found[index][1].effect >= LEAST_EFFECT,
        }
        for index in order
    ]
    moved = sum(bool(feature["moved"]) for feature in features)
    needed = [
        judge.rows_needed(reference, alpha=level / max(1, count), effect=STATED_EFFECT)
        for _, _, reference in found[:1]
    ]
    return {
        "alarm": moved > 0,
        "level": level,
        "rows": rows,
        "tested": count,
        "moved": moved,
        "features": features[:_SHOWN],
        "rows_needed": {"effect": STATED_EFFECT, "rows": needed[0] if needed else 0},
        "test": test,
    }


def _histograms(
    profile: Mapping[str, Any],
    inputs: Mapping[str, Array],
    predicted: Sequence[str] | Array | None,
) -> list[tuple[str, list[int], list[int]]]:
    import numpy as np

    found = []
    for feature in profile["features"]:
        array = inputs.get(feature["input"])
        if array is None or not len(array):
            continue
        flat = array.reshape(len(array), -1)
        if feature["index"] >= flat.shape[1]:
            continue
        column = flat[:, feature["index"]]
        if feature["kind"] == "number":
            if column.dtype.kind not in "iufb":
                continue
            window = count_numbers(column.astype(np.float64), feature["edges"])
        else:
            window = count_texts([str(value) for value in column.tolist()], feature["values"])
        if sum(count > 0 for count in feature["counts"]) > 1 or sum(window) != max(window):
            found.append((feature["name"], list(feature["counts"]), window))
    if predicted is not None and profile.get("predicted"):
        known = profile["predicted"]
        numbers = isinstance(predicted, np.ndarray)
        if numbers != ("edges" in known):
            return found
        if isinstance(predicted, np.ndarray):
            window = count_numbers(predicted, known["edges"])
            return [*found, (PREDICTED_NUMBER, list(known["counts"]), window)]
        window = count_texts(list(predicted), known["values"])
        found.append((PREDICTED, list(known["counts"]), window))
    return found
