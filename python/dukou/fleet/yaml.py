"""Documents as YAML, with comments: where a number comes from stands beside the number.

The part of YAML 1.2 that plain documents need, written and never read: every text that could be read as
anything else is a JSON string, which YAML takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

# A text that nobody takes for a number, a truth value, nothing, or the beginning of a structure.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9/._-]*\Z")
_WORDS = frozenset(("y", "n", "yes", "no", "true", "false", "on", "off", "null", "nan", "inf"))


class Noted(NamedTuple):
    """A value with a comment.

    Attributes:
        value: of any kind.
        note: one line or several; stands above the key.
    """

    value: Any
    note: str


def dump_yaml(document: Mapping[str, Any], head: str = "") -> str:
    """One document; `head` is a comment above it."""
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    return "\n".join([*lines, *_mapping(document, "")]) + "\n"


def without_notes(document: Any) -> Any:
    """The plain values."""
    if isinstance(document, Noted):
        return without_notes(document.value)
    if isinstance(document, Mapping):
        return {key: without_notes(value) for key, value in document.items()}
    if isinstance(document, list | tuple):
        return [without_notes(value) for value in document]
    return document


def _mapping(document: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in document.items():
        if isinstance(value, Noted):
            yield from (f"{indent}# {line}" for line in value.note.splitlines())
            value = value.value
        name = _scalar(key)
        if isinstance(value, Mapping) and value:
            yield f"{indent}{name}:"
            yield from _mapping(value, indent + "  ")
        elif isinstance(value, list | tuple) and value:
            yield f"{indent}{name}:"
            yield from _sequence(value, indent)
        else:
            yield f"{indent}{name}: {_scalar(value)}"


def _sequence(values: Sequence[Any], indent: str) -> Iterator[str]:
    for value in values:
        if isinstance(value, Noted):
            yield from (f"{indent}# {line}" for line in value.note.splitlines())
            value = value.value
        if isinstance(value, Mapping) and value:
            first, *rest = _mapping(value, indent + "  ")
            if first.lstrip().startswith("#"):
                yield f"{indent}-"
                yield first
            else:
                yield f"{indent}- {first.lstrip()}"
            yield from rest
        else:
            yield f"{indent}- {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.match(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
