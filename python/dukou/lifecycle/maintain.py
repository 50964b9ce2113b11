"""Maintenance: what has to be done again and again, when it was done last, and doing it.

`[maintain]` of the project says how often; each time is a record in the registry with its audit event.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from dukou.base.durations import parse_duration
from dukou.base.errors import DukouError, InputError, StateError
from dukou.base.lazy import resolve
from dukou.lifecycle.project import Project

Say = Callable[[str], None]
Chore = Callable[[Project, Path, Say], Mapping[str, Any]]

# chore → where it lives, and what it is for. Each raises a DukouError where it finds something wrong.
CHORES: dict[str, tuple[str, str]] = {
    "retrain": ("dukou.lifecycle.chores:retrain_again", "train again, through every gate"),
    "backup-drill": (
        "dukou.lifecycle.drill:drill_backup",
        "copy registry and store, open the copy, prove what is in it",
    ),
    "rotate-keys": (
        "dukou.lifecycle.chores:rotate_keys",
        "sign with a new key; the old is trusted",
    ),
    "retention": (
        "dukou.lifecycle.chores:keep_retention",
        "remove what is older than the interval",
    ),
    "audit-dependencies": (
        "dukou.lifecycle.dependencies:audit_dependencies",
        "installed packages against what they require and what the project pins",
    ),
}


@dataclass(frozen=True, slots=True)
class Due:
    """A chore with its interval.

    Attributes:
        name: as in `CHORES`.
        every: its interval; None where the project asks for none.
        last: when it was done last; None for never.
        outcome: of the last time: `done`, `failed`, or empty.
        due: when it is due; None where the project asks for none.
    """

    name: str
    every: timedelta | None
    last: datetime | None
    outcome: str
    due: datetime | None

    def is_due(self, now: datetime) -> bool:
        """Whether it should be done now."""
        return self.due is not None and self.due <= now


def list_chores(project: Project, home: Path, *, now: datetime | None = None) -> list[Due]:
    """Every chore, with when it was done and when it is due. One that never was is due now.

    Raises:
        InputError: `project.invalid`, for an interval that cannot be read.
        DukouError: `registry.*`.
    """
    from dukou.registry.registry import Registry

    now = now or datetime.now(UTC)
    intervals = project.maintain.intervals()
    found = []
    with Registry.open(home) as registry:
        for name in CHORES:
            said = intervals[name]
            every = None if said is None else parse_duration(said, key=f"maintain.{name}")
            times = registry.chores.list(project.model.name, name, limit=1)
            last = datetime.fromisoformat(times[-1].ended) if times else None
            due = None if every is None else now if last is None else last + every
            found.append(Due(name, every, last, times[-1].outcome if times else "", due))
    return found


def run_chore(
    project: Project, home: Path, name: str, *, say: Say = lambda _text: None
) -> Mapping[str, Any]:
    """Does a chore and writes it down, whatever comes of it.

    Returns:
        What was found.

    Raises:
        InputError: `maintain.unknown`.
        DukouError: what the chore found wrong.
    """
    from dukou.registry.registry import Registry

    if name not in CHORES:
        raise InputError(
            "maintain.unknown", f"`{name}` is not a chore", hint=f"there are {', '.join(CHORES)}"
        )
    began = datetime.now(UTC).isoformat(timespec="microseconds")
    found: Mapping[str, Any] = {}
    failure: DukouError | None = None
    try:
        found = cast("Chore", resolve(CHORES[name][0]))(project, home, say)
    except DukouError as error:
        failure = error
        found = {"code": error.code, "message": error.message}
    # A retraining writes its own record, with what led to it.
    if name != "retrain":
        with Registry.open(home) as registry:
            outcome = "done" if failure is None else "failed"
            registry.chores.add(
                project.model.name, name, outcome=outcome, began=began, document=found
            )
    if failure is not None:
        raise failure
    return found


def run_due(
    project: Project, home: Path, *, say: Say, now: datetime | None = None
) -> dict[str, DukouError | None]:
    """Does all that is due; one that fails keeps none of the others from being done.

    Returns:
        chore → what it found wrong, or None.
    """
    now = now or datetime.now(UTC)
    done: dict[str, DukouError | None] = {}
    for chore in list_chores(project, home, now=now):
        if not chore.is_due(now):
            continue
        try:
            run_chore(project, home, chore.name, say=say)
            done[chore.name] = None
        except DukouError as error:
            done[chore.name] = error
    return done


def require_none_failed(done: Mapping[str, DukouError | None]) -> None:
    """Raises StateError `maintain.failed`, naming what failed."""
    failed = [f"{name}: {error.message}" for name, error in done.items() if error is not None]
    if failed:
        raise StateError("maintain.failed", "; ".join(failed))
