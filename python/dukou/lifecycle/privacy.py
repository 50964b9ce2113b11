"""A person asks what is kept of them, or that it be forgotten: every room that may hold a row of theirs.

What is kept of a person lies in the captures, sealed with the person's key, and for the time of a
retraining in the rows that it learns from. Golden samples and profiles hold no caller's row.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError, ResourceError, StateError
from dukou.lifecycle.cache import remove_captured
from dukou.monitor.requests import Requests, read_requests
from dukou.monitor.store import CaptureStore
from dukou.trust.privacy.secret import load_or_create_privacy_key
from dukou.trust.privacy.subjects import SubjectKeys

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Erased:
    """What came of an erasure.

    Attributes:
        pseudonym: what the person was called on disk.
        rows: request rows taken out of files.
        keys: keys destroyed: 0 where the person had none, or was erased before.
        before: when an earlier erasure was, ISO 8601; empty where there was none.
        copies: working folders of runs that were killed, taken away: they may hold callers' rows.
        busy: whether a retraining runs, which may hold copies until it ends.
    """

    pseudonym: str
    rows: int
    keys: int
    before: str
    copies: int
    busy: bool

    def to_json(self) -> dict[str, Any]:
        """For `--json` and for the audit event: nothing in it names the person."""
        return {name: getattr(self, name) for name in self.__slots__}


def export_subject(home: Path, subject: str, out: Path) -> int:
    """Writes what is kept of a person as JSON lines: a row of a request each; gives how many.

    Raises:
        InputError: `privacy.file-exists`.
        StateError: `privacy.unknown-subject`.
        ResourceError: `store.not-writable`.
    """
    if out.exists():
        raise InputError("privacy.file-exists", f"`{out}` is there already")
    names = load_or_create_privacy_key(home).pseudonyms(subject)
    lines = [
        json.dumps(row, ensure_ascii=False)
        for model in _models(home)
        for row in _rows_of(CaptureStore(home, model), model, names)
    ]
    if not lines:
        raise _unknown(home, names)
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    except FileExistsError:
        raise InputError("privacy.file-exists", f"`{out}` is there already") from None
    except OSError as error:
        raise ResourceError(
            "store.not-writable", f"`{out}` cannot be written: {error.strerror}"
        ) from error
    return len(lines)


def erase_subject(home: Path, subject: str) -> Erased:
    """Makes what is kept of a person unreadable, in every copy of it, and takes it away here.

    Done twice it changes nothing more. It is an audit event, under the pseudonym.

    Raises:
        ResourceError: `store.not-writable`.
    """
    from dukou.registry.registry import Registry

    names = load_or_create_privacy_key(home).pseudonyms(subject)
    keys = SubjectKeys(home)
    before = keys.erased(names)
    # First the key: whatever happens from here on, nothing can be read any more.
    destroyed = keys.destroy(names)
    rows = sum(CaptureStore(home, model).erase(names) for model in _models(home))
    copies, busy = _remove_copies(home)
    done = Erased(names[0], rows, destroyed, before, copies, busy)
    with Registry.open(home) as registry:
        registry.add_event("privacy.erase", names[0], done.to_json())
    return done


def count_subject(home: Path, subject: str) -> int:
    """How many request rows are kept of a person."""
    names = load_or_create_privacy_key(home).pseudonyms(subject)
    return sum(
        1 for model in _models(home) for _ in _rows_of(CaptureStore(home, model), model, names)
    )


def _unknown(home: Path, names: list[str]) -> StateError:
    erased = SubjectKeys(home).erased(names)
    said = f"; it was erased at {erased[:19]}Z" if erased else ""
    return StateError("privacy.unknown-subject", f"nothing is kept of this person{said}")


def _models(home: Path) -> list[str]:
    folder = home / "monitor"
    return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


def _rows_of(store: CaptureStore, model: str, names: list[str]) -> Iterator[dict[str, Any]]:
    table = store.rows_of(names)
    if not table.num_rows:
        return
    labels = store.labels()
    for part in _requests(table):
        requests = read_requests(part)
        for row in range(requests.rows):
            yield _describe(requests, row, model, labels)


def _requests(table: pa.Table) -> Iterator[pa.Table]:
    """The table's parts of one request each."""
    ids = table.column("request_id").to_pylist()
    rows = table.column("rows").to_pylist() if "rows" in table.column_names else [None] * len(ids)
    start = 0
    for place in range(1, len(ids) + 1):
        if place == len(ids) or (ids[place], rows[place]) != (ids[start], rows[start]):
            yield table.slice(start, place - start)
            start = place


def _describe(requests: Requests, row: int, model: str, labels: dict[str, str]) -> dict[str, Any]:
    request, _, number = requests.keys[row].rpartition(":")
    label = labels.get(requests.keys[row], labels.get(requests.client_keys[row] or ""))
    return {
        "model": model,
        "version": str(requests.versions[row]),
        "time": requests.times[row],
        "request_id": request,
        "row": int(number),
        "inputs": {name: _plain(array[row]) for name, array in requests.inputs.items()},
        "outputs": {name: _plain(array[row]) for name, array in requests.outputs.items()},
        "label": label,
    }


def _remove_copies(home: Path) -> tuple[int, bool]:
    """Takes away what retrainings left of callers' rows; whether one runs and takes them away itself."""
    removed = remove_captured(home)
    return (0, True) if removed is None else (removed, False)


def _plain(value: Any) -> Any:
    """As JSON has it: what is missing is null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(element) for element in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
