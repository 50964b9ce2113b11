"""What lies under DUKOU_HOME and is not needed any more, and taking it away.

Never touched: the registry, keys, the trust store, captured requests and labels, and every blob that
the store's index, a registered version or the table of a server leads to. What is removed is removed
in an order in which a crash leaves nothing that is half there and taken for whole: first what names
other things (records), then what was named; a folder is renamed out of sight before it is emptied.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError, StateError
from dukou.lifecycle.cache import hold_cache_alone, is_cache_used
from dukou.lifecycle.results import SEALED

_REMOVED = ".removed-"


@dataclass(frozen=True, slots=True)
class Waste:
    """A file or folder that is not needed.

    Attributes:
        kind: one of `KINDS`.
        path: where it lies.
        bytes: what its removal frees; a file that has another name elsewhere frees nothing.
    """

    kind: str
    path: Path
    bytes: int


# kind → why it may go, in the order of removal.
KINDS: dict[str, str] = {
    "run records": "older than {age}, and none of the last {keep} of its model",
    "stage results": "of no run that is kept",
    "champions": "unpacked for a warm start, of versions that no alias names",
    "conversions": "of files that no server here serves, older than {age}",
    "server folders": "of servers that ended without tidying up",
    "compiled graphs": "no server of this home runs; made again when one starts",
    "logs of bugs": "older than {age}",
    "blobs": "of no version: left by a publication that was cut off",
}


@dataclass(slots=True)
class Cleaning:
    """What can be removed, or was.

    Attributes:
        home: DUKOU_HOME.
        wastes: in the order of removal.
        notes: what was left alone although it may be waste, and why.
    """

    home: Path
    wastes: list[Waste] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """The total."""
        return sum(waste.bytes for waste in self.wastes)


def plan_cleaning(
    home: Path,
    *,
    keep: int = 5,
    older_than: timedelta = timedelta(days=30),
    clock: Callable[[], float] = time.time,
) -> Cleaning:
    """Finds what is not needed; touches nothing.

    Args:
        home: DUKOU_HOME; one that is not there holds nothing.
        keep: how many of a model's last runs stay, with the results of their stages. The run that
            published a version which an alias names stays too.
        older_than: what records, conversions and logs of bugs must be to go.
        clock: seconds since 1970.

    Raises:
        DukouError: `registry.*`: nobody can say which versions are needed.
    """
    if not home.is_dir():
        return Cleaning(home)
    cleaning = _plan(home, keep, clock() - older_than.total_seconds())
    if is_cache_used(home):
        cleaning.notes.append("a `dukou ship` runs: what it has done so far is counted too")
    return cleaning


def _plan(home: Path, keep: int, before: float) -> Cleaning:
    cleaning = Cleaning(home)
    named, registered = _versions_of(home)
    servers = _Servers.look(home)
    kept, records = _sort_records(home, keep, before, named)
    add = cleaning.wastes
    add += _wastes("run records", records)
    add += _wastes("stage results", _stage_results(home, kept))
    add += _wastes("champions", _champions(home, named))
    if servers.silent:
        listed = ", ".join(f"`{name}`" for name in servers.silent)
        cleaning.notes.append(
            f"conversions and blobs are left alone: {listed} runs and does not say what it serves"
        )
    else:
        add += _wastes("conversions", _conversions(home, servers.files, before))
    add += _wastes("server folders", servers.stale)
    if servers.living:
        cleaning.notes.append("compiled graphs are left alone: a server of this home runs")
    else:
        add += _wastes("compiled graphs", _entries(home / "compiled"))
    logs = (p for p in _entries(home / "logs") if p.name.startswith("bug-"))
    add += _wastes("logs of bugs", (p for p in logs if p.lstat().st_mtime < before))
    if not servers.silent:
        try:
            add += _wastes("blobs", _blobs(home, registered | servers.digests))
        except DukouError as error:
            cleaning.notes.append(f"blobs are left alone: {error}")
    return cleaning


def apply_cleaning(
    home: Path,
    *,
    keep: int = 5,
    older_than: timedelta = timedelta(days=30),
    clock: Callable[[], float] = time.time,
) -> Cleaning:
    """Removes what is not needed, and gives what was removed. Arguments as of `plan_cleaning`.

    Raises:
        StateError: `cache.in-use`: a run of the line uses the cache; nothing was removed.
        DukouError: as `plan_cleaning`.
    """
    if not home.is_dir():
        return Cleaning(home)
    with hold_cache_alone(home) as alone:
        if not alone:
            raise StateError("cache.in-use", f"a `dukou ship` or `dukou retrain` runs in `{home}`")
        # Planned here, where nothing new is made meanwhile.
        plan = _plan(home, keep, clock() - older_than.total_seconds())
        done = Cleaning(home, notes=plan.notes)
        blobs = False
        for waste in plan.wastes:
            if waste.kind == "blobs":
                blobs = True  # together, below: the store has locks of its own
            elif waste.kind == "compiled graphs" and _Servers.look(home).living:
                done.notes.append(f"`{waste.path}` is left alone: a server has just started")
            elif _remove(waste.path):
                done.wastes.append(waste)
            else:
                done.notes.append(f"`{waste.path}` could not be removed")
        if blobs:
            done.wastes += _collect(home, [w for w in plan.wastes if w.kind == "blobs"])
    return done


# What is needed


def _versions_of(home: Path) -> tuple[set[str], set[str]]:
    """Digests of versions that an alias names, and of all that are registered."""
    from dukou.registry.look import look_at_registry

    look = look_at_registry(home)
    named = {version.digest for version in look.versions if version.aliases}
    return named, {version.digest for version in look.versions}


@dataclass(frozen=True, slots=True)
class _Servers:
    """The servers of a home.

    Attributes:
        living: ids of those that run.
        silent: ids of those that run, and do not say what they serve.
        digests: of the versions in the tables of those that run.
        files: model files in their tables.
        stale: folders of servers that are gone.
    """

    living: list[str]
    silent: list[str]
    digests: set[str]
    files: set[Path]
    stale: list[Path]

    @classmethod
    def look(cls, home: Path) -> _Servers:
        from dukou.serve.folder import is_process_of, look_at_servers

        servers = cls([], [], set(), set(), [])
        states = home / "servers"
        for folder, document, lives in look_at_servers():
            state = Path(str(document.get("state_dir", states / folder.id)))
            if state.parent.resolve() != states.resolve():
                continue  # of another home
            if not lives:
                servers.stale.append(folder.path)
                continue
            servers.living.append(folder.id)
            table = _table_of(folder, state)
            if table is None:
                servers.silent.append(folder.id)
            else:
                for source in _sources(table):
                    servers.digests.update(filter(None, [source.get("artifact")]))
                    servers.files.update(Path(f).resolve() for f in [source.get("file")] if f)
        # A server that was started with another runtime folder is not seen above; its process is.
        servers.stale.extend(
            path
            for path in _entries(states)
            if path.name not in servers.living and not is_process_of(path.name)
        )
        return servers


def _table_of(folder: Any, state: Path) -> Any:
    """The table that a living server serves: as it says, else as it lies on the disk."""
    from dukou.serve.local_api import LocalApi

    with contextlib.suppress(DukouError):
        table = LocalApi(folder.socket, timeout_s=2.0).table()
        if table is not None:
            return table
    with contextlib.suppress(OSError, ValueError):
        return json.loads((state / "table.json").read_text(encoding="utf-8"))
    return None


def _sources(document: Any) -> Iterator[Mapping[str, Any]]:
    """Every `source` of a table, wherever it stands."""
    if isinstance(document, dict):
        if isinstance(document.get("source"), dict):
            yield document["source"]
        for value in document.values():
            yield from _sources(value)
    elif isinstance(document, list):
        for value in document:
            yield from _sources(value)


def _sort_records(
    home: Path, keep: int, before: float, named: set[str]
) -> tuple[set[tuple[str, str]], list[Path]]:
    """The results of stages (stage, key) that kept records use, and the records that may go."""
    used: set[tuple[str, str]] = set()
    old: list[Path] = []
    for model in _entries(home / "runs"):
        found = [p for p in sorted(_entries(model), reverse=True) if p.is_dir()]
        old += [record for record in found if _is_half_removed(record)]
        records = [record for record in found if not _is_half_removed(record)]
        for place, record in enumerate(records):
            stages = _stages_of(record)
            published = stages.get("publish", {}).get("facts", {}).get("digest")
            if place < keep or published in named:
                used.update((name, str(stage.get("key"))) for name, stage in stages.items())
            elif _time_of(record) < before:
                old.append(record)
    return used, old


def _stages_of(record: Path) -> dict[str, Any]:
    try:
        stages = json.loads((record / "run.json").read_text(encoding="utf-8"))["stages"]
        return {name: stage for name, stage in stages.items() if isinstance(stage, dict)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return {}  # the run was killed, or the record is of another kind


def _time_of(record: Path) -> float:
    """When a run began: its name says it, and copies of a home keep it."""
    stamp = record.name.partition("-")[0]
    with contextlib.suppress(ValueError):
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    return record.lstat().st_mtime


# What is not


def _stage_results(home: Path, used: set[tuple[str, str]]) -> Iterator[Path]:
    for stage in _entries(home / "cache" / "stages"):
        for path in _entries(stage):
            if (stage.name, path.name.removesuffix(SEALED)) not in used:
                yield path


def _champions(home: Path, named: set[str]) -> Iterator[Path]:
    for path in _entries(home / "cache" / "champions"):
        if f"sha256:{path.name}" not in named:
            yield path


def _conversions(home: Path, served: set[Path], before: float) -> Iterator[Path]:
    for path in _entries(home / "cache" / "conversions"):
        whole = path.resolve()
        is_old = path.lstat().st_mtime < before and not any(
            file.is_relative_to(whole) for file in served
        )
        if is_old or _is_half_removed(path):
            yield path


def _blobs(home: Path, keep: Iterable[str]) -> list[Path]:
    from dukou.package.store import Store

    return Store(home / "store").unneeded(keep)


def _is_half_removed(path: Path) -> bool:
    """Whether an earlier cleaning was ended while it emptied this."""
    return path.name.startswith(_REMOVED)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _wastes(kind: str, paths: Iterable[Path]) -> list[Waste]:
    return [Waste(kind, path, _size(path)) for path in paths]


def _size(path: Path) -> int:
    """Bytes that go with the path; links are not followed, and other names keep a file."""
    if path.is_symlink() or not path.is_dir():
        return _freed(path)
    return sum(_freed(Path(folder, name)) for folder, _, names in os.walk(path) for name in names)


def _freed(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if found.st_nlink == 1 else 0


# Removal


def _remove(path: Path) -> bool:
    """Whether it is gone. A folder goes out of sight first, and is emptied then."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return True
        hidden = path
        if not path.name.startswith("."):
            hidden = path.with_name(f"{_REMOVED}{path.name}")
            path.rename(hidden)
        shutil.rmtree(hidden)
    except FileNotFoundError:
        return not path.exists()
    except OSError:
        return False
    return True


def _collect(home: Path, planned: list[Waste]) -> list[Waste]:
    """Has the store take the blobs away, once more sure of what is needed."""
    from dukou.package.store import Store

    _, registered = _versions_of(home)
    Store(home / "store").collect(registered | _Servers.look(home).digests)
    return [waste for waste in planned if not waste.path.exists()]
