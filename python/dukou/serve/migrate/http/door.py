"""The door of a migration that speaks HTTP/1.1: it listens, and each request goes to the side that answers."""

from __future__ import annotations

import asyncio
import ssl

import h11

from dukou.base.errors import StateError
from dukou.serve.listen import address_of, open_listener
from dukou.serve.migrate.address import Address
from dukou.serve.migrate.http.forward import Forwarder
from dukou.serve.migrate.http.link import Broken, Upstream
from dukou.serve.migrate.mirror import Mirror
from dukou.serve.migrate.tally import Tally

_READY_S = 10.0


class HttpDoor:
    """Where the clients of an old server's HTTP port come.

    Args:
        old: the server that was there.
        new: ours.
        tls: what certificates are checked with.
        key: shown to ours; None: the client's own credentials.
        mirror: takes copies of what the old one answered.
        tally: where it is counted.
    """

    def __init__(
        self,
        old: Address,
        new: Address,
        tls: ssl.SSLContext | None,
        key: str | None,
        mirror: Mirror,
        tally: Tally,
    ) -> None:
        self._new = Upstream(new, tls, key)
        # Connections of their own, for copies.
        self._copies = Upstream(new, tls, key)
        self._old = Upstream(old, tls)
        self._forwarder = Forwarder(self._old, self._new, self._copies, mirror, tally)

    def listen(self, host: str, port: int, *, insecure: bool) -> tuple[str, int]:
        """Takes the port; its URL, and its number.

        Raises:
            DukouError: as `open_listener`.
        """
        self._listener = open_listener(host, port, guarded=insecure)
        return address_of(self._listener), int(self._listener.getsockname()[1])

    async def open(self) -> None:
        """Clients are let in from now on."""
        self._server = await asyncio.start_server(
            self._forwarder.accept, sock=self._listener, backlog=4096
        )

    @property
    def side(self) -> str:
        """Who answers: `old` or `new`."""
        return self._forwarder.side

    @side.setter
    def side(self, side: str) -> None:
        self._forwarder.side = side

    async def check_ready(self) -> None:
        """Whether ours can take over.

        Raises:
            StateError: `server.not-running`.
        """
        new = self._new.address
        try:
            link = await self._new.open(fresh=True)
            try:
                head = h11.Request(
                    method="GET", target="/v2/health/ready", headers=[("Host", new.authority)]
                )
                await link.send(head)
                await link.send(h11.EndOfMessage())
                event = await asyncio.wait_for(link.receive(), _READY_S)
            finally:
                link.close()
        except (Broken, TimeoutError) as error:
            raise StateError(
                "server.not-running", f"`{new.url}` does not answer: {error}"
            ) from error
        if not isinstance(event, h11.Response) or event.status_code != 200:
            status = getattr(event, "status_code", "nothing")
            raise StateError("server.not-running", f"`{new.url}` is not ready: it answers {status}")

    async def drain(self, seconds: float) -> None:
        """Lets nobody in any more; what has begun is answered."""
        self._server.close()
        await self._forwarder.drain(seconds)

    async def close(self) -> None:
        """Gives the port and the connections back."""
        self._listener.close()
        for upstream in (self._old, self._new, self._copies):
            upstream.close()
