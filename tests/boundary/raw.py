"""Requests written byte by byte, for what no proper HTTP client would send."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.serving import BODY

HOST = b"Host: localhost\r\n"


def request(
    path: str, *headers: str, body: bytes = BODY.encode(), method: str = "POST", length: bool = True
) -> bytes:
    """A request whose framing is right, but for what the headers say."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if length:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> dict[str, Any]:
        """Its JSON."""
        document: dict[str, Any] = json.loads(self.body)
        return document


class Wire:
    """A connection of bytes."""

    def __init__(self, address: tuple[str, int], timeout_s: float = 20.0) -> None:
        self._socket = socket.create_connection(address, timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._came = b""

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, content: bytes) -> None:
        """Sends; a server that has closed already is told by what is read, not here."""
        with contextlib.suppress(OSError):
            self._socket.sendall(content)

    def finish(self) -> None:
        """Says that nothing more will come."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Breaks the connection without a farewell."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()

    def read(self, *, of_head: bool = False) -> Reply | None:
        """The next answer; None where the server closed instead."""
        while True:
            head, found, rest = self._came.partition(b"\r\n\r\n")
            if found:
                status, headers = _parse_head(head)
                wanted = 0 if of_head or status < 200 else int(headers["content-length"])
                if len(rest) >= wanted:
                    self._came = rest[wanted:]
                    return Reply(status, headers, rest[:wanted])
            try:
                came = self._socket.recv(65536)
            except ConnectionResetError:
                came = b""
            if not came:
                assert not self._came, f"half an answer: {self._came!r}"
                return None
            self._came += came

    def read_to_end(self) -> list[Reply]:
        """Every answer until the server closes."""
        replies = []
        while (reply := self.read()) is not None:
            replies.append(reply)
        return replies


def _parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    matched = re.fullmatch(r"HTTP/1\.[01] (\d{3}) .*", first)
    assert matched, first
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name.lower() not in headers, f"{name} twice"
        headers[name.lower()] = value
    return int(matched[1]), headers


def statuses(replies: Sequence[Reply]) -> list[int]:
    """Their statuses."""
    return [reply.status for reply in replies]
