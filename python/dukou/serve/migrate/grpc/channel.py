"""A server that calls are passed on to, over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from dukou.serve.calls import OPTIONS, Roots
from dukou.serve.migrate.address import Address

# A server that comes back is found soon.
_CHANNEL_OPTIONS = [
    *OPTIONS,
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.enable_http_proxy", 0),
    # Two channels to one server are two connections: copies are never in a client's way.
    ("grpc.use_local_subchannel_pool", 1),
]
# What gRPC itself says anew on the next hop.
_HOP = {"user-agent", "content-type", "te", "host"}
# But what callers and servers say to each other under its name: traces, errors in detail, when to try again.
_PASSED = {"grpc-trace-bin", "grpc-tags-bin", "grpc-status-details-bin", "grpc-retry-pushback-ms"}
Metadata = tuple[tuple[str, str | bytes], ...]
Call = Any  # grpc.aio.StreamStreamCall, whose stubs know no bytes


class Upstream:
    """One server.

    Args:
        address: where it answers.
        roots: what its certificate is checked against.
        key: shown to it in place of the client's own; None leaves those.
    """

    def __init__(
        self, address: Address, roots: Roots | None = None, key: str | None = None
    ) -> None:
        self.address = address
        self._key = key
        if address.is_secure:
            credentials = grpc.ssl_channel_credentials(None if roots is None else roots.pem)
            self._channel = grpc.aio.secure_channel(
                address.authority, credentials, _CHANNEL_OPTIONS
            )
        else:
            self._channel = grpc.aio.insecure_channel(address.authority, _CHANNEL_OPTIONS)

    def call(self, method: str, metadata: Metadata, timeout: float | None) -> Call:
        """Begins a call; messages are bytes. On the wire a call of one message is a stream of one."""
        own = [(name, value) for name, value in metadata if not _is_dropped(name, self._key)]
        if self._key is not None:
            own.append(("authorization", f"Bearer {self._key}"))
        made: Callable[..., Call] = self._channel.stream_stream(method)
        return made(metadata=tuple(own), timeout=timeout)

    @property
    def is_away(self) -> bool:
        """Whether it cannot be reached, as far as is known."""
        return self._channel.get_state() is not grpc.ChannelConnectivity.READY

    async def close(self) -> None:
        """Ends its connection."""
        await self._channel.close(None)


def onward(metadata: Any) -> Metadata:
    """A server's metadata as it goes on to the client."""
    return tuple((name, value) for name, value in metadata or () if not _is_dropped(name, None))


def _is_dropped(name: str, key: str | None) -> bool:
    if name == "authorization":
        return key is not None
    return name in _HOP or (name.startswith("grpc-") and name not in _PASSED)
