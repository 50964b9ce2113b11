"""Looking at pickles without loading them: loading one runs the code that it carries."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickletools
import zlib
from pathlib import Path

# How far into a pickle we look for the names of the packages that it uses.
LOOK_BYTES = 1 << 20


def open_pickle_head(path: Path, head: bytes) -> bytes | None:
    """The first megabyte of the pickle in `path`, decompressed; none where it is no pickle.

    Reads what joblib writes: plain, zlib, gzip, bz2, xz and lzma. A damaged stream gives what
    could be read of it.
    """
    content = _read_decompressed(path, head)
    if content is None or not is_pickle(content):
        return None
    return content


def is_pickle(content: bytes) -> bool:
    """Whether `content` begins like a pickle of protocol 2 or later."""
    if len(content) < 3 or content[0] != 0x80 or not 2 <= content[1] <= 5:
        return False
    seen = 0
    try:
        for opcode, _, _ in pickletools.genops(content[:256]):
            seen += 1
            if seen == 4 or opcode.name == "STOP":
                return True
    except (ValueError, IndexError, EOFError, UnicodeDecodeError):
        # The window ends inside an argument: what was seen until then must do.
        pass
    return seen >= 2


def _read_decompressed(path: Path, head: bytes) -> bytes | None:
    if head[:1] == b"\x80":
        with path.open("rb") as file:
            return file.read(LOOK_BYTES)
    with path.open("rb") as file:
        try:
            if head[:1] == b"\x78" and len(head) > 1 and (head[0] * 256 + head[1]) % 31 == 0:
                return zlib.decompressobj().decompress(file.read(LOOK_BYTES), LOOK_BYTES)
            if head.startswith(b"\x1f\x8b"):
                return _read_what_can_be_read(gzip.GzipFile(fileobj=file))
            if head.startswith(b"BZh"):
                return _read_what_can_be_read(bz2.BZ2File(file))
            if head.startswith((b"\xfd7zXZ\0", b"\x5d\0\0")):
                return _read_what_can_be_read(lzma.LZMAFile(file))
            return None
        except (zlib.error, OSError, EOFError, lzma.LZMAError):
            return None


def _read_what_can_be_read(stream: io.BufferedIOBase) -> bytes:
    found = io.BytesIO()
    try:
        while found.tell() < LOOK_BYTES:
            block = stream.read(1 << 16)
            if not block:
                break
            found.write(block)
    except (EOFError, OSError, lzma.LZMAError, zlib.error):
        pass
    return found.getvalue()
