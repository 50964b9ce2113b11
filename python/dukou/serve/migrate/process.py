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
from typing import Any, NamedTuple

import h11

from dukou.base.errors import DukouError, StateError
from dukou.deploy import defaults
from dukou.serve.listen import address_of, open_listener
from dukou.serve.migrate.compare import Tolerance
from dukou.serve.migrate.control import MigrationFolder, new_migration_folder
from dukou.serve.migrate.forward import Forwarder
from dukou.serve.migrate.link import Broken, Upstream
from dukou.serve.migrate.mirror import Mirror
from dukou.serve.migrate.peer import Address
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


Report = dict[str, Any]


class Migration:
    """One migration; `run` is all of it."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._tally = Tally()
        self._old = Upstream(order.old, order.tls)
        self._new = Upstream(order.new, order.tls, order.key)
        # Copies have connections of their own: they are never in a client's way.
        self._copies = Upstream(order.new, order.tls, order.key)
        self._mirror = Mirror(self._copies, self._tally, order.tolerance, order.share)
        self._forwarder = Forwarder(self._old, self._new, self._mirror, self._tally)
        self._url = ""

    async def run(self, on_ready: Callable[[Report], None]) -> Report:
        """Stands there until it is told to end.

        Returns:
            The last report.

        Raises:
            DukouError: why it could not begin.
        """
        order = self._order
        listener = open_listener(order.host, order.port, guarded=order.insecure)
        self._url = address_of(listener)
        port = int(listener.getsockname()[1])
        folder = new_migration_folder(port)
        lock = folder.hold()
        try:
            self._publish(folder, port)
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.add_signal_handler(number, ended.set)
            self._mirror.start()
            door = await asyncio.start_server(self._forwarder.accept, sock=listener, backlog=4096)
            ear = await asyncio.start_unix_server(self._listen, folder.socket)
            folder.socket.chmod(0o600)
            on_ready(self.report())
            await ended.wait()
            door.close()
            ear.close()
            await self._forwarder.drain(defaults.DRAIN_MS / 1000)
            await self._settle()
        finally:
            listener.close()
            await self._mirror.close()
            for upstream in (self._old, self._new, self._copies):
                upstream.close()
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
            "side": self._forwarder.side,
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
                self._forwarder.side = "old"
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
        await self._check_ready()
        self._forwarder.side = "new"

    async def _check_ready(self) -> None:
        new = self._order.new
        try:
            link = await self._new.open(fresh=True)
            try:
                head = h11.Request(
                    method="GET", target="/v2/health/ready", headers=[("Host", new.authority)]
                )
                await link.send(head)
                await link.send(h11.EndOfMessage())
                event = await asyncio.wait_for(link.receive(), 10.0)
            finally:
                link.close()
        except (Broken, TimeoutError) as error:
            raise StateError(
                "server.not-running", f"`{new.url}` does not answer: {error}"
            ) from error
        if not isinstance(event, h11.Response) or event.status_code != 200:
            status = getattr(event, "status_code", "nothing")
            raise StateError("server.not-running", f"`{new.url}` is not ready: it answers {status}")


def migrate(order: Order, on_ready: Callable[[Report], None]) -> Report:
    """Stands in front of the old server until told to end; the last report."""
    return asyncio.run(Migration(order).run(on_ready))
