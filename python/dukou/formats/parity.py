"""Proof that a conversion is faithful: its answers against the framework's own, on the same rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Relative and absolute difference that float32 arithmetic explains.
TOLERANCE = 1e-4
# Trees compare with thresholds; rounded to float32 a row on a threshold takes the other branch of a
# few trees. The share of a forest's votes that this may move, the labels agreeing.
TREE_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class Parity:
    """How close a conversion came.

    Attributes:
        rows: how many rows were compared.
        labels_differ: of how many the class differs, all of them ties; 0 for a regressor.
        largest: the largest difference of a number (a probability, score or prediction).
        scale: what `largest` is measured against: 1 for probabilities, the largest magnitude else.
        note: what a reader of the lineage should know, where there is something.
    """

    rows: int
    labels_differ: int
    largest: float
    scale: float
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """For the lineage's facts."""
        return {
            "rows": self.rows,
            "labels_differ": self.labels_differ,
            "largest_difference": self.largest,
            "scale": self.scale,
            "note": self.note,
        }


def check_parity(
    name: str,
    *,
    labels: tuple[Array, Array] | None,
    numbers: tuple[Array, Array] | None,
    by_trees: bool,
) -> Parity:
    """Compares (converted, framework's) pairs.

    Args:
        name: the model, for the message.
        labels: class labels `(rows,)`, as integers or strings.
        numbers: probabilities or scores `(rows, classes)`, or predictions `(rows, …)`.
        by_trees: whether the model decides by thresholds, see `TREE_TOLERANCE`.

    Raises:
        InputError: `formats.parity`, with the largest difference and the first row of it.
    """
    import numpy as np

    rows, differ = 0, 0
    if labels is not None:
        ours, theirs = (np.asarray(a).reshape(-1).astype(str) for a in labels)
        rows = len(theirs)
        wrong = ours != theirs
        tied = wrong & _on_a_tie(numbers, rows)
        differ = int(wrong.sum())
        if (wrong & ~tied).any():
            row = int(np.flatnonzero(wrong & ~tied)[0])
            raise InputError(
                "formats.parity",
                f"`{name}` converted says another class on {differ} of {rows} rows: on row {row} "
                f"`{ours[row]}`, the framework says `{theirs[row]}`",
            )
    if numbers is None:
        return Parity(rows, differ, 0.0, 1.0)
    ours, theirs = _align(name, *numbers)
    rows = len(theirs)
    scale = 1.0 if labels is not None and _is_distribution(theirs) else _magnitude(theirs)
    apart = np.abs(ours - theirs)
    apart[np.isnan(ours) & np.isnan(theirs)] = 0.0
    largest = float(np.nan_to_num(apart, nan=np.inf).max(initial=0.0))
    if largest <= TOLERANCE * scale:
        note = f"{differ} of {rows} rows are ties that float32 breaks otherwise" if differ else ""
        return Parity(rows, differ, largest, scale, note)
    if by_trees and labels is not None and largest <= TREE_TOLERANCE * scale:
        note = (
            f"labels agree on {rows - differ} of {rows} rows, probabilities differ by up to "
            f"{largest:.2g}: rows on a threshold take another branch in float32"
        )
        return Parity(rows, differ, largest, scale, note)
    if by_trees and labels is None and _few_jump(apart, scale):
        note = (
            f"predictions differ by up to {largest:.3g} on less than 1 % of {rows} rows: rows on a "
            "threshold take another branch in float32"
        )
        return Parity(rows, differ, largest, scale, note)
    row = int(np.unravel_index(int(np.nan_to_num(apart, nan=np.inf).argmax()), apart.shape)[0])
    raise InputError(
        "formats.parity",
        f"`{name}` converted differs from the framework by up to {largest:.3g} (row {row}), "
        f"{TOLERANCE * scale:.3g} is allowed",
    )


def _on_a_tie(numbers: tuple[Array, Array] | None, rows: int) -> Array:
    """Rows where the framework's own two best classes are as good as equal."""
    import numpy as np

    if numbers is None:
        return np.zeros(rows, dtype=bool)
    theirs = np.asarray(numbers[1], dtype=np.float64).reshape(rows, -1)
    if theirs.shape[1] == 1:
        return np.asarray(np.abs(theirs[:, 0]) <= TOLERANCE)
    ordered = np.sort(theirs, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2] <= TOLERANCE * _magnitude(theirs))


def _align(name: str, ours: Array, theirs: Array) -> tuple[Array, Array]:
    """Both as float64 `(rows, columns)`; a binary margin is the second of two scores."""
    import numpy as np

    ours, theirs = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    ours, theirs = ours.reshape(len(ours), -1), theirs.reshape(len(theirs), -1)
    if theirs.shape[1] == 1 and ours.shape[1] == 2:
        ours = ours[:, 1:]
    if ours.shape != theirs.shape:
        raise InputError(
            "formats.parity",
            f"`{name}` converted answers {list(ours.shape)}, the framework {list(theirs.shape)}",
        )
    return ours, theirs


def _is_distribution(values: Array) -> bool:
    import numpy as np

    return bool((values >= 0).all() and np.allclose(values.sum(axis=1), 1.0, atol=1e-3))


def _magnitude(values: Array) -> float:
    import numpy as np

    finite = np.abs(values[np.isfinite(values)])
    return max(1.0, float(finite.max(initial=0.0)))


def _few_jump(apart: Array, scale: float) -> bool:
    import numpy as np

    jumped = (apart > TOLERANCE * scale).any(axis=1)
    return bool(np.isfinite(apart).all() and jumped.mean() < 0.01)
