"""One HTTP/1.1 connection, from either side: h11 turns bytes into events, asyncio moves the bytes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from typing import Any

import h11

from dukou.serve.migrate.address import Address

_READ_BYTES = 1 << 16
# A head of 64 KiB is more than any of these servers takes.
_LARGEST_HEAD = 1 << 16
# Headers of one hop: they are said anew on the next.
_HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"te",
    b"trailer",
    b"upgrade",
    b"expect",
}
Headers = list[tuple[bytes, bytes]]


class Broken(Exception):  # noqa: N818 (it is a connection's state, not anybody's error)
    """The connection ended, or what came on it is not HTTP."""


class Link:
    """A connection whose messages are read and written as events.

    Args:
        reader: of the connection.
        writer: of it.
        ours: the part that we play: `h11.SERVER` or `h11.CLIENT`.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ours: Any
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(ours, max_incomplete_event_size=_LARGEST_HEAD)
        self._held = b""
        # asyncio sees to it for sockets that it made itself alone; without it a small answer waits 40 ms.
        at = writer.get_extra_info("socket")
        if at is not None:
            at.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Whether something of this message's answer was heard: it may not be asked again then.
        self.heard = False
        # Whether it carried a message before: the other side may have closed it meanwhile.
        self.used = False

    def at_hand(self) -> Any:
        """The next event where it has come already; None where it would have to be waited for.

        Raises:
            Broken: what came is no HTTP.
        """
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise Broken(str(error)) from error
        if event is h11.NEED_DATA:
            return None
        self.heard = True
        return event

    async def receive(self) -> Any:
        """The next event: a head, a piece of a body, its end; `ConnectionClosed` at the end.

        Raises:
            Broken: the connection broke off within a message, or it is no HTTP.
        """
        while True:
            event = self.at_hand()
            if event is not None:
                return event
            if self._http.they_are_waiting_for_100_continue:
                await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            try:
                self._http.receive_data(await self._reader.read(_READ_BYTES))
            except (h11.RemoteProtocolError, OSError) as error:
                raise Broken(str(error)) from error

    async def send(self, event: Any, *, more: bool = False) -> None:
        """Writes an event; waits for as long as the other side does not take it.

        Args:
            event: a head, a piece of a body, its end.
            more: something follows at once: it is written together with that, or by `flush`.

        Raises:
            Broken: the connection is gone.
        """
        try:
            self._held += self._http.send(event) or b""
        except h11.LocalProtocolError as error:
            raise Broken(str(error)) from error
        if not more or len(self._held) >= _READ_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Writes what is held back.

        Raises:
            Broken: the connection is gone.
        """
        if not self._held:
            return
        held, self._held = self._held, b""
        try:
            self._writer.write(held)
            await self._writer.drain()
        except OSError as error:
            raise Broken(str(error)) from error

    @property
    def refused_as(self) -> int:
        """The status for a message that is no HTTP."""
        return int(getattr(self._http, "_error_status", 400))

    def may_answer(self) -> bool:
        """Whether an answer can still be begun on it."""
        return self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE)

    def next_message(self) -> bool:
        """Whether another message can follow on this connection; it is then ready for it."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        self.heard, self.used = False, True
        return True

    @property
    def is_stale(self) -> bool:
        """Whether the other side has closed it meanwhile."""
        return self._reader.at_eof() or self._writer.is_closing()

    def close(self) -> None:
        """Ends the connection; what is buffered is still sent."""
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()


class Upstream:
    """A server that requests are passed on to, with the connections to it that wait for another one.

    Args:
        address: where it answers.
        tls: for `https`.
        key: shown to it in place of the client's own; None leaves those.
        idle: connections that are kept.
    """

    def __init__(
        self,
        address: Address,
        tls: ssl.SSLContext | None = None,
        key: str | None = None,
        idle: int = 64,
    ) -> None:
        self.address = address
        self._tls = tls if address.scheme == "https" else None
        self._key = key
        self._kept: deque[Link] = deque(maxlen=idle)

    async def open(self, *, fresh: bool = False) -> Link:
        """A connection to it: a kept one where there is one that still stands.

        Raises:
            Broken: none can be made.
        """
        while self._kept and not fresh:
            link = self._kept.pop()
            if not link.is_stale:
                return link
            link.close()
        try:
            reader, writer = await asyncio.wait_for(
                asyncio.open_connection(self.address.host, self.address.port, ssl=self._tls), 10.0
            )
        except (OSError, TimeoutError) as error:
            said = getattr(error, "strerror", None) or str(error) or "no answer in 10 s"
            raise Broken(f"`{self.address.url}` cannot be reached: {said}") from error
        return Link(reader, writer, h11.CLIENT)

    def keep(self, link: Link) -> None:
        """Keeps a connection for the next request, where another can follow on it."""
        if link.next_message() and len(self._kept) < (self._kept.maxlen or 0):
            self._kept.append(link)
        else:
            link.close()

    def close(self) -> None:
        """Ends the kept connections."""
        while self._kept:
            self._kept.pop().close()

    def head(self, request: h11.Request) -> h11.Request:
        """A client's head as it goes to this server: its headers but for those of one hop."""
        headers: Headers = [(b"Host", self.address.authority.encode("ascii"))]
        for name, value in onward(request.headers):
            low = name.lower()
            if low == b"host" or (low == b"authorization" and self._key is not None):
                continue
            headers.append((name, value))
        if self._key is not None:
            headers.append((b"Authorization", f"Bearer {self._key}".encode("ascii")))
        return h11.Request(method=request.method, target=request.target, headers=headers)


def onward(headers: Any) -> Headers:
    """h11's headers that go on to the next hop, spelt as they came."""
    named = {
        word.strip().lower()
        for name, value in headers
        if name == b"connection"
        for word in value.split(b",")
    }
    drop = _HOP | (named - {b"content-length", b"transfer-encoding", b"host"})
    return [(name, value) for name, value in headers.raw_items() if name.lower() not in drop]
