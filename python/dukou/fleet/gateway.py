"""The gateway of a fleet: a `dukou serve` whose models are answered by the replicas.

What it is to do stands in a deployment document that is written anew when replicas come and go; its
control reads it again within a second. That a replica is dead the engine sees by itself, long before.
"""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError, RemoteError, relay_error
from dukou.fleet.local import spawn_dukou
from dukou.fleet.replica import FleetOrder
from dukou.serve.keep import Kept
from dukou.serve.local_api import LocalApi
from dukou.serve.process import ChildProcess, last_lines


class Gateway:
    """One gateway, kept running.

    Attributes:
        facts: what it said when it was ready; empty before, and while it is started again.
        urls: the replicas that its document names.
    """

    def __init__(self, order: FleetOrder) -> None:
        self.facts: dict[str, Any] = {}
        self.urls: tuple[str, ...] = ()
        self._order = order
        self._document = order.folder / "gateway.toml"
        self._log = order.folder / "gateway.log"
        self._url: str | None = None
        self._failure: DukouError | None = None
        self._kept = Kept("gateway", self._spawn)

    @property
    def is_started(self) -> bool:
        """Whether it was started once."""
        return self._kept.restarts >= 0

    @property
    def pid(self) -> int | None:
        """Its supervisor's."""
        return None if self._kept.child is None else self._kept.child.pid

    @property
    def restarts(self) -> int:
        """How often it was started again."""
        return max(0, self._kept.restarts)

    def point_at(self, models: Sequence[str], urls: Sequence[str]) -> None:
        """Writes its document, where that says something else."""
        if tuple(urls) == self.urls:
            return
        lines = ["version = 1", f"name = {json.dumps(f'{self._order.name}-gateway')}"]
        for name in models:
            # A string of JSON is one of TOML.
            lines += ["", "[[models]]", f"name = {json.dumps(name)}", "[models.remote]"]
            lines.append(f"replicas = {json.dumps(list(urls))}")
        incoming = self._document.with_suffix(".new")
        incoming.write_text("\n".join([*lines, ""]), encoding="utf-8")
        incoming.replace(self._document)
        self.urls = tuple(urls)

    def start(self, now: float) -> None:
        """Starts it; its document is written."""
        self._kept.start(now)

    def step(self, now: float, *, again: bool) -> list[str]:
        """Hears it, and starts it again where that is due.

        Raises:
            DukouError: why its first start failed.
        """
        kept, said = self._kept, []
        if kept.child is not None:
            for event in kept.child.read_events():
                self._hear(event)
            ended = kept.reap(now)
            if ended is not None:
                self.facts = {}
                failure, self._failure = self._failure, None
                if not again:
                    return []
                if self._url is None:
                    raise failure or self._no_start(ended)
                why = f": {failure}" if failure is not None else ""
                said.append(f"warning: the gateway {ended}{why}; it is started again")
        if again and kept.due is not None and kept.due <= now:
            kept.start(now)
        return said

    def names(self, url: str) -> bool:
        """Whether what its engine serves now still names this replica; yes where it does not say."""
        if not self.facts:
            return False  # it is down, and begins with its document
        try:
            table = LocalApi(Path(self.facts["socket"]), timeout_s=1.0).table()
        except DukouError:
            return True
        return url in json.dumps(table)

    def descriptors(self) -> list[int]:
        """What becomes readable when it says something."""
        child = self._kept.child
        return [] if child is None or child.stdout < 0 else [child.stdout]

    def drain(self) -> None:
        """Has it answer what it has taken, and end."""
        if self._kept.child is not None:
            self._kept.child.signal(signal.SIGTERM)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._kept.child is not None

    def kill(self) -> None:
        """Ends it at once."""
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
                self.facts, self._url = event, str(event["url"])
            case "error":
                self._failure = relay_error(
                    str(event["code"]), str(event["message"]), event.get("hint")
                )

    def _spawn(self) -> ChildProcess:
        words = list(self._order.gateway)
        if self._url is not None:
            # Started again where its callers know it.
            words += ["--port", str(urllib.parse.urlsplit(self._url).port)]
        return spawn_dukou(
            ["serve", "--json", *words, "--", os.fspath(self._document)],
            home=self._order.home,
            log=self._log,
            environment={},
        )

    def _no_start(self, ended: str) -> DukouError:
        said = last_lines(self._log)
        return RemoteError(
            "engine.no-start",
            f"the gateway {ended} before it answered{f': {said}' if said else ''}",
        )
