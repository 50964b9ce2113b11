"""Whether two servers' answers say the same: status, names, shapes, numbers within a tolerance. Pure.

Nothing is said of what may differ between two right servers: headers, ids of requests, the number that a
version has, the words of an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from dukou.base.dtypes import NUMPY

# Fields of an answer that are each server's own matter.
_OWN = ("model_version", "model_name", "id", "parameters")
# From so many numbers on they are compared all at once.
_MANY = 256
_HEADER_LENGTH = "inference-header-content-length"


class Answer(NamedTuple):
    """What a server said.

    Attributes:
        status: of HTTP.
        headers: by their names in lower case.
        body: whole, uncompressed.
    """

    status: int
    headers: dict[str, str]
    body: bytes


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


def compare(old: Answer, new: Answer, tolerance: Tolerance) -> str | None:
    """What differs first, in words; None where the two say the same."""
    if old.status != new.status:
        return f"the status is {old.status}, and {new.status} here"
    if old.status >= 400:
        return None
    try:
        left, right = _parsed(old), _parsed(new)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        return None if old.body == new.body else f"an answer cannot be read: {error}"
    return next(_differences(left, right, "", tolerance), None)


def _parsed(answer: Answer) -> Any:
    """The JSON, with V2's outputs by their names and binary ones read."""
    length = answer.headers.get(_HEADER_LENGTH)
    head = answer.body if length is None else answer.body[: int(length)]
    document = json.loads(head)
    if not isinstance(document, dict):
        return document
    outputs = document.get("outputs")
    if isinstance(outputs, list) and all(isinstance(o, dict) and "datatype" in o for o in outputs):
        rest = answer.body[len(head) :]
        return {
            **{key: value for key, value in document.items() if key not in (*_OWN, "outputs")},
            "outputs": dict(_tensors(outputs, rest)),
        }
    return {key: value for key, value in document.items() if key != "model_version"}


def _tensors(outputs: list[dict[str, Any]], rest: bytes) -> Iterator[tuple[str, Any]]:
    place = 0
    for output in outputs:
        # KServe writes `null` where it has none.
        size = (output.get("parameters") or {}).get("binary_data_size")
        if size is None:
            data = list(_flat(output.get("data") or []))
        else:
            data = elements(output["datatype"], rest[place : place + int(size)])
            place += int(size)
        yield (
            output["name"],
            {"datatype": output["datatype"], "shape": list(output["shape"]), "data": data},
        )


def _flat(nested: Any) -> Iterator[Any]:
    if isinstance(nested, list):
        for each in nested:
            yield from _flat(each)
    else:
        yield nested


def elements(datatype: str, raw: bytes) -> list[Any]:
    """The elements of a V2 tensor's raw bytes; text as text."""
    if datatype == "BYTES":
        found, place = [], 0
        while place < len(raw):
            size = int.from_bytes(raw[place : place + 4], "little")
            found.append(raw[place + 4 : place + 4 + size].decode("utf-8", "backslashreplace"))
            place += 4 + size
        return found
    import numpy as np

    if datatype == "BF16":  # the upper half of a float32
        wide = np.frombuffer(raw, "<u2").astype(np.uint32) << 16
        return list(wide.view(np.float32).tolist())
    return list(np.frombuffer(raw, NUMPY[datatype]).tolist())


def _differences(old: Any, new: Any, place: str, tolerance: Tolerance) -> Iterator[str]:
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
            yield from _differences(left, right, f"{place}[{index}]", tolerance)
    elif isinstance(old, dict) and isinstance(new, dict):
        if old.keys() != new.keys():
            only = ", ".join(f"`{key}`" for key in sorted(old.keys() ^ new.keys()))
            yield f"{where}: only one of the two has {only}"
            return
        for key in old:
            yield from _differences(old[key], new[key], f"{place}.{key}", tolerance)
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
