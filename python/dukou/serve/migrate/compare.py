"""Whether two values say the same: names, shapes, numbers within a tolerance. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

# From so many numbers on they are compared all at once.
_MANY = 256


class Tolerance(NamedTuple):
    """How far two numbers may be apart and still be the same.

    Attributes:
        relative: of the larger one.
        absolute: beside that.
    """

    relative: float = 1e-4
    absolute: float = 1e-5

    def holds(self, old: float, new: float) -> bool:
        """Whether two numbers are the same within it; NaN is the same as NaN."""
        if math.isnan(old) or math.isnan(new):
            return math.isnan(old) and math.isnan(new)
        if math.isinf(old) or math.isinf(new):
            return old == new
        return abs(old - new) <= self.absolute + self.relative * max(abs(old), abs(new))


def differences(old: Any, new: Any, tolerance: Tolerance, place: str = "") -> Iterator[str]:
    """What differs, in words, one after the other.

    Args:
        old: a number, a text, a list, a dictionary of them.
        new: the same of the other server.
        tolerance: for the numbers.
        place: of the two in the answer: `.outputs.y`.
    """
    where = f"`{place.lstrip('.')}`" if place else "the answer"
    if _is_number(old) and _is_number(new):
        if not tolerance.holds(float(old), float(new)):
            yield f"{where} is {old!r}, and {new!r} here"
    elif isinstance(old, list) and isinstance(new, list):
        if len(old) != len(new):
            yield f"{where} has {len(old)} elements, and {len(new)} here"
            return
        if len(old) >= _MANY and all(map(_is_number, old)) and all(map(_is_number, new)):
            yield from _among_many(old, new, place, tolerance)
            return
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from differences(left, right, tolerance, f"{place}[{index}]")
    elif isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            only = ", ".join(f"`{key}`" for key in sorted(old.keys() ^ new.keys()))
            yield f"{where}: only one of the two has {only}"
            return
        for key in old:
            yield from differences(old[key], new[key], tolerance, f"{place}.{key}")
    elif old != new or isinstance(old, bool) is not isinstance(new, bool):
        yield f"{where} is {_short(old)}, and {_short(new)} here"


def _among_many(old: list[Any], new: list[Any], place: str, tolerance: Tolerance) -> Iterator[str]:
    """The same for long lists of numbers, which would keep everybody waiting one by one."""
    import numpy as np

    left, right = np.asarray(old, np.float64), np.asarray(new, np.float64)
    with np.errstate(invalid="ignore"):
        room = tolerance.absolute + tolerance.relative * np.maximum(np.abs(left), np.abs(right))
        same = (np.abs(left - right) <= room) | (left == right)
    same |= np.isnan(left) & np.isnan(right)
    # An infinite room holds everything: only equals are equal to an infinity.
    same &= (left == right) | (np.isfinite(left) & np.isfinite(right)) | np.isnan(left)
    for index in np.flatnonzero(~same)[:1].tolist():
        yield f"`{place.lstrip('.')}[{index}]` is {old[index]!r}, and {new[index]!r} here"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
