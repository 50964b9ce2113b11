"""What of an installation is kept: what could not be made again, and what may leave it.

One literal table. What can be computed anew (caches, compiled graphs, laid-out versions) is not kept;
secrets are kept only where the backup is sealed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dukou.base.errors import StateError

REGISTRY = "registry.db"


class Part(NamedTuple):
    """A part of the home folder.

    Attributes:
        pattern: a glob, relative to the home folder; a folder means all that is in it.
        secret: kept only in a sealed backup.
    """

    pattern: str
    secret: bool = False


# The registry is copied first and apart: what it names is in the store by then.
PARTS = (
    Part("store"),
    Part("trust"),
    # Hashes of keys open nothing. A certificate goes with its private key: alone it would be useless.
    Part("access/keys.json"),
    Part("access/certificate.*", secret=True),
    Part("monitor"),
    Part("runs"),
    # The public half goes with the private one: alone it would say that a key is missing.
    Part("keys/signing*.pub", secret=True),
    Part("keys/encryption.id"),
    Part("keys/signing*.pem", secret=True),
    Part("keys/privacy*.key", secret=True),
)
# Links into the store, half-written files, locks. Keys that a person's rows were sealed with are never
# kept: what was erased would come back with them.
_PASSED_OVER = ("store/versions",)


@dataclass(frozen=True, slots=True)
class HomeFile:
    """A file that is to be kept.

    Attributes:
        path: relative to the home folder, with `/`.
        place: where its bytes are now.
        known: the sha256 (hex) that its name promises; empty where its name promises nothing.
    """

    path: str
    place: Path
    known: str


def list_files(home: Path, *, secrets: bool) -> tuple[list[HomeFile], list[str]]:
    """The files that are kept, but for the registry, and what is left out and why.

    Args:
        home: DUKOU_HOME.
        secrets: whether private keys are kept too.
    """
    found: list[HomeFile] = []
    left_out: list[str] = []
    for part in PARTS:
        places = sorted(home.glob(part.pattern))
        if part.secret and not secrets:
            left_out += [
                f"`{place.relative_to(home)}` is secret, and the backup is not encrypted"
                for place in places
            ]
            continue
        for place in places:
            found += [_describe(home, file) for file in _walk(home, place)]
    return found, left_out


def copy_registry(home: Path, into: Path) -> None:
    """A copy of the registry as of one moment, while others may write to it.

    Raises:
        StateError: `registry.unreadable`.
    """
    source = home / REGISTRY
    if not source.is_file():
        raise StateError("registry.unreadable", f"there is no registry `{source}`")
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as reading,
            closing(sqlite3.connect(into)) as writing,
        ):
            reading.backup(writing)
            # A log beside the copy would be a second file.
            writing.execute("PRAGMA journal_mode=DELETE").close()
    except sqlite3.Error as error:
        raise StateError(
            "registry.unreadable", f"the registry `{source}` cannot be copied: {error}"
        ) from error


def _walk(home: Path, place: Path) -> Iterator[Path]:
    if place.is_symlink():
        return
    if place.is_file():
        yield place
        return
    for folder, names, files in os.walk(place):
        inside = Path(folder)
        names[:] = sorted(
            name
            for name in names
            if not name.startswith(".")
            and (inside / name).relative_to(home).as_posix() not in _PASSED_OVER
        )
        for name in sorted(files):
            if not name.startswith(".") and not (inside / name).is_symlink():
                yield inside / name


def _describe(home: Path, place: Path) -> HomeFile:
    path = place.relative_to(home).as_posix()
    blobs = "store/blobs/sha256/"
    return HomeFile(path, place, path.removeprefix(blobs) if path.startswith(blobs) else "")


def is_empty(home: Path) -> bool:
    """Whether nothing would be lost by putting an installation there."""
    if home.is_dir():
        return not any(home.iterdir())
    return not home.exists() and not home.is_symlink()
