"""Class labels have one form, text, so that a CSV's `3`, a graph's int64 3 and a 3.0 are one class."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def as_labels(values: Array) -> Array:
    """`(rows,)` of text: whole numbers without a point, the rest as it prints."""
    import numpy as np

    flat = np.asarray(values).reshape(-1)
    if flat.dtype.kind == "f" and np.isfinite(flat).all() and (flat == np.floor(flat)).all():
        flat = flat.astype(np.int64)
    if flat.dtype.kind == "b":
        flat = flat.astype(np.int64)
    if flat.dtype == object:
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in flat], dtype=str)
    return flat.astype(str)


def sort_labels(labels: set[str]) -> tuple[str, ...]:
    """Numbers by value, then text by letters."""

    def key(label: str) -> tuple[int, float, str]:
        try:
            return (0, float(label), label)
        except ValueError:
            return (1, 0.0, label)

    return tuple(sorted(labels, key=key))
