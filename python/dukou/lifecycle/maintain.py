"""Maintenance: what has to be done again and again, when it was done last, and doing it.

`[maintain]` of the project says how often; each time is a record in the registry with its audit event.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dukou.base.durations import parse_duration
from dukou.base.errors import DukouError, InputError, StateError
from dukou.base.lazy import resolve
from dukou.lifecycle.project import Project
from dukou.package.disk import hold_lock, translate_errors

if TYPE_CHECKING:
    from dukou.registry.registry import Registry

Say = Callable[[str], None]
Chore = Callable[[Project, Path, Say], Mapping[str, Any]]

# What failed is done again so soon: a quarter of a year is long for a drill that found damage.
_TRY_AGAIN = timedelta(days=1)
_LOCK = ".maintain.lock"

# chore → where it lives, and what it is for. Each raises a DukouError where it finds something wrong.
CHORES: dict[str, tuple[str, str]] = {
    "retrain": ("dukou.lifecycle.chores:retrain_again", "train again, through every gate"),
    "backup": (
        "dukou.lifecycle.backup:keep_backup",
        "take a snapshot of this installation into `[backup] to`",
    ),
    "backup-drill": (
        "dukou.lifecycle.backup:drill_backup",
        "restore a backup into a scratch folder, prove what is in it",
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
        due: when it is due; None where the project asks for none, and for `retrain` before there is a
            first version.
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
    """Every chore, with when it was done and when it is due.

    One that never was is due now; one that failed the last time, a day after that, where its interval
    is not shorter still.

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
            outcome = times[-1].outcome if times else ""
            due = _when_due(every, last, outcome, now)
            if name == "retrain" and last is None:
                trained = _newest_version(registry, project.model.name)
                due = None if trained is None else _when_due(every, trained, outcome, now)
            found.append(Due(name, every, last, outcome, due))
    return found


def _when_due(
    every: timedelta | None, since: datetime | None, outcome: str, now: datetime
) -> datetime | None:
    if every is None:
        return None
    # Of a time that has not come yet nobody can say how long ago it was: a clock was set back.
    if since is None or since > now:
        return now
    return since + (min(every, _TRY_AGAIN) if outcome == "failed" else every)


def _newest_version(registry: Registry, model: str) -> datetime | None:
    """When the model was trained last, as far as the registry knows."""
    if model not in [entry.name for entry in registry.models()]:
        return None
    return max(datetime.fromisoformat(v.created) for v in registry.versions(model))


def run_chore(
    project: Project, home: Path, name: str, *, say: Say = lambda _text: None
) -> Mapping[str, Any]:
    """Does a chore and writes it down, whatever comes of it.

    Returns:
        What was found.

    Raises:
        InputError: `maintain.unknown`.
        StateError: `maintain.running`: another process is at the chores of this home.
        DukouError: what the chore found wrong.
    """
    if name not in CHORES:
        raise InputError(
            "maintain.unknown", f"`{name}` is not a chore", hint=f"there are {', '.join(CHORES)}"
        )
    with _alone(home):
        return _run(project, home, name, say)


def _run(project: Project, home: Path, name: str, say: Say) -> Mapping[str, Any]:
    from dukou.registry.registry import Registry

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

    Raises:
        StateError: `maintain.running`: another process is at the chores of this home.
    """
    now = now or datetime.now(UTC)
    done: dict[str, DukouError | None] = {}
    with _alone(home):
        # Listed here: what another process has just done is not due any more.
        for chore in list_chores(project, home, now=now):
            if not chore.is_due(now):
                continue
            try:
                _run(project, home, chore.name, say)
                done[chore.name] = None
            except DukouError as error:
                done[chore.name] = error
    return done


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Two that rotate keys or train again at once would do each other's work twice, or worse.

    The kernel lets go of the lock when a process dies.
    """
    with contextlib.ExitStack() as held:
        with translate_errors(home):
            alone = held.enter_context(hold_lock(home / _LOCK, shared=False, wait=False))
        if not alone:
            raise StateError("maintain.running", f"another `dukou maintain` runs in `{home}`")
        yield


def require_none_failed(done: Mapping[str, DukouError | None]) -> None:
    """Raises StateError `maintain.failed`, naming what failed."""
    failed = [f"{name}: {error.message}" for name, error in done.items() if error is not None]
    if failed:
        raise StateError("maintain.failed", "; ".join(failed))
