"""Zip archives that models come in, looked at without unpacking: names, and whether they are whole."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

from dukou.base.errors import InputError

_DAMAGE = (
    zipfile.BadZipFile,
    OSError,
    UnicodeDecodeError,
    NotImplementedError,
    EOFError,
    zlib.error,
)


def list_archive(path: Path) -> tuple[str, ...]:
    """The names in an archive; none where it is no archive, or too damaged to say."""
    if not path.is_file():
        return ()
    try:
        with zipfile.ZipFile(path) as archive:
            return tuple(archive.namelist())
    except (*_DAMAGE, ValueError):
        return ()


def check_archive(path: Path, what: str) -> None:
    """Reads every entry against its checksum, before a framework is started on it.

    Raises:
        InputError: `formats.corrupt`, naming the entry.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (*_DAMAGE, ValueError, RuntimeError) as error:
        raise InputError(
            "formats.corrupt", f"`{path}` begins like {what}, but is cut off or damaged"
        ) from error
    if damaged is not None:
        raise InputError(
            "formats.corrupt",
            f"`{path}` is {what}, but `{damaged}` in it does not match its checksum",
        )
