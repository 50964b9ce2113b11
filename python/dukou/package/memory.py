"""Folders in memory: where a decrypted version lies for those who can only read files.

A folder of `tmpfs`, for its owner alone, gone with the process that made it; what a killed process
left is taken away by the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dukou.base.errors import ResourceError

_PREFIX = "dukou-clear-"
_IN_MEMORY = {"tmpfs", "ramfs"}
# Those that this process made.
_made: list[Path] = []


def is_in_memory(path: Path) -> bool:
    """Whether the path lies, or would lie, on a file system in memory."""
    return _file_system(path) in _IN_MEMORY


def make_memory_folder() -> Path:
    """A new folder in memory, mode 0700; it goes when this process ends.

    Raises:
        ResourceError: `store.no-memory-folder`: this machine has no such place for us.
    """
    tried = []
    for root in _roots():
        if not is_in_memory(root) or not os.access(root, os.W_OK | os.X_OK):
            tried.append(str(root))
            continue
        _sweep(root)
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=root))
        if not _made:
            atexit.register(_remove_made, 0)
        _made.append(folder)
        return folder
    raise ResourceError(
        "store.no-memory-folder",
        f"none of {', '.join(f'`{one}`' for one in tried)} is a folder in memory that we may write to",
    )


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """`make_memory_folder` for the time of a block."""
    folder = make_memory_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def memory_scope() -> Iterator[None]:
    """At the end of the block every folder in memory that was made in it goes: for a process that goes on."""
    before = len(_made)
    try:
        yield
    finally:
        _remove_made(before)


def _remove_made(since: int) -> None:
    for folder in _made[since:]:
        shutil.rmtree(folder, ignore_errors=True)
    del _made[since:]


def _roots() -> Iterator[Path]:
    yield Path("/dev/shm")
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        yield Path(runtime)


def _sweep(root: Path) -> None:
    for folder in root.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.geteuid() and not Path("/proc", owner).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _file_system(path: Path) -> str:
    """The kind of file system that the path's nearest folder lies on."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    place = place.resolve()
    best, kind = -1, ""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        fields, _, rest = line.partition(" - ")
        # Spaces and the like are written in octal there.
        mount = Path(fields.split()[4].encode().decode("unicode_escape"))
        # Of two mounts at one place the later one hides the earlier.
        if len(mount.parts) >= best and place.is_relative_to(mount):
            best, kind = len(mount.parts), rest.split()[0]
    return kind
