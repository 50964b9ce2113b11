"""The door of a migration that speaks gRPC: it listens, and each call goes to the side that answers."""

from __future__ import annotations

import grpc
import grpc.aio

from dukou.base.errors import StateError
from dukou.serve.calls import OPTIONS, Roots
from dukou.serve.listen import address_of, open_listener
from dukou.serve.migrate.address import Address
from dukou.serve.migrate.grpc.channel import Upstream
from dukou.serve.migrate.grpc.forward import Forwarder
from dukou.serve.migrate.grpc.peer import ask
from dukou.serve.migrate.mirror import Mirror
from dukou.serve.migrate.tally import Tally

# Calls that are passed on at once; more are refused, as gRPC's servers do.
_CALLS = 1024
_READY = "/inference.GRPCInferenceService/ServerReady"
# A `ServerReadyResponse` that says so.
_IS_READY = b"\x08\x01"


class GrpcDoor:
    """Where the clients of an old server's gRPC port come.

    Args:
        old: the server that was there.
        new: ours.
        roots: what certificates are checked against.
        key: shown to ours; None: the client's own credentials.
        mirror: takes copies of what the old one answered.
        tally: where it is counted.
    """

    def __init__(
        self,
        old: Address,
        new: Address,
        roots: Roots | None,
        key: str | None,
        mirror: Mirror,
        tally: Tally,
    ) -> None:
        self._old = Upstream(old, roots)
        self._new = Upstream(new, roots, key)
        self._copies = Upstream(new, roots, key)
        self._forwarder = Forwarder(self._old, self._new, self._copies, mirror, tally)
        self._server = grpc.aio.server(
            handlers=[self._forwarder],
            options=[*OPTIONS, ("grpc.so_reuseport", 0)],
            maximum_concurrent_rpcs=_CALLS,
        )

    def listen(self, host: str, port: int, *, insecure: bool) -> tuple[str, int]:
        """Takes the port; its URL, and its number.

        Raises:
            DukouError: as `open_listener`.
        """
        # grpcio opens its own socket and says little where it cannot: ours finds the port, and the reason.
        with open_listener(host, port, guarded=insecure) as probe:
            url = address_of(probe, "grpc")
            address, number = probe.getsockname()[:2]
        shown = f"[{address}]:{number}" if ":" in address else f"{address}:{number}"
        try:
            self._server.add_insecure_port(shown)
        except RuntimeError as error:
            raise StateError("server.port-in-use", f"`{shown}` was taken just now") from error
        return url, int(number)

    async def open(self) -> None:
        """Clients are let in from now on."""
        await self._server.start()

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
        url = self._new.address.url
        code, details, message = await ask(self._new, _READY)
        if code is not grpc.StatusCode.OK:
            raise StateError("server.not-running", f"`{url}` does not answer: {details}")
        if message != _IS_READY:
            raise StateError("server.not-running", f"`{url}` is not ready")

    async def drain(self, seconds: float) -> None:
        """Lets nobody in any more; what has begun is answered."""
        await self._server.stop(seconds)

    async def close(self) -> None:
        """Gives the port and the connections back."""
        await self._server.stop(None)
        for upstream in (self._old, self._new, self._copies):
            await upstream.close()
