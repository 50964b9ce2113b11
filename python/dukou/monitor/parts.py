"""Parts: files of rows, each whole or not there; Parquet, sealed where there is an encryption key.

    FOLDER/000001.parquet     a part
    FOLDER/000001.damaged     one that could not be read, set aside

Knows files and keys; what the rows mean, and which go, is the store's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import ResourceError
from dukou.base.settings import make_private_folder
from dukou.trust.keyring import load_keyring

if TYPE_CHECKING:
    import pyarrow as pa

LABELS = "labels"
_DAMAGED = ".damaged"


class Parts:
    """The parts of one model, in any of its folders.

    Args:
        home: DUKOU_HOME.
        model: the model's name.
    """

    def __init__(self, home: Path, model: str) -> None:
        self._home = home
        self._model = model

    def context(self, folder: Path) -> str:
        """What a part is, so that none can stand in for another model's, or a label for a capture."""
        return f"{'labels' if folder.name == LABELS else 'captures'} of {self._model}"

    def _open(self, part: Path) -> pa.BufferReader:
        """The part in memory, in clear."""
        import pyarrow as pa

        from dukou.trust.envelope import is_sealed, open_bytes

        # In one go: a part may be sealed, where it lies, between two looks at it.
        content = part.read_bytes()
        if is_sealed(content):
            keyring = load_keyring(self._home)
            content = open_bytes(content, keyring, self.context(part.parent), f"`{part}`")
        return pa.BufferReader(content)

    def read(self, part: Path, columns: list[str] | None = None) -> pa.Table | None:
        """A part's table. One that cannot be read is set aside, so that the others can; None for it, and
        for one that went meanwhile.

        Raises:
            DukouError: `trust.*`, for a sealed part that its key does not open: that is no mere damage.
            ResourceError: `store.not-writable`, where the disk does not let it be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            # On this thread alone: parts are small, and a pool that is still ending when the interpreter
            # does has taken the process with it (`terminate called without an active exception`).
            file = pq.ParquetFile(self._open(part), pre_buffer=False)
            table = file.read(columns=columns, use_threads=False)
            if not {"request_id", "key"}.isdisjoint(table.column_names):
                return table
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError) as error:
            # The system's errors have a number, those of a file's form have none.
            if isinstance(error, OSError) and error.errno is not None:
                raise ResourceError(
                    "store.not-writable", f"`{part}` cannot be read: {error.strerror}"
                ) from error
        with contextlib.suppress(FileNotFoundError):
            part.rename(part.with_suffix(_DAMAGED))
        return None

    def put_together(self, folder: Path, parts: Iterable[Path]) -> None:
        """Makes one part of these; where that is cut off, rows stand there twice and none is lost."""
        whole = [part for part in parts if part.exists()]
        tables = [table for part in whole if (table := self.read(part)) is not None]
        if tables:
            self.write(folder, join_tables(tables))
        for part in whole:
            part.unlink(missing_ok=True)

    def write(self, folder: Path, table: pa.Table) -> None:
        """Adds a part to the folder, under the next number.

        Raises:
            TrustError: `trust.*`, of an encryption key that cannot be read.
        """
        make_private_folder(folder)
        content = self._seal(folder, table)
        names = [int(p.stem) for p in list_parts(folder) + list_damaged(folder) if p.stem.isdigit()]
        # Several may write labels at once: the name is taken by whoever links it first.
        number = max(names, default=0) + 1
        incoming = folder / f".{os.getpid()}-{number}.new"
        descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                sink.write(content)
            while True:
                try:
                    (folder / f"{number:08d}.parquet").hardlink_to(incoming)
                    return
                except FileExistsError:
                    number += 1
        finally:
            incoming.unlink(missing_ok=True)

    def replace(self, part: Path, table: pa.Table) -> None:
        """Another content in the place of a part's, whole or not at all."""
        incoming = part.with_name(f".{os.getpid()}-{part.stem}.new")
        content = self._seal(part.parent, table)
        descriptor = os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as sink:
                sink.write(content)
            incoming.replace(part)
        finally:
            incoming.unlink(missing_ok=True)

    def _seal(self, folder: Path, table: pa.Table) -> memoryview | bytes:
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        content = memoryview(sink.getvalue())
        # Asked for every time: whoever rotates the key expects the old one to be used no more.
        keyring = load_keyring(self._home)
        if keyring is None:
            return content
        from dukou.trust.envelope import seal_bytes

        return seal_bytes(content, keyring, self.context(folder))


def list_parts(folder: Path) -> list[Path]:
    """The parts of a folder, the oldest first."""
    return sorted(folder.glob("*.parquet")) if folder.is_dir() else []


def list_damaged(folder: Path) -> list[Path]:
    """Those that were set aside."""
    return sorted(folder.glob(f"*{_DAMAGED}")) if folder.is_dir() else []


def join_tables(tables: Iterable[pa.Table]) -> pa.Table:
    """One table; of none an empty one with the columns that say whose rows they are."""
    import pyarrow as pa

    found = list(tables)
    if not found:
        names = ("request_id", "subject")
        return pa.table({name: pa.array([], pa.string()) for name in names})
    # Parts of an older release lack the columns that came later.
    return pa.concat_tables(found, promote_options="default")
