"""A tensor's raw bytes ↔ its elements, by V2's datatypes: little-endian, text with its length before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dukou.base.dtypes import NUMPY


def read_elements(datatype: str, raw: bytes) -> list[Any]:
    """The elements of a tensor's raw bytes; text as text.

    Args:
        datatype: as V2 names it.
        raw: as they lie in memory.

    Raises:
        LookupError: there is no such datatype.
        ValueError: they do not come to whole elements.
    """
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


def write_elements(datatype: str, elements: Sequence[Any]) -> bytes:
    """The raw bytes of elements.

    Args:
        datatype: as V2 names it.
        elements: flat; text or bytes where the datatype is BYTES.

    Raises:
        LookupError: there is no such datatype.
        ValueError, TypeError, OverflowError: an element is none of it.
    """
    if datatype == "BYTES":
        texts = [each.encode() if isinstance(each, str) else each for each in elements]
        if not all(isinstance(text, bytes) for text in texts):
            raise TypeError("an element is no text")
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    import numpy as np

    if datatype == "BF16":
        bits = np.asarray(elements, "<f4").view(np.uint32)
        # To the nearest, ties to even; a NaN stays one.
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        nan = np.isnan(bits.view(np.float32))
        return np.where(nan, (bits >> 16) | 0x40, rounded).astype("<u2").tobytes()
    given = np.asarray(elements)
    held = np.asarray(elements, NUMPY[datatype])
    if held.dtype.kind in "iub" and held.size and not np.array_equal(given, held):
        raise ValueError("an element is no such whole number")
    return held.tobytes()
