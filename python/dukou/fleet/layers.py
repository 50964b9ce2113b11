"""Layers of an image: files in a fixed order, with fixed times, owners and modes.

The same files give the same bytes: a layer's digest says what is in it and nothing of when or by whom
it was made.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, NamedTuple

_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
_PLAIN = "application/vnd.oci.image.layer.v1.tar"


class Entry(NamedTuple):
    """A file of a layer.

    Attributes:
        name: without a leading slash; of a folder too.
        content: a file here, bytes, what a link leads to, or None for a folder.
        mode: permissions.
    """

    name: str
    content: Path | bytes | str | None
    mode: int = 0o444


class Layer(NamedTuple):
    """A layer that was written.

    Attributes:
        media_type: compressed or not.
        digest: of the blob.
        size: of the blob, in bytes.
        diff_id: digest of the archive before it was compressed.
        unpacked: bytes of the files in it.
    """

    media_type: str
    digest: str
    size: int
    diff_id: str
    unpacked: int


def write_layer(entries: Iterable[Entry], blobs: Path, *, compress: bool) -> Layer:
    """Writes a layer under its own digest.

    Args:
        entries: in any order; folders above them are added.
        blobs: the folder of blobs.
        compress: weights do not get smaller: what is of weights need not be.
    """
    incoming = blobs / ".layer"
    unpacked = 0
    with incoming.open("wb") as file:
        blob = _Hashing(file)
        packed = (
            gzip.GzipFile("", "wb", compresslevel=4, fileobj=blob, mtime=0) if compress else blob
        )
        plain = _Hashing(packed)
        with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for entry in _with_folders(entries):
                unpacked += _add(archive, entry)
        if packed is not blob:
            packed.close()
    digest = blob.digest()
    incoming.replace(blobs / digest.removeprefix("sha256:"))
    kind = _GZIP if compress else _PLAIN
    return Layer(kind, digest, blob.count, plain.digest(), unpacked)


def _with_folders(entries: Iterable[Entry]) -> list[Entry]:
    found = {entry.name: entry for entry in entries}
    for name in list(found):
        for folder in Path(name).parents:
            if folder.name:
                found.setdefault(folder.as_posix(), Entry(folder.as_posix(), None, 0o755))
    return [found[name] for name in sorted(found)]


def _add(archive: tarfile.TarFile, entry: Entry) -> int:
    info = tarfile.TarInfo(entry.name)
    info.mode = entry.mode
    match entry.content:
        case None:
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        case str(target):
            info.type, info.linkname, info.mode = tarfile.SYMTYPE, target, 0o777
            archive.addfile(info)
        case bytes(content):
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        case path:
            with path.open("rb") as file:
                info.size = path.stat().st_size
                archive.addfile(info, file)
    return info.size


class _Hashing(io.RawIOBase):
    """Hands on what is written, and knows its digest."""

    def __init__(self, to: IO[bytes] | io.RawIOBase | gzip.GzipFile) -> None:
        self._to = to
        self._hash = hashlib.sha256()
        self.count = 0

    def writable(self) -> bool:
        return True

    def write(self, content: object) -> int:
        piece = bytes(content)  # type: ignore[call-overload]
        self._hash.update(piece)
        self.count += len(piece)
        self._to.write(piece)
        return len(piece)

    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"
