"""HTTP/2 by hand: as much of RFC 9113 and of HPACK (RFC 7541) as asking needs, nothing indexed."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Container

from tests.boundary import hpack

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
CONTINUATION = 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def block(*headers: tuple[str, str]) -> bytes:
    """A header block of literals without indexing."""
    out = b""
    for name, value in headers:
        out += b"\x00"
        for text in (name.encode(), value.encode()):
            assert len(text) < 127
            out += bytes([len(text)]) + text
    return out


class Http2:
    """A connection of prior knowledge."""

    def __init__(self, address: tuple[str, int], window: int = 2**24) -> None:
        self._authority = "{}:{}".format(*address)
        self._socket = socket.create_connection(address, timeout=20)
        # No table of headers, and a window for every answer that we will ask for.
        settings = struct.pack(">HIHI", 1, 0, 4, window)
        self.send(PREFACE + frame(SETTINGS, 0, 0, settings))
        self.send(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**24)))
        self._came = b""

    def __enter__(self) -> Http2:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, content: bytes) -> None:
        """Sends bytes."""
        self._socket.sendall(content)

    def head(self, stream: int, path: str) -> bytes:
        """The head of a request; its body is to follow."""
        head = block(
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", self._authority),
        )
        return frame(HEADERS, END_HEADERS, stream, head)

    def request(self, stream: int, path: str, body: bytes, *, ends: bool = True) -> bytes:
        """The frames of a request; without its end where the body is to be owed."""
        return self.head(stream, path) + frame(DATA, END_STREAM if ends else 0, stream, body)

    def settled(self) -> Http2:
        """Reads the server's settings and its window: from then on more may be sent than without."""
        owed = {SETTINGS, WINDOW_UPDATE}
        while owed and (read := self.read()) is not None:
            kind, flags, _, _ = read
            if kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            if not flags & ACK:
                owed.discard(kind)
        return self

    def call(self, stream: int, method: str, *metadata: tuple[str, str]) -> bytes:
        """The head of a call of gRPC; its message is to follow."""
        head = block(
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", self._authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *metadata,
        )
        return frame(HEADERS, END_HEADERS, stream, head)

    def ended_calls(self, *streams: int) -> dict[int, tuple[dict[str, str], bytes]]:
        """What became of these calls: the headers and trailers of each, and the bytes between them.

        Fewer where the server ended the connection.
        """
        heads: dict[int, dict[str, str]] = {stream: {} for stream in streams}
        came = dict.fromkeys(streams, b"")
        owed = set(streams)
        while owed and (read := self.read()) is not None:
            kind, flags, stream, payload = read
            if kind == HEADERS and stream in heads:
                heads[stream] |= hpack.read(payload)
            elif kind == DATA and stream in came:
                came[stream] += payload
            elif kind == RST_STREAM:
                owed.discard(stream)
            elif kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                owed.discard(stream)
        return {stream: (heads[stream], came[stream]) for stream in streams if stream not in owed}

    def give_up_after(self, seconds: float) -> None:
        """How long sending and reading may wait for the server."""
        self._socket.settimeout(seconds)

    def reset(self) -> None:
        """Breaks the connection without a farewell."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()

    def read(self) -> tuple[int, int, int, bytes] | None:
        """The next frame: kind, flags, stream, payload; None at the end of the connection."""
        while True:
            if len(self._came) >= 9:
                length = int.from_bytes(self._came[:3], "big")
                if len(self._came) >= 9 + length:
                    kind, flags, stream = struct.unpack(">BBI", self._came[3:9])
                    payload, self._came = self._came[9 : 9 + length], self._came[9 + length :]
                    return kind, flags, stream, payload
            try:
                came = self._socket.recv(65536)
            except ConnectionResetError:
                came = b""
            if not came:
                return None
            self._came += came

    def answers(
        self, first: int, wanted: int, besides: Container[int] = ()
    ) -> dict[int, int | str]:
        """What became of so many streams from `first` on, besides some: a status, or `reset`.

        Fewer where the server ended the connection.
        """
        heads: dict[int, int] = {}
        done: dict[int, int | str] = {}
        while len(done) < wanted:
            read = self.read()
            if read is None:
                break
            kind, flags, stream, payload = read
            if 0 < stream < first or stream in besides:
                continue
            if kind == HEADERS:
                heads[stream] = int(hpack.read(payload)[":status"])
            elif kind == RST_STREAM:
                done.setdefault(stream, heads.get(stream, "reset"))
            elif kind == SETTINGS and not flags & ACK:
                self.send(frame(SETTINGS, ACK, 0))
            if kind in (HEADERS, DATA) and flags & END_STREAM:
                done[stream] = heads[stream]
        return done

    def ended(self) -> bool:
        """Reads until the server has said that it goes away, or has closed."""
        while (read := self.read()) is not None:
            kind, flags, _, _ = read
            if kind == GOAWAY:
                return True
            if kind == SETTINGS and not flags & ACK:
                with contextlib.suppress(OSError):
                    self.send(frame(SETTINGS, ACK, 0))
        return True


def count(answers: dict[int, int | str]) -> Counter[int | str]:
    """How often each came."""
    return Counter(answers.values())
