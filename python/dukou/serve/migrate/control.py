"""How `dukou migrate --report`, `--flip` and `--back` find a running migration, and what they say to it.

RUNTIME/migrate-<port>-<pid>/lock           flock'd by its process
RUNTIME/migrate-<port>-<pid>/migrate.json   where it stands, from where to where
RUNTIME/migrate-<port>-<pid>/migrate.sock   a JSON line in, a JSON line out
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dukou.base.errors import RemoteError, StateError, relay_error
from dukou.serve.folder import ServerFolder, runtime_folder

_PREFIX = "migrate-"
_PATIENCE_S = 60.0


class MigrationFolder(ServerFolder):
    """The folder of a migration that this process runs, or looks at."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.migration = path / "migrate.json"
        self.socket = path / "migrate.sock"


def new_migration_folder(port: int) -> MigrationFolder:
    """A folder for a migration of this process; not made yet."""
    folder = MigrationFolder(runtime_folder() / f"{_PREFIX}{port}-{os.getpid()}")
    if folder.path.exists() and not folder.is_alive():
        folder.remove()  # of one that was killed, whose number this process got
    return folder


def running_migrations() -> Iterator[tuple[MigrationFolder, dict[str, Any]]]:
    """The migrations of this user that live, each with its `migrate.json`."""
    for path in sorted(runtime_folder().iterdir()):
        folder = MigrationFolder(path)
        if path.name.startswith(_PREFIX) and folder.is_alive():
            document = folder.read(folder.migration)
            if document is not None:
                yield folder, document


def find_migration(port: int | None) -> MigrationFolder:
    """The running migration that listens at this port; the only one where none is said.

    Raises:
        StateError: `migrate.not-running`, with those that run.
    """
    found = list(running_migrations())
    for folder, document in found:
        if port == document["port"] or (port is None and len(found) == 1):
            return folder
    running = ", ".join(f"`{document['url']}`" for _, document in found)
    raise StateError(
        "migrate.not-running",
        (
            f"no migration listens at port {port}"
            if port is not None
            else "no one migration is meant"
        )
        + (f"; running: {running}" if running else "; none runs here"),
        hint="name one by its port: `--port 8501`" if running else None,
    )


def tell(folder: MigrationFolder, word: str, **more: Any) -> dict[str, Any]:
    """Says a word to a running migration: `report`, `flip`, `back`.

    Returns:
        Its report afterwards.

    Raises:
        DukouError: what it answers instead; `migrate.not-running` where it is gone.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PATIENCE_S)
            connection.connect(str(folder.socket))
            connection.sendall(json.dumps({"do": word, **more}).encode() + b"\n")
            with connection.makefile("rb") as file:
                line = file.readline()
        document = json.loads(line)
    except (OSError, ValueError) as error:
        raise StateError(
            "migrate.not-running", f"the migration of `{folder.path.name}` does not answer"
        ) from error
    if "error" in document:
        failure = document["error"]
        raise relay_error(failure["code"], failure["message"], failure.get("hint"))
    if not isinstance(document.get("report"), dict):
        raise RemoteError("client.server-error", "the migration answered without a report")
    report: dict[str, Any] = document["report"]
    return report
