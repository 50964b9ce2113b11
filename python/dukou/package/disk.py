"""Writing that is whole or not there: temporary file, fsync, rename; locks; errors of a full disk.

The only place of this room that writes, so that every step can be counted, and killed, by a test.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path

from dukou.base.errors import ResourceError

Buffer = bytes | memoryview

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def translate_errors(store: Path) -> Iterator[None]:
    """The system's errors while writing to `store` become ours.

    Raises:
        ResourceError: `store.disk-full` (no space, over a quota or a size limit) or
            `store.not-writable`.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ResourceError(
                "store.disk-full", f"`{store}` cannot be written: {error.strerror}"
            ) from error
        raise ResourceError(
            "store.not-writable",
            f"`{error.filename or store}` cannot be written: {error.strerror}",
        ) from error


def write_whole(path: Path, parts: Iterable[Buffer], incoming: Path, mode: int = 0o644) -> None:
    """Makes a file appear with all its bytes, or not at all; replaces one that is there.

    Args:
        path: where; on the same file system as `incoming`.
        parts: the content, in order.
        incoming: the folder of half-written files.
        mode: the file's permissions.
    """
    temporary = incoming / f"{path.name[:64]}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            for part in parts:
                _write_all(descriptor, part)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        remove_quietly(temporary)
        raise


def fsync_folder(folder: Path) -> None:
    """Makes the names in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Makes the folder and those above it."""
    folder.mkdir(parents=True, exist_ok=True)


def remove_quietly(path: Path) -> None:
    """Removes a file that may be gone already."""
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def hold_lock(path: Path, *, shared: bool, wait: bool) -> Iterator[bool]:
    """Holds the lock file; gives whether it is held (without `wait`, another may hold it).

    The kernel lets go of it when the process dies: a crash leaves no lock behind.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(descriptor, operation if wait else operation | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, part: Buffer) -> None:
    rest = memoryview(part).cast("B")
    while rest:
        rest = rest[os.write(descriptor, rest) :]
