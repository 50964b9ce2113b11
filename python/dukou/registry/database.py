"""The registry's database: connections, transactions, migrations on opening, errors translated.

SQLite by default (write-ahead log, foreign keys, full synchronization); another by URL.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from dukou.base.errors import DukouError, ResourceError, StateError
from dukou.registry.lost import is_blank, refuse_lost

# The last step under `migrations/versions`; a test proves it. Known here, so that opening a current
# registry needs no Alembic.
HEAD = "0003"
BUSY_SECONDS = 15.0

_WRITES = "dukou_writes"


class Database:
    """Connections to one registry. Safe to share between threads; made current when opened.

    Args:
        url: of the database.
        lock: held by whoever makes or upgrades its tables.
        file: the database's, where it is the installation's own.
    """

    def __init__(self, url: str | sa.URL, lock: Path, file: Path | None = None) -> None:
        self._name = sa.make_url(url).render_as_string(hide_password=True)
        self._lock = lock
        self._file = file
        self._frozen = file is not None and is_frozen(file)
        self._engine = _make_engine(read_only_url(file) if file and self._frozen else url)
        self._writer = self._engine.execution_options(**{_WRITES: True})
        try:
            self._make_current()
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that sees one moment of the registry."""
        with self._translate(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction that changes the registry; writers come one after the other.

        Raises:
            StateError: `registry.conflict`: another process held the registry all the while.
            ResourceError: `store.disk-full`, `store.not-writable`.
        """
        with self._translate(), self._writer.begin() as connection:
            yield connection

    def close(self) -> None:
        """Closes every connection."""
        self._engine.dispose()

    def _make_current(self) -> None:
        with self._translate():
            # Connecting makes an empty file: of a new registry that happens under the lock alone.
            blank = self._file is not None and is_blank(self._file)
            revision = None if blank else self._revision()
            if revision == HEAD:
                return
            if self._frozen and self._file is not None:
                refuse_lost(self._file)
                raise ResourceError(
                    "store.not-writable",
                    f"the registry {self._name} may only be read, and is of step {revision}: this "
                    f"dukou knows step {HEAD} and would have to upgrade it",
                )
            with _hold(self._lock):
                if self._file is not None:
                    refuse_lost(self._file)
                if self._revision() != HEAD:  # Another process may have been first.
                    self._migrate()

    def _revision(self) -> str | None:
        with self._engine.connect() as connection:
            if not sa.inspect(connection).has_table("alembic_version"):
                return None
            return connection.execute(
                sa.text("SELECT version_num FROM alembic_version")
            ).scalar_one_or_none()

    def _migrate(self) -> None:
        from alembic import command
        from alembic.config import Config
        from alembic.script.revision import ResolutionError
        from alembic.util.exc import CommandError

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        if self._engine.dialect.name == "sqlite":
            with self._engine.connect() as connection:
                # Outside any transaction; it lasts, so it is done once.
                connection.connection.execute("PRAGMA journal_mode=WAL").close()
        try:
            with self._writer.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except (CommandError, ResolutionError) as error:
            raise StateError(
                "registry.unreadable",
                f"the registry {self._name} was written by a newer dukou: this one knows step {HEAD}",
                hint="update dukou",
            ) from error

    @contextlib.contextmanager
    def _translate(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise self._translated(error) from error

    def _translated(self, error: DBAPIError) -> DukouError:
        name = str(getattr(error.orig, "sqlite_errorname", ""))
        said = str(error.orig)
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")) or isinstance(
            error, sa.exc.IntegrityError
        ):
            return StateError(
                "registry.conflict",
                f"another process is changing the registry {self._name}: {said}",
            )
        if name == "SQLITE_FULL":
            return ResourceError("store.disk-full", f"{self._name} cannot be written: {said}")
        if name.startswith(
            ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_IOERR", "SQLITE_AUTH")
        ):
            return ResourceError("store.not-writable", f"{self._name} cannot be written: {said}")
        return StateError(
            "registry.unreadable", f"the registry {self._name} cannot be read: {said}"
        )


def is_frozen(file: Path) -> bool:
    """Whether the database is there and may be read, and neither it nor its folder be written."""
    return file.exists() and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK))


def read_only_url(file: Path) -> sa.URL:
    """Opens the file without making anything beside it."""
    # SQLite makes two files beside a database in write-ahead mode, even to read. Where they are not
    # there, nobody has it open and all is in the file itself: then it may be read as it lies.
    options = {"mode": "ro", "uri": "true"}
    if not Path(f"{file}-wal").exists():
        options["immutable"] = "1"
    return sa.URL.create("sqlite", database=f"file:{quote(str(file))}", query=options)


def _make_engine(url: str | sa.URL) -> sa.Engine:
    sqlite = sa.make_url(url).get_backend_name() == "sqlite"
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS} if sqlite else {})
    if sqlite:
        sa.event.listen(engine, "connect", _prepare_sqlite)
        sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    # The driver begins transactions by guesswork; `_begin_sqlite` says when and which.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON").close()
    connection.execute("PRAGMA synchronous=FULL").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    # A writer takes the lock at once: one that reads first and writes later could find that what it
    # read is no longer true, and would have to start again.
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _hold(path: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ResourceError(
            "store.not-writable", f"`{path}` cannot be made: {error.strerror}"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
