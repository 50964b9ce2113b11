"""A request's body: passed on piece by piece as it comes, and kept beside that as far as there is room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import h11

from dukou.serve.migrate.link import Broken, Link

# A body larger than this is passed on and not copied.
LARGEST_COPY = 16 * 1024 * 1024


class Room:
    """Bytes that may be held for copies at once, of all requests together."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, count: int) -> bool:
        """Whether there was room for so many more."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        """So many are held no more."""
        self._left += count


class Kept:
    """Bytes that are kept for a copy, for as long as there is room; all or nothing of them."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0
        self._pieces: list[bytes] | None = []

    def add(self, piece: bytes) -> None:
        """Keeps a piece; where there is no room for it nothing is kept any more."""
        if self._pieces is None:
            return
        if self._held + len(piece) > LARGEST_COPY or not self._room.take(len(piece)):
            self.drop()
            return
        self._held += len(piece)
        self._pieces.append(piece)

    def drop(self) -> None:
        """Lets go of what is kept."""
        self._room.give_back(self._held)
        self._held = 0
        self._pieces = None

    @property
    def is_whole(self) -> bool:
        """Whether every piece that was added is there."""
        return self._pieces is not None

    @property
    def pieces(self) -> list[bytes]:
        """What is kept."""
        return self._pieces or []

    @property
    def whole(self) -> bytes | None:
        """All of it; None where there was no room."""
        return None if self._pieces is None else b"".join(self._pieces)


class Body:
    """The body of a client's request.

    Args:
        client: the connection that it comes on.
        room: for keeping it.
    """

    def __init__(self, client: Link, room: Room) -> None:
        self._client = client
        self.kept = Kept(room)
        self.ended = False
        # The client is gone: it is not the upstream's fault when a request then ends half-way.
        self.client_gone = False

    async def pieces(self, upstream: Link | None = None) -> AsyncIterator[bytes]:
        """The body from its beginning, as far as it came before, and then as it comes.

        Args:
            upstream: where the pieces go: what it holds back is written before the client is waited for.

        Raises:
            Broken: the client's connection broke off.
        """
        for piece in list(self.kept.pieces):
            yield piece
        while not self.ended:
            event = await self._next(upstream)
            if isinstance(event, h11.Data):
                piece = bytes(event.data)
                self.kept.add(piece)
                yield piece
            elif isinstance(event, h11.EndOfMessage):
                self.ended = True
            else:
                self.client_gone = True
                raise Broken("the client left within its request")

    async def _next(self, upstream: Link | None) -> Any:
        try:
            event = self._client.at_hand()
        except Broken:
            self.client_gone = True
            raise
        if event is not None:
            return event
        if upstream is not None:
            await upstream.flush()
        try:
            return await self._client.receive()
        except Broken:
            self.client_gone = True
            raise

    @property
    def can_be_sent_again(self) -> bool:
        """Whether every byte that came so far is still there."""
        return self.kept.is_whole
