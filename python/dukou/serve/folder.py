"""Where running servers are found: one private folder a server, held by a lock for as long as it lives.

    RUNTIME/<id>/lock          flock'd by the supervisor: free means that the server is gone
    RUNTIME/<id>/server.json   what `dukou status` and `dukou predict` need to know
    RUNTIME/<id>/engine.sock   the engine's local API
    RUNTIME/<id>/control.json  what control holds the engine at, and what troubles it
    RUNTIME/<id>/monitor.json  what the monitor found last, where requests are captured
    HOME/servers/<id>/         the engine's state directory: the last good table

RUNTIME is `$XDG_RUNTIME_DIR/dukou` or `/tmp/dukou-<uid>`: a socket's path has room for 107 bytes.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dukou.base.errors import ResourceError, StateError, TrustError

# `sun_path` holds 108 bytes, the last of which is a zero.
_LONGEST_SOCKET_PATH = 107


class ServerFolder:
    """The folder of a server that this process runs, or looks at."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = path / "lock"
        self.document = path / "server.json"
        self.socket = path / "engine.sock"
        self.control = path / "control.json"
        self.monitor = path / "monitor.json"
        self.desired = path / "desired.json"

    @property
    def id(self) -> str:
        """The server's id: the first model's name and the supervisor's process."""
        return self.path.name

    def write(self, file: Path, document: dict[str, Any]) -> None:
        """Replaces one of the folder's documents, whole."""
        incoming = file.with_suffix(".new")
        incoming.write_text(json.dumps(document, indent=1), encoding="utf-8")
        incoming.replace(file)

    def read(self, file: Path) -> dict[str, Any] | None:
        """One of the folder's documents; None where it is not there (yet, or any more)."""
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def is_alive(self) -> bool:
        """Whether the server's supervisor lives: it holds the lock, which ends with its process."""
        try:
            lock = os.open(self.lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(lock)
        return False

    def hold(self) -> int:
        """Makes the folder and takes its lock; the descriptor holds it until it is closed."""
        self.path.mkdir(mode=0o700)
        lock = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock

    def remove(self) -> None:
        """Takes the folder away; what is gone already does not matter."""
        remove_tree(self.path)


def runtime_path() -> Path:
    """Where the folder of the servers of this user is, or would be; nothing is made or checked."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(base, "dukou") if base else _shared_folder()
    # The longest id is a name of 40 characters and a process.
    if len(os.fsencode(folder)) + 40 + len("-4194304/engine.sock") > _LONGEST_SOCKET_PATH:
        return _shared_folder()
    return folder


def runtime_folder() -> Path:
    """The folder of the servers of this user, made and checked.

    Raises:
        TrustError: `access.foreign-folder`: somebody else owns it or may write to it.
        ResourceError: `store.not-writable`.
    """
    folder = runtime_path()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise ResourceError(
            "store.not-writable",
            f"the folder for sockets `{folder}` cannot be made: {error.strerror}",
            hint="point `XDG_RUNTIME_DIR` at a folder of yours",
        ) from error
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise TrustError(
            "access.foreign-folder",
            f"`{folder}` is to be a folder of user {os.geteuid()} with mode 700, "
            f"and it is of user {found.st_uid} with mode {stat.S_IMODE(found.st_mode):o}",
        )
    return folder


def new_folder(name: str) -> ServerFolder:
    """A folder for a server of this process; not made yet."""
    folder = ServerFolder(runtime_folder() / f"{name[:40]}-{os.getpid()}")
    if folder.path.exists() and not folder.is_alive():
        folder.remove()  # of a server that was killed, whose number this process got
    return folder


def running_servers() -> Iterator[tuple[ServerFolder, dict[str, Any]]]:
    """The servers that live, oldest first, each with its `server.json`.

    Folders whose server is gone (it was killed before it could clean up) are taken away.
    """
    found = []
    for path in runtime_folder().iterdir():
        folder = ServerFolder(path)
        if not folder.is_alive():
            _sweep(folder)
            continue
        document = folder.read(folder.document)
        if document is not None:
            found.append((float(document["started"]), folder, document))
    for _, folder, document in sorted(found, key=lambda entry: entry[0]):
        yield folder, document


def look_at_servers() -> Iterator[tuple[ServerFolder, dict[str, Any], bool]]:
    """Every server's folder with its document and whether the server lives; nothing is taken away.

    A folder that is being made at this moment counts as living.
    """
    try:
        paths = sorted(runtime_path().iterdir())
    except OSError:
        return
    for path in paths:
        folder = ServerFolder(path)
        lives = folder.is_alive() or _is_being_made(folder)
        yield folder, folder.read(folder.document) or {}, lives


def find_server(model: str) -> str:
    """The address of the server of this user that serves the model; of the newest, where several do.

    A fleet's gateway goes before its replicas.

    Raises:
        StateError: `server.not-running`, with what is served where nobody serves this model.
    """
    served: list[str] = []
    address = replica = None
    for _, document in running_servers():
        names = [str(name) for name in document.get("models", [])]
        served += names
        if model in names and document.get("replica_of") is not None:
            replica = str(document["url"])
        elif model in names:
            address = str(document["url"])
    address = address or replica
    if address is not None:
        return address
    if served:
        names_shown = ", ".join(f"`{name}`" for name in dict.fromkeys(served))
        raise StateError(
            "server.not-running",
            f"no server here serves `{model}`; served: {names_shown}",
            hint="`dukou status` shows what runs; a server elsewhere is named with `--url`",
        )
    raise StateError(
        "server.not-running",
        "no dukou server runs here",
        hint=f"start one with `dukou serve {model}`, or name one elsewhere with `--url`",
    )


def is_process_of(server_id: str) -> bool:
    """Whether there is a process of the number that a server's id ends with."""
    process = server_id.rpartition("-")[2]
    return process.isdigit() and Path("/proc", process).exists()


def _is_being_made(folder: ServerFolder) -> bool:
    # A folder without its lock may be one that is being made at this moment: it is taken away only
    # where its process does not exist.
    return not folder.lock.exists() and is_process_of(folder.id)


def _sweep(folder: ServerFolder) -> None:
    if _is_being_made(folder):
        return
    document = folder.read(folder.document) or {}
    if isinstance(document.get("state_dir"), str):
        state = Path(document["state_dir"])
        # Only what is named as a server's own, never a path that a broken document says.
        if state.name == folder.id and state.parent.name == "servers":
            remove_tree(state)
    folder.remove()


def _shared_folder() -> Path:
    return Path("/tmp", f"dukou-{os.geteuid()}")


def remove_tree(folder: Path) -> None:
    """Takes a folder away with all that is in it; what is gone already does not matter."""
    import shutil  # at an end, not while serving: it brings every compression with it

    shutil.rmtree(folder, ignore_errors=True)
