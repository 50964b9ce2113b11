"""Who uses the cache of finished stages now: runs of the line share it, cleaning wants it alone.

The kernel lets go of the lock when a process dies, so that a crash leaves none behind.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from dukou.package.disk import hold_lock, translate_errors

_LOCK = ".ship.lock"
# A data stage that read callers' rows says so in its facts: they are never kept.
CAPTURED = "captured"


@contextlib.contextmanager
def use_cache(home: Path) -> Iterator[None]:
    """Held by a run of the line: nothing that it has found or left is taken away meanwhile.

    Raises:
        ResourceError: `store.not-writable`.
    """
    with contextlib.ExitStack() as held:
        with translate_errors(home):
            held.enter_context(hold_lock(home / _LOCK, shared=True, wait=True))
        yield


@contextlib.contextmanager
def hold_cache_alone(home: Path) -> Iterator[bool]:
    """Gives whether no run uses the cache; where none does, none begins within the block."""
    with contextlib.ExitStack() as held:
        with translate_errors(home):
            alone = held.enter_context(hold_lock(home / _LOCK, shared=False, wait=False))
        yield alone


def is_cache_used(home: Path) -> bool:
    """Whether a run uses the cache at this moment; makes nothing."""
    if not (home / _LOCK).exists():
        return False
    with hold_cache_alone(home) as alone:
        return not alone


def remove_captured(home: Path) -> int | None:
    """Takes away the working folders that runs which were killed left behind: they may hold callers' rows.

    Returns:
        How many folders; None while a run goes on, which takes away its own.
    """
    if not (home / "cache").is_dir():
        return 0
    with hold_cache_alone(home) as alone:
        if not alone:
            return None
        found = [*(home / "cache").glob("retrain-*"), *(home / "cache" / "stages").glob("*/.*")]
        for folder in found:
            shutil.rmtree(folder, ignore_errors=True)
    return len(found)
