"""Tells a registry that was never filled from one that has lost what it held.

An empty file reads as an empty database, and versions would be numbered from 1 again. SQLite leaves one
only while a registry is being made, which nobody sees who holds the registry's lock.
"""

from __future__ import annotations

from pathlib import Path

from dukou.base.errors import StateError


def is_blank(file: Path) -> bool:
    """Whether the file is not there, or has no bytes."""
    try:
        return file.stat().st_size == 0
    except FileNotFoundError:
        return True


def refuse_lost(file: Path) -> None:
    """Refuses an empty file beside a store that holds versions.

    Args:
        file: the registry's, in DUKOU_HOME.

    Raises:
        StateError: `registry.unreadable`.
    """
    from dukou.package.store import Store

    if not file.exists() or not is_blank(file):
        return
    versions = len(Store(file.parent / "store").versions())
    if versions:
        raise StateError(
            "registry.unreadable",
            f"the registry `{file}` is empty, and the store beside it holds {versions} "
            f"version{'' if versions == 1 else 's'}: what it said of them is lost",
            hint="restore it from a backup; to begin again with version 1, take the empty file away",
        )
