"""A traceback for a log: where it was and what kind of error, without values that somebody sent.

`could not convert string to float: 'Wang Xiaoming'` quotes what it met; so do most errors of that kind.
What stands in quotes is left out of an error's words, and what patterns find.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator

from dukou.trust.privacy.patterns import mask_personal

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|“[^”]*”")
_LONG_NUMBER = re.compile(r"\d{6,}")


def describe_privately(error: BaseException) -> str:
    """The lines that a log may hold of an error and of those that led to it."""
    return "\n".join(_lines(error, set()))


def hide_values(words: str) -> str:
    """An error's words without what it quotes, without long numbers and what patterns find."""
    words = mask_personal(_QUOTED.sub("`…`", words))
    return _LONG_NUMBER.sub("#", words)


def _lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _lines(before, seen)
        yield "\nwhich led to:\n"
    yield "Traceback (most recent call last):"
    for frame in traceback.extract_tb(error.__traceback__):
        yield f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        if frame.line:
            yield f"    {frame.line}"
    yield f"{type(error).__qualname__}: {hide_values(str(error))}"
