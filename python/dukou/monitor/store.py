"""Captured requests and their labels on disk: Parquet by model and day, bounded in bytes and in days.

    HOME/monitor/MODEL/2026-11-24/000001.parquet     rows as the tap gives them (spec/tap.md)
    HOME/monitor/MODEL/labels/000001.parquet         ID:ROW, its label, and whose it is
    HOME/monitor/MODEL/…/000001.damaged              a part that could not be read, set aside

Parts appear by rename. Folders are 0700 and files 0600: they hold what callers sent, as far as the
privacy policy lets it be kept; the rows of a person are sealed with that person's key within
(`dukou.monitor.sealing`). Where an encryption key is configured a whole part is sealed before it is
written, and opened into memory alone; sealed parts and plain ones are read side by side.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.settings import make_private_folder
from dukou.monitor.parts import LABELS, Parts, join_tables, list_damaged, list_parts
from dukou.monitor.requests import Requests, read_requests
from dukou.monitor.sealing import open_label, open_rows, seal_label, seal_rows
from dukou.package.disk import translate_errors
from dukou.trust.privacy.secret import load_or_create_privacy_key
from dukou.trust.privacy.subjects import SubjectKeys

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from dukou.trust.keyring import Keyring

    Array = np.ndarray[Any, Any]

# So many parts of a day become one.
_PARTS = 64
# How the engine writes its ids (spec/tap.md).
REQUEST_ID_DIGITS = 16
# Of labels too, but a part that holds this much already stays by itself: what is old can go alone.
_LARGE_PART_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Labelled:
    """Captured rows whose truth is known, in the order of time.

    Attributes:
        requests: what was asked and answered.
        truth: the label of each row.
    """

    requests: Requests
    truth: Array


class CaptureStore:
    """The captures of one model.

    Args:
        home: DUKOU_HOME.
        model: its name.
    """

    def __init__(self, home: Path, model: str) -> None:
        self.folder = home / "monitor" / model
        self._home = home
        self._parts = Parts(home, model)
        self._people = SubjectKeys(home)

    def append(self, table: pa.Table) -> None:
        """Adds rows of which all may be kept (`dukou.monitor.privacy`); a person's are sealed.

        Raises:
            ResourceError: `store.disk-full`, `store.not-writable`; what was there before stays.
            DukouError: `trust.*`, where the encryption key cannot be had: nothing is written then.
        """
        day = self.folder / datetime.now(UTC).strftime("%Y-%m-%d")
        with translate_errors(self.folder), self._held(fcntl.LOCK_EX):
            table = seal_rows(table, self._people)
            if not table.num_rows:
                return
            parts = list_parts(day)
            if len(parts) >= _PARTS:
                self._parts.put_together(day, parts)
            self._parts.write(day, table)

    def parts(self) -> list[Path]:
        """Every file of captures and labels, the oldest first."""
        folders = [*self.days(), self.folder / LABELS]
        return [part for folder in folders for part in list_parts(folder)]

    def protect(self, keyring: Keyring) -> int:
        """Seals what is plain and wraps anew what opens by an older key; returns how many files changed.

        Raises:
            DukouError: `trust.wrong-encryption-key`, `trust.bad-ciphertext`, `store.not-writable`.
        """
        from dukou.trust.sealed import rewrap_file, seal_file

        if not self.folder.is_dir():
            return 0
        with self._held(fcntl.LOCK_EX):
            return sum(
                seal_file(part, keyring, self._parts.context(part.parent))
                or rewrap_file(part, keyring)
                for part in self.parts()
            )

    def trim(self, *, max_bytes: int, keep: timedelta | None = None) -> int:
        """Removes the oldest until the bound holds, and what is older than `keep`; returns the bytes.

        Labels are bounded by themselves, by the same figures: they may come before their requests.

        Raises:
            ResourceError: `store.not-writable`.
        """
        if not self.folder.is_dir():
            return 0
        with translate_errors(self.folder), self._held(fcntl.LOCK_EX):
            return self._trim(max_bytes, keep) + self._trim_labels(max_bytes, keep)

    def _trim_labels(self, max_bytes: int, keep: timedelta | None) -> int:
        parts = list_parts(self.folder / LABELS) + list_damaged(self.folder / LABELS)
        sizes = {part: part.stat() for part in parts}
        excess = sum(found.st_size for found in sizes.values()) - max_bytes
        removed = 0
        oldest = None if keep is None else (datetime.now(UTC) - keep).timestamp()
        for part in sorted(parts, key=lambda part: part.stem):
            if excess > 0 or (oldest is not None and sizes[part].st_mtime < oldest):
                part.unlink()
                removed, excess = removed + sizes[part].st_size, excess - sizes[part].st_size
        return removed

    def _trim(self, max_bytes: int, keep: timedelta | None) -> int:
        removed = 0
        oldest = None if keep is None else (datetime.now(UTC) - keep).strftime("%Y-%m-%d")
        for day in self.days():
            if oldest is not None and day.name < oldest:
                removed += sum(part.stat().st_size for part in list_parts(day) + list_damaged(day))
                shutil.rmtree(day)
        parts = [
            part for day in self.days() for part in sorted(list_parts(day) + list_damaged(day))
        ]
        excess = sum(part.stat().st_size for part in parts) - max_bytes
        for part in parts:
            if excess <= 0:
                break
            size = part.stat().st_size
            part.unlink()
            removed, excess = removed + size, excess - size
            with contextlib.suppress(OSError):
                part.parent.rmdir()
        return removed

    def days(self) -> list[Path]:
        """Folders of captures, the oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(p for p in self.folder.iterdir() if p.is_dir() and p.name != LABELS)

    def damaged(self) -> list[Path]:
        """Parts that could not be read and were set aside."""
        folders = [*self.days(), self.folder / LABELS]
        return [part for folder in folders for part in list_damaged(folder)]

    def read(self, *, newest_rows: int | None = None) -> Requests:
        """The captured rows; the newest where there are more than asked for."""
        if not self.folder.is_dir():
            return read_requests(join_tables([]))
        # While parts are put together, a reader would find them twice or not at all.
        with self._held(fcntl.LOCK_SH):
            return self._read(newest_rows)

    @contextlib.contextmanager
    def _held(self, how: int) -> Iterator[None]:
        make_private_folder(self.folder)
        lock = self.folder / ".lock"
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)

    def _read(self, newest_rows: int | None) -> Requests:
        import numpy as np

        tables: list[pa.Table] = []
        count = 0
        for part in self._newest_parts():
            table = self._parts.read(part)
            if table is None:
                continue
            tables.append(table)
            count += table.num_rows
            # A request has an input and an output at least, and a row or more.
            if newest_rows is not None and count >= 4 * newest_rows:
                break
        requests = _each_once(self._rows_in(reversed(tables)))
        if newest_rows is not None and requests.rows > newest_rows:
            return requests.take(np.arange(requests.rows - newest_rows, requests.rows))
        return requests

    def _rows_in(self, tables: Iterable[pa.Table]) -> Requests:
        """Rows of parts, without those that nobody can read any more."""
        return read_requests(open_rows(join_tables(tables), self._people))

    def _newest_parts(self) -> Iterator[Path]:
        for day in reversed(self.days()):
            yield from reversed(list_parts(day))

    # Labels

    def add_labels(
        self, labels: Mapping[str, str], *, people: Mapping[str, str] | None = None
    ) -> None:
        """Keeps labels.

        Args:
            labels: `ID:ROW` → label; the id is the request's, or what the client's own is called here.
            people: `ID:ROW` → pseudonym, of rows that are a person's: their labels are sealed.

        Raises:
            ResourceError: `store.disk-full`, `store.not-writable`.
        """
        import pyarrow as pa

        if not labels:
            return
        folder = self.folder / LABELS
        with translate_errors(self.folder), self._held(fcntl.LOCK_EX):
            keys = list(labels)
            owners = [(people or {}).get(key) for key in keys]
            known = self._people.make(owner for owner in owners if owner)
            values = [
                labels[key] if owner is None else seal_label(labels[key], key, known[owner])
                for key, owner in zip(keys, owners, strict=True)
            ]
            columns = {"key": keys, "label": values, "subject": pa.array(owners, pa.string())}
            parts = [p for p in list_parts(folder) if p.stat().st_size < _LARGE_PART_BYTES]
            if len(parts) >= _PARTS:
                self._parts.put_together(folder, parts)
            self._parts.write(folder, pa.table(columns))

    def labels(self) -> dict[str, str]:
        """Every label that can be read, `ID:ROW` → label; of two for one key the later."""
        found: dict[str, str] = {}
        for part in list_parts(self.folder / LABELS):
            table = self._parts.read(part)
            if table is None:
                continue
            keys, values = table.column("key").to_pylist(), table.column("label").to_pylist()
            owners: list[str | None] = [None] * len(keys)
            if "subject" in table.column_names:
                owners = table.column("subject").to_pylist()
            known = self._people.get(owner for owner in owners if owner)
            for key, value, owner in zip(keys, values, owners, strict=True):
                label = value if owner is None else open_label(value, key, owner, known)
                if label is not None:
                    found[key] = label
        return found

    def labels_token(self) -> object:
        """Compares equal for as long as no labels came or went. Cheap."""
        return [(part.name, part.stat().st_size) for part in list_parts(self.folder / LABELS)]

    def count_labels(self) -> int:
        """How many rows have a label, without joining them; a label that was added twice counts once."""
        import pyarrow as pa
        import pyarrow.compute

        tables = [self._parts.read(part, ["key"]) for part in list_parts(self.folder / LABELS)]
        found = [table for table in tables if table is not None]
        if not found:
            return 0
        return int(pa.compute.count_distinct(pa.concat_tables(found).column("key")).as_py())

    def find_keys(self, keys: Iterable[str]) -> set[str]:
        """Which of these (`ID:ROW`, the request's id or the client's own) are of captured rows."""
        wanted = set(keys)
        if not self.folder.is_dir() or not wanted:
            return set()
        with self._held(fcntl.LOCK_SH):
            tables = [
                _of_requests(table, wanted)
                for part in self._newest_parts()
                if (table := self._parts.read(part)) is not None
            ]
        requests = self._rows_in(reversed(tables))
        return wanted & {*requests.keys, *requests.client_keys}

    def read_labelled(self, *, newest_rows: int) -> Labelled:
        """The newest captured rows that have a label."""
        import numpy as np

        labels = self._by_every_name(self.labels())
        wanted = set(labels)
        tables: list[pa.Table] = []
        count = 0
        if self.folder.is_dir():
            with self._held(fcntl.LOCK_SH):
                for part in self._newest_parts():
                    table = self._parts.read(part)
                    if table is None:
                        continue
                    # What has no label is not made into rows.
                    tables.append(_of_requests(table, wanted))
                    count += len(tables[-1].column("request_id").unique())
                    # Some may stand there twice, or have a label for a row that they do not have.
                    if count >= 2 * newest_rows:
                        break
        requests = _each_once(self._rows_in(reversed(tables)))
        keys = zip(requests.keys, requests.client_keys, strict=True)
        truth = [labels.get(key, labels.get(client) if client else None) for key, client in keys]
        known = np.array([i for i, label in enumerate(truth) if label is not None], dtype=np.int64)
        known = known[-newest_rows:]
        values = np.array([truth[i] for i in known], dtype=object)
        return Labelled(requests.take(known), values)

    def _by_every_name(self, labels: dict[str, str]) -> dict[str, str]:
        """A key that reads like a request's id may be a client's own of the same form, too."""
        if not labels:
            return labels
        secret = load_or_create_privacy_key(self._home)
        for key, label in list(labels.items()):
            said, _, row = key.rpartition(":")
            if len(said) == REQUEST_ID_DIGITS:
                labels.setdefault(f"{secret.client_id(said)}:{row}", label)
        return labels

    # People

    def owners(self) -> dict[str, str]:
        """`ID:ROW` → pseudonym, of every captured row that is a person's; by both of its ids."""
        if not self.folder.is_dir():
            return {}
        found: dict[str, str] = {}
        with self._held(fcntl.LOCK_SH):
            for part in self._newest_parts():
                table = self._parts.read(part)
                if table is not None and "subject" in table.column_names:
                    found.update(_owners_of(table))
        return found

    def rows_of(self, pseudonyms: Iterable[str]) -> pa.Table:
        """The captured rows of a person, opened, the oldest first."""
        wanted = list(pseudonyms)
        if not self.folder.is_dir():
            return join_tables([])
        tables = []
        with self._held(fcntl.LOCK_SH):
            for part in self._newest_parts():
                table = self._parts.read(part)
                if table is not None and "subject" in table.column_names:
                    tables.append(table.filter(_is_in(table, wanted)))
        return open_rows(join_tables(reversed(tables)), self._people)

    def erase(self, pseudonyms: Iterable[str]) -> int:
        """Takes a person's rows and labels out of the parts; gives how many rows of the tap there were.

        Whoever calls it has destroyed the key: what is in the way here is tidied up the next time.
        """
        import pyarrow.compute as pc

        wanted = list(pseudonyms)
        if not self.folder.is_dir():
            return 0
        count = 0
        with translate_errors(self.folder), self._held(fcntl.LOCK_EX):
            for part in self.parts():
                table = self._parts.read(part)
                if table is None or "subject" not in table.column_names:
                    continue
                theirs = _is_in(table, wanted)
                number = int(pc.sum(theirs).as_py() or 0)
                if not number:
                    continue
                count += number if part.parent.name != LABELS else 0
                if number == table.num_rows:
                    part.unlink()
                else:
                    self._parts.replace(part, table.filter(pc.invert(theirs)))
        return count

    # Files


def _of_requests(table: pa.Table, keys: set[str]) -> pa.Table:
    """The rows of requests of which a key (`ID:ROW`) is asked for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = pa.array({key.rpartition(":")[0] for key in keys}, pa.string())
    mine = pc.is_in(table.column("request_id"), value_set=ids)
    theirs = pc.is_in(table.column("client_id").cast(pa.string()), value_set=ids)
    return table.filter(pc.or_kleene(mine, theirs))


def _each_once(requests: Requests) -> Requests:
    """Putting parts together may have been cut off: then some stand there twice."""
    import numpy as np

    last = {key: place for place, key in enumerate(requests.keys)}
    if len(last) == requests.rows:
        return requests
    return requests.take(np.array(sorted(last.values()), dtype=np.int64))


def _owners_of(table: pa.Table) -> dict[str, str]:
    found = {}
    names = ("request_id", "client_id", "subject", "rows", "shape")
    for request, client, owner, rows, shape in zip(
        *(table.column(name).to_pylist() for name in names), strict=True
    ):
        if owner is not None:
            for row in rows or range(shape[0] if shape else 1):
                found[f"{request}:{row}"] = owner
                if client:
                    found[f"{client}:{row}"] = owner
    return found


def _is_in(table: pa.Table, wanted: list[str]) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.fill_null(pc.is_in(table.column("subject"), pa.array(wanted, pa.string())), False)
