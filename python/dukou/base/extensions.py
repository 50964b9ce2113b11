"""Tables of things that can be added: what is built in, and what installed packages register beside it.

Knows names and references only; nothing is imported until one entry is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

from dukou.base.lazy import resolve


def list_extensions(group: str, builtin: Mapping[str, str]) -> dict[str, str]:
    """Every entry of a kind: name → `package.module:attribute`.

    Args:
        group: the entry-point group, as `dukou.readers`.
        builtin: the kind's literal table; its names cannot be taken by a package.

    Returns:
        The built-in entries in their order, then the registered ones by name.
    """
    found = dict(builtin)
    for name, reference in _read_entry_points(group):
        found.setdefault(name, reference)
    return found


@cache
def _read_entry_points(group: str) -> tuple[tuple[str, str], ...]:
    """Read once a process: every installed package's metadata is a file to open."""
    return tuple(sorted((entry.name, entry.value) for entry in metadata.entry_points(group=group)))


def load_extension(group: str, builtin: Mapping[str, str], name: str) -> Any:
    """A new object of the entry called `name`; entries are classes or factories without arguments."""
    return resolve(list_extensions(group, builtin)[name])()
