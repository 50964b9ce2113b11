"""Sizes of memory as people write them: `512k`, `256m`, `2g`; powers of 1,024, as containers count."""

from __future__ import annotations

import re

from dukou.base.errors import InputError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kmgt]?)(?:i?b)?\s*\Z", re.IGNORECASE)
_LARGEST = 1 << 60


def parse_size(text: str, *, key: str, code: str = "project.invalid") -> int:
    """Reads a size.

    Args:
        text: a number and a unit: `k`, `m`, `g` or `t`; `256MB` and `256MiB` are `256m`.
        key: what it was written for, for the error.
        code: of the error.

    Returns:
        Bytes, at least 1.

    Raises:
        InputError: `code`, for what is no size, or none that is larger than nothing.
    """
    found = _SIZE.match(text)
    size = float(found["number"]) * _UNITS[found["unit"].lower()] if found else 0.0
    if not 1 <= size <= _LARGEST:
        raise InputError(
            code,
            f"`{key}` is `{text}`, must be a size of memory",
            hint="a number and a unit: `512k`, `256m`, `2g`",
        )
    return int(size)


def write_size(count: int) -> str:
    """The inverse, for a file that people read: the largest unit that says it exactly, as `256m`."""
    for unit in ("g", "m", "k"):
        if count >= _UNITS[unit] and count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return str(count)
