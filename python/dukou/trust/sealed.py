"""Files that may be sealed or not: read either way, sealed where they lie, wrapped anew."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from dukou.base.errors import ResourceError
from dukou.trust.envelope import (
    HEADER_BYTES,
    SealingWriter,
    is_sealed,
    key_id_of,
    open_bytes,
    rewrap_header,
)
from dukou.trust.keyring import Keyring

_PIECE = 1 << 20


def read_file(path: Path, keyring: Keyring | None, context: str) -> bytes:
    """The file's content, opened where it is sealed.

    Raises:
        TrustError: `trust.no-encryption-key`, `trust.wrong-encryption-key`, `trust.bad-ciphertext`.
    """
    content = path.read_bytes()
    return open_bytes(content, keyring, context, f"`{path}`") if is_sealed(content) else content


def sealed_under(path: Path) -> str | None:
    """The id of the encryption key that the file is sealed under; None for a plain one."""
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    return key_id_of(head) if is_sealed(head) else None


def seal_file(path: Path, keyring: Keyring, context: str) -> bool:
    """Seals a plain file where it lies; False where it is sealed already. Whole or not at all.

    The plain bytes are unlinked, not overwritten: what a disk keeps of them is the disk's matter.

    Raises:
        ResourceError: `store.not-writable`.
    """
    if sealed_under(path) is not None:
        return False
    with (
        _replaced(path) as fresh,
        path.open("rb") as source,
        SealingWriter(fresh, keyring, context) as writer,
    ):
        while piece := source.read(_PIECE):
            writer.write(piece)
    return True


def rewrap_file(path: Path, keyring: Keyring) -> bool:
    """Has a sealed file open by the keyring's first key; False where it does, or is plain.

    Raises:
        TrustError: `trust.wrong-encryption-key`, `trust.bad-ciphertext`.
        ResourceError: `store.not-writable`.
    """
    with path.open("rb") as source:
        head = source.read(HEADER_BYTES)
        if not is_sealed(head):
            return False
        header = rewrap_header(head, keyring, f"`{path}`")
        if header is None:
            return False
        with _replaced(path) as fresh:
            fresh.write(header)
            shutil.copyfileobj(source, fresh, _PIECE)
    return True


@contextlib.contextmanager
def _replaced(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes the other's place, mode and all, once the block is done."""
    incoming = path.with_name(f".{path.name[:64]}.{secrets.token_hex(4)}.new")
    try:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(incoming, flags, 0o600), "wb") as fresh:
                yield fresh
                fresh.flush()
                os.fchmod(fresh.fileno(), path.stat().st_mode & 0o777)
                os.fsync(fresh.fileno())
            incoming.replace(path)
        finally:
            incoming.unlink(missing_ok=True)
    except OSError as error:
        raise ResourceError(
            "store.not-writable", f"`{path}` cannot be replaced: {error.strerror}"
        ) from error
