"""A sealed file: a random key of its own, wrapped in a short header, and segments that cannot be moved.

    magic `DUKOUSL1` | 8 bytes: the encryption key's id | 60 bytes: the file's key, wrapped | segments

A segment is 64 KiB of content (the last one may be shorter; an empty file has one of no bytes) under
AES-256-GCM: the nonce is the segment's number and whether it is the last, the associated data is the
file's context. A changed, missing, added or moved segment, a cut end, and a file of another context
are refused. Rotation wraps the file's key anew and leaves the segments alone.

Source: Hoang, Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its Nonce-Reuse
Misuse-Resistance (2015), the STREAM construction.
"""

from __future__ import annotations

import io
import secrets
from typing import IO, TYPE_CHECKING

from dukou.base.errors import TrustError
from dukou.trust.keyring import KEY_BYTES, WRAPPED_BYTES, Keyring, find_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from typing_extensions import Buffer

MAGIC = b"DUKOUSL1"
_ID_END = len(MAGIC) + 8
HEADER_BYTES = _ID_END + WRAPPED_BYTES
SEGMENT_BYTES = 64 * 1024
_TAG_BYTES = 16


def is_sealed(head: bytes) -> bool:
    """Whether a file that begins so (8 bytes are enough) is a sealed one."""
    return head.startswith(MAGIC)


def key_id_of(header: bytes) -> str:
    """The id of the encryption key that a sealed file wants; 16 bytes of it are enough."""
    return header[len(MAGIC) : _ID_END].hex()


def seal_bytes(content: Buffer, keyring: Keyring, context: str) -> bytes:
    """The content as a sealed file.

    Args:
        content: anything, also nothing.
        keyring: its first key wraps.
        context: what the file is, as `captures of digits`: it must be the same when it is opened.
    """
    sink = io.BytesIO()
    with SealingWriter(sink, keyring, context) as writer:
        writer.write(content)
    return sink.getvalue()


def open_bytes(sealed: bytes, keyring: Keyring | None, context: str, where: str) -> bytes:
    """The content of a sealed file.

    Args:
        sealed: all of the file.
        keyring: one of its keys must be the file's; None where none is configured.
        context: as it was sealed.
        where: names the file in errors.

    Raises:
        TrustError: `trust.no-encryption-key`, `trust.wrong-encryption-key`, `trust.bad-ciphertext`.
    """
    return OpeningReader(io.BytesIO(sealed), keyring, context, where).readall()


def rewrap_header(header: bytes, keyring: Keyring, where: str) -> bytes | None:
    """The header with the file's key wrapped by the keyring's first key; None where it is so already.

    Raises:
        TrustError: `trust.wrong-encryption-key`, `trust.bad-ciphertext`.
    """
    key = _unwrap(header, keyring, where)
    if key_id_of(header) == keyring.current.id:
        return None
    return _make_header(key, keyring)


class SealingWriter(io.RawIOBase):
    """Seals what is written to it, in order. `close` writes the last segment; `sink` stays open.

    A block that fails, or a writer that is never closed, leaves a file that opens nowhere.
    """

    def __init__(self, sink: IO[bytes], keyring: Keyring, context: str) -> None:
        super().__init__()
        key = secrets.token_bytes(KEY_BYTES)
        self._sink = sink
        self._cipher = _cipher(key)
        self._context = context.encode()
        self._waiting = bytearray()
        self._number = 0
        sink.write(_make_header(key, keyring))

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, content: Buffer, /) -> int:
        """Takes all of it."""
        view = memoryview(content).cast("B")
        self._waiting += view
        # The last whole segment waits too: only `close` knows that it is not the file's last.
        whole = (len(self._waiting) - 1) // SEGMENT_BYTES * SEGMENT_BYTES
        for start in range(0, max(whole, 0), SEGMENT_BYTES):
            self._put(self._waiting[start : start + SEGMENT_BYTES], last=False)
        if whole > 0:
            del self._waiting[:whole]
        return len(view)

    def close(self) -> None:
        """Writes the end. Once is enough."""
        if not self.closed:
            self._put(self._waiting, last=True)
            self._waiting = bytearray()
            super().close()

    def abandon(self) -> None:
        """Ends without the last segment: what was written is never taken for whole."""
        if not self.closed:
            super().close()

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self.close() if kind is None else self.abandon()

    def __del__(self) -> None:
        # Not `close`, as the base class would: only who says so has written all.
        self.abandon()

    def _put(self, segment: bytearray, *, last: bool) -> None:
        nonce = _nonce(self._number, last=last)
        self._sink.write(self._cipher.encrypt(nonce, bytes(segment), self._context))
        self._number += 1


class OpeningReader(io.RawIOBase):
    """Reads a sealed file in order; every byte that it gives was proved genuine, and its end too.

    `io.BufferedReader(OpeningReader(…))` reads by any amount. Raises as `open_bytes`.
    """

    def __init__(
        self, source: IO[bytes], keyring: Keyring | None, context: str, where: str
    ) -> None:
        super().__init__()
        self._source = source
        self._context = context.encode()
        self._where = where
        self._cipher = _cipher(_unwrap(_read_up_to(source, HEADER_BYTES), keyring, where))
        self._next = _read_up_to(source, SEGMENT_BYTES + _TAG_BYTES)
        self._content = memoryview(b"")
        self._number = 0
        self._ended = False

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Buffer, /) -> int:
        """Fills what it can of the buffer from one segment."""
        if not self._content and not self._ended:
            self._content = memoryview(self._open_segment())
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._content))
        target[:count] = self._content[:count]
        self._content = self._content[count:]
        return count

    def readall(self) -> bytes:
        """All that is left."""
        parts = [bytes(self._content)]
        self._content = memoryview(b"")
        while not self._ended:
            parts.append(self._open_segment())
        return b"".join(parts)

    def _open_segment(self) -> bytes:
        from cryptography.exceptions import InvalidTag

        segment = self._next
        self._next = (
            _read_up_to(self._source, SEGMENT_BYTES + _TAG_BYTES)
            if len(segment) == SEGMENT_BYTES + _TAG_BYTES
            else b""
        )
        last = not self._next
        try:
            if len(segment) < _TAG_BYTES + (self._number > 0):
                raise InvalidTag
            nonce = _nonce(self._number, last=last)
            content = self._cipher.decrypt(nonce, segment, self._context)
        except InvalidTag:
            raise TrustError(
                "trust.bad-ciphertext",
                f"{self._where} was changed, cut off or moved: from byte "
                f"{self._number * SEGMENT_BYTES} on it does not open",
            ) from None
        self._number += 1
        self._ended = last
        return content


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _make_header(key: bytes, keyring: Keyring) -> bytes:
    about = MAGIC + bytes.fromhex(keyring.current.id)
    return about + keyring.current.wrap(key, about)


def _unwrap(header: bytes, keyring: Keyring | None, where: str) -> bytes:
    if len(header) < HEADER_BYTES or not is_sealed(header):
        raise TrustError(
            "trust.bad-ciphertext", f"{where} is not a sealed file, or its header was changed"
        )
    key = find_key(keyring, key_id_of(header), where)
    return key.unwrap(header[_ID_END:HEADER_BYTES], header[:_ID_END], where)


def _read_up_to(source: IO[bytes], size: int) -> bytes:
    """So many bytes, fewer at the end alone: pipes give less at a time."""
    content = source.read(size)
    while content and len(content) < size:
        more = source.read(size - len(content))
        if not more:
            break
        content += more
    return content or b""
