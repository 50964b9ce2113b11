"""Durations as people write them: `90s`, `15min`, `1h`, `7d`, `2w`."""

from __future__ import annotations

import re
from datetime import timedelta

from dukou.base.errors import InputError

_UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_DURATION = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|min|h|d|w)\s*\Z")


def parse_duration(text: str, *, key: str, code: str = "project.invalid") -> timedelta:
    """Reads a duration.

    Args:
        text: a number and a unit: `ms`, `s`, `min`, `h`, `d` or `w`.
        key: what it was written for, for the error.
        code: of the error.

    Raises:
        InputError: `code`, for what is no duration, or none that is longer than nothing.
    """
    found = _DURATION.match(text)
    try:
        length = float(found["number"]) * _UNITS[found["unit"]] if found else timedelta(0)
    except OverflowError:
        length = timedelta(0)
    if length <= timedelta(0):
        raise InputError(
            code,
            f"`{key}` is `{text}`, must be a duration",
            hint="a number and a unit: `90s`, `15min`, `1h`, `7d`, `2w`",
        )
    return length
