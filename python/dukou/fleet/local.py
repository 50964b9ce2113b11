"""Replicas on this machine: each a `dukou serve` of its own, started again when it ends."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError, RemoteError, relay_error
from dukou.fleet.replica import REPLICA_OF, FleetOrder, Replica, replica_words
from dukou.serve.keep import Kept
from dukou.serve.process import ChildProcess, last_lines

_LIFELINE = 3


class LocalPlace:
    """A `Place` on this machine.

    Args:
        order: of the fleet.
    """

    kind = "local"

    def __init__(self, order: FleetOrder) -> None:
        self._order = order
        self._servers: dict[str, _Server] = {}
        self._ending: list[_Server] = []
        self._stopping = False
        # Whether a replica ever answered: before that, what is wrong is wrong with all of them.
        self._proven = False

    def scale(self, count: int) -> None:
        """See `Place`."""
        for number in range(1, count + 1):
            server = self._servers.setdefault(f"replica-{number}", _Server(self._order, number))
            server.leaving = False
        for number, server in enumerate(self._servers.values(), start=1):
            if number > count:
                server.leaving = True

    def step(self, now: float) -> list[str]:
        """See `Place`."""
        said = []
        for server in self._servers.values():
            try:
                said += server.step(now, again=not (server.leaving or self._stopping))
            except DukouError as error:
                if not self._proven:
                    raise
                said.append(f"warning: {server.name} does not start: {error}")
            self._proven |= server.url is not None
        for server in self._ending:
            server.step(now, again=False)
        self._ending = [server for server in self._ending if server.runs]
        return said

    def replicas(self) -> list[Replica]:
        """See `Place`."""
        return [server.describe() for server in self._servers.values()]

    def let_go(self, name: str) -> None:
        """See `Place`."""
        server = self._servers.pop(name)
        server.signal(signal.SIGTERM)
        self._ending.append(server)

    def descriptors(self) -> list[int]:
        """See `Place`."""
        every = [*self._servers.values(), *self._ending]
        return [d for server in every for d in server.descriptors()]

    def drain(self) -> None:
        """See `Place`."""
        self._stopping = True
        for server in self._servers.values():
            server.signal(signal.SIGTERM)

    def is_empty(self) -> bool:
        """See `Place`."""
        return not any(server.runs for server in [*self._servers.values(), *self._ending])

    def kill(self) -> None:
        """See `Place`."""
        self._stopping = True
        for server in [*self._servers.values(), *self._ending]:
            server.kill()


class _Server:
    """One replica's `dukou serve`."""

    def __init__(self, order: FleetOrder, number: int) -> None:
        self.name = f"replica-{number}"
        self.url: str | None = None
        self.leaving = False
        self._order = order
        self._facts: dict[str, Any] = {}
        self._failure: DukouError | None = None
        self._log = order.folder / f"{self.name}.log"
        self._kept = Kept(self.name, self._spawn)

    @property
    def runs(self) -> bool:
        return self._kept.child is not None

    def step(self, now: float, *, again: bool) -> list[str]:
        """Hears it, and starts it where that is due.

        Raises:
            DukouError: why it ended before it answered.
        """
        said = []
        kept = self._kept
        if kept.child is None and kept.due is None and again and kept.restarts < 0:
            kept.start(now)
        if kept.child is not None:
            for event in kept.child.read_events():
                self._hear(event)
            ended = kept.reap(now)
            if ended is not None:
                answered, self.url = self.url is not None, None
                failure, self._failure = self._failure, None
                if not again:
                    return []
                if not answered:
                    raise failure or self._no_start(ended)
                said.append(f"warning: {self.name} {ended}; it is started again")
        if again and kept.due is not None and kept.due <= now:
            kept.start(now)
        return said

    def describe(self) -> Replica:
        child = self._kept.child
        return Replica(
            name=self.name,
            where=socket.gethostname(),
            pid=None if child is None else child.pid,
            url=self.url,
            socket=self._facts.get("socket") if self.url is not None else None,
            restarts=max(0, self._kept.restarts),
            models=tuple(self._facts.get("models", ())),
            leaving=self.leaving,
        )

    def descriptors(self) -> list[int]:
        child = self._kept.child
        return [] if child is None or child.stdout < 0 else [child.stdout]

    def signal(self, number: int) -> None:
        if self._kept.child is not None:
            self._kept.child.signal(number)

    def kill(self) -> None:
        child = self._kept.child
        if child is None:
            return
        child.signal(signal.SIGKILL)
        while child.poll() is None:
            time.sleep(0.001)
        child.close()
        self._kept.child = None

    def _hear(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "ready":
                self._facts, self.url = event, str(event["url"])
            case "error":
                self._failure = relay_error(
                    str(event["code"]), str(event["message"]), event.get("hint")
                )

    def _spawn(self) -> ChildProcess:
        return spawn_dukou(
            replica_words(self._order),
            home=self._order.home,
            log=self._log,
            environment={REPLICA_OF: f"{self._order.name}/{self.name}"},
        )

    def _no_start(self, ended: str) -> DukouError:
        said = last_lines(self._log)
        return RemoteError(
            "engine.no-start",
            f"{self.name} {ended} before it answered{f': {said}' if said else ''}",
        )


def spawn_dukou(
    words: list[str], *, home: Path, log: Path, environment: dict[str, str]
) -> ChildProcess:
    """Starts a `dukou` that ends with this process, its events on its stdout."""
    # -P: the folder that the user stands in is no place to import from.
    return ChildProcess.spawn(
        [sys.executable, "-P", "-m", "dukou", *words],
        places={},
        lifeline_place=_LIFELINE,
        environment={
            **{k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")},
            "DUKOU_HOME": os.fspath(home),
            "DUKOU_LIFELINE_FD": str(_LIFELINE),
            **environment,
        },
        log=log,
    )
