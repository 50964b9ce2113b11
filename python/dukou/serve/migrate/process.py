"""A migration from its start to its end: listens, passes on, compares, flips on a word, drains."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from dukou.base.errors import DukouError, StateError
from dukou.deploy import defaults
from dukou.serve.calls import Roots
from dukou.serve.migrate.address import Address
from dukou.serve.migrate.compare import Tolerance
from dukou.serve.migrate.control import MigrationFolder, new_migration_folder
from dukou.serve.migrate.mirror import Mirror
from dukou.serve.migrate.tally import Tally

_SETTLE_S = 30.0


class Order(NamedTuple):
    """What is to be done.

    Attributes:
        old: the server that was there.
        new: ours.
        server: what kind the old one is.
        host: the address that is listened on.
        port: 0 takes a free one.
        insecure: whether other machines may reach it, in clear.
        tolerance: how far numbers may be apart.
        share: of the inferences, so many are copied: 0 to 1.
        key: shown to ours; None: the client's own credentials.
        tls: what certificates are checked with.
        roots: the same for gRPC.
    """

    old: Address
    new: Address
    server: str
    host: str
    port: int
    insecure: bool
    tolerance: Tolerance
    share: float
    key: str | None
    tls: ssl.SSLContext | None
    roots: Roots | None


Report = dict[str, Any]


class Door(Protocol):
    """Where clients come: one for each protocol."""

    side: str

    def listen(self, host: str, port: int, *, insecure: bool) -> tuple[str, int]:
        """Takes the port; its URL, and its number."""

    async def open(self) -> None:
        """Clients are let in from now on."""

    async def check_ready(self) -> None:
        """Whether ours can take over; a `StateError` says why not."""

    async def drain(self, seconds: float) -> None:
        """Lets nobody in any more; what has begun is answered."""

    async def close(self) -> None:
        """Gives the port and the connections back."""


class Migration:
    """One migration; `run` is all of it."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._tally = Tally()
        self._mirror = Mirror(self._tally, order.tolerance, order.share)
        self._door = _make_door(order, self._mirror, self._tally)
        self._url = ""

    async def run(self, on_ready: Callable[[Report], None]) -> Report:
        """Stands there until it is told to end.

        Returns:
            The last report.

        Raises:
            DukouError: why it could not begin.
        """
        order = self._order
        self._url, port = self._door.listen(order.host, order.port, insecure=order.insecure)
        folder = new_migration_folder(port)
        lock = folder.hold()
        try:
            self._publish(folder, port)
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.add_signal_handler(number, ended.set)
            self._mirror.start()
            await self._door.open()
            ear = await asyncio.start_unix_server(self._listen, folder.socket)
            folder.socket.chmod(0o600)
            on_ready(self.report())
            await ended.wait()
            ear.close()
            await self._door.drain(defaults.DRAIN_MS / 1000)
            await self._settle()
        finally:
            await self._mirror.close()
            await self._door.close()
            folder.remove()
            os.close(lock)
        return self.report()

    def report(self) -> Report:
        """Where it stands."""
        return {
            "url": self._url,
            "from": self._order.old.url,
            "to": self._order.new.url,
            "server": self._order.server,
            "side": self._door.side,
            **self._tally.report(),
        }

    def _publish(self, folder: MigrationFolder, port: int) -> None:
        document = {
            "format": 1,
            "pid": os.getpid(),
            "started": time.time(),
            "url": self._url,
            "port": port,
            "from": self._order.old.url,
            "to": self._order.new.url,
        }
        folder.write(folder.migration, document)

    async def _settle(self) -> None:
        """Waits for the copies that are under way, for a while."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._mirror.settle(), _SETTLE_S)

    # --- what it is told ---

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            said = json.loads(await reader.readline())
            answer: dict[str, Any] = {"report": await self._obey(said)}
        except DukouError as error:
            failure = {"code": error.code, "message": error.message, "hint": error.hint}
            answer = {"error": failure}
        except (ValueError, OSError):
            writer.close()
            return
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def _obey(self, said: dict[str, Any]) -> Report:
        match said.get("do"):
            case "flip":
                await self._flip(force=bool(said.get("force")))
            case "back":
                self._door.side = "old"
            case _:
                await self._settle()
        return self.report()

    async def _flip(self, *, force: bool) -> None:
        """Has ours answer from the next request on. What has begun ends where it began."""
        await self._settle()
        report = self._tally.report()
        if not force and not report["compared"]:
            raise StateError(
                "migrate.differs",
                "nothing was compared yet, so that nobody knows whether the answers are the same",
                hint="send requests first, or say `--force`",
            )
        if not force and (report["different"] or report["unanswered"]):
            raise StateError(
                "migrate.differs",
                f"of {report['compared']} compared answers {report['different']} differ, and "
                f"{report['unanswered']} were not given here",
                hint="`dukou migrate --report` shows which; `--force` flips all the same",
            )
        await self._door.check_ready()
        self._door.side = "new"


def _make_door(order: Order, mirror: Mirror, tally: Tally) -> Door:
    if order.old.speaks_grpc:
        from dukou.serve.migrate.grpc.door import GrpcDoor

        return GrpcDoor(order.old, order.new, order.roots, order.key, mirror, tally)
    from dukou.serve.migrate.http.door import HttpDoor

    return HttpDoor(order.old, order.new, order.tls, order.key, mirror, tally)


def migrate(order: Order, on_ready: Callable[[Report], None]) -> Report:
    """Stands in front of the old server until told to end; the last report."""

    async def run() -> Report:
        # grpcio's channels belong to the loop that they are made in.
        return await Migration(order).run(on_ready)

    return asyncio.run(run())
