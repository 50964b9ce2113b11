"""A request's body: passed on piece by piece as it comes, and kept beside that as far as there is room."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import h11

from dukou.serve.migrate.http.link import Broken, Link
from dukou.serve.migrate.room import Kept, Room


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
