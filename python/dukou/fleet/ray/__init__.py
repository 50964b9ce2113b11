"""Replicas placed by a Ray cluster: one actor each, started again elsewhere when its node dies.

What talks to Ray is a process of its own (`placer`): Ray's client ends the process that it is in when it
has lost its cluster for good, and the gateway before the replicas must not end with it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import signal
import sys
import time
from typing import Any

from dukou.base.errors import DukouError, RemoteError, ResourceError, relay_error
from dukou.fleet.replica import FleetOrder, Replica, replica_words
from dukou.serve.keep import Kept
from dukou.serve.process import ChildProcess, last_lines

_LIFELINE = 3
_OLDEST = (2, 40)


def check_ray() -> None:
    """Whether Ray is installed here.

    Raises:
        ResourceError: `fleet.no-ray`.
    """
    if importlib.util.find_spec("ray") is None:
        raise ResourceError("fleet.no-ray", f"`ray` is not installed for `{sys.executable}`")
    version = importlib.metadata.version("ray")
    if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
        wanted = ".".join(map(str, _OLDEST))
        raise ResourceError("fleet.no-ray", f"`ray` is {version} here, and {wanted} is the oldest")


class RayPlace:
    """A `Place` in a Ray cluster.

    Args:
        order: of the fleet.
        address: of the cluster; the one of this machine where None.
    """

    kind = "ray"

    def __init__(self, order: FleetOrder, address: str | None) -> None:
        self._order = order
        self._address = address or os.environ.get("RAY_ADDRESS") or "auto"
        self._wanted_file = order.folder / "placer.json"
        self._log = order.folder / "placer.log"
        self._kept = Kept("what talks to Ray", self._spawn)
        self._failure: DukouError | None = None
        self._replicas: list[Replica] = []
        self._wanted = 0
        self._released: list[str] = []
        self._stopping = False
        self._proven = False

    def scale(self, count: int) -> None:
        """See `Place`."""
        self._wanted = count
        self._write()

    def step(self, now: float) -> list[str]:
        """See `Place`."""
        kept, said = self._kept, []
        again = not self._stopping
        if kept.child is None and kept.due is None and again and kept.restarts < 0:
            kept.start(now)
        if kept.child is not None:
            for event in kept.child.read_events():
                said += self._hear(event)
            ended = kept.reap(now)
            if ended is not None and again:
                failure, self._failure = self._failure, None
                if not self._proven:
                    raise failure or self._no_start(ended)
                why = f": {failure}" if failure is not None else ""
                said.append(f"warning: {kept.name} {ended}{why}; it is started again")
        if again and kept.due is not None and kept.due <= now:
            kept.start(now)
        return said

    def replicas(self) -> list[Replica]:
        """See `Place`."""
        return [
            replica._replace(leaving=int(replica.name.rpartition("-")[2]) > self._wanted)
            for replica in self._replicas
        ]

    def let_go(self, name: str) -> None:
        """See `Place`."""
        if name not in self._released:
            self._released.append(name)
            self._write()

    def descriptors(self) -> list[int]:
        """See `Place`."""
        child = self._kept.child
        return [] if child is None or child.stdout < 0 else [child.stdout]

    def drain(self) -> None:
        """See `Place`."""
        self._stopping = True
        if self._kept.child is not None:
            self._kept.child.signal(signal.SIGTERM)

    def is_empty(self) -> bool:
        """See `Place`."""
        return self._kept.child is None

    def kill(self) -> None:
        """See `Place`."""
        # Its actors outlive it unless it ends them itself: it is asked, and waited for a little.
        self.drain()
        child = self._kept.child
        if child is None:
            return
        deadline = time.monotonic() + 10.0
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        child.signal(signal.SIGKILL)
        while child.poll() is None:
            time.sleep(0.001)
        child.close()
        self._kept.child = None

    def _hear(self, event: dict[str, Any]) -> list[str]:
        match event.get("event"):
            case "replicas":
                self._replicas = [_replica(document) for document in event["replicas"]]
                self._proven |= any(replica.url is not None for replica in self._replicas)
                gone = {replica.name for replica in self._replicas}
                self._released = [name for name in self._released if name in gone]
            case "said":
                return [str(event["message"])]
            case "error":
                self._failure = relay_error(
                    str(event["code"]), str(event["message"]), event.get("hint")
                )
        return []

    def _write(self) -> None:
        self._order.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        document = {"format": 1, "replicas": self._wanted, "released": self._released}
        incoming = self._wanted_file.with_suffix(".new")
        incoming.write_text(json.dumps(document), encoding="utf-8")
        incoming.replace(self._wanted_file)

    def _spawn(self) -> ChildProcess:
        order = {
            "fleet": self._order.name,
            "home": os.fspath(self._order.home),
            "address": self._address,
            "wanted": os.fspath(self._wanted_file),
            "words": replica_words(self._order),
            "cpus": self._order.cpus,
            "memory_bytes": self._order.memory_bytes,
        }
        return ChildProcess.spawn(
            [sys.executable, "-P", "-m", "dukou.fleet.ray.placer", json.dumps(order)],
            places={},
            lifeline_place=_LIFELINE,
            environment={
                **{k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")},
                "DUKOU_LIFELINE_FD": str(_LIFELINE),
                # What Ray prints of workers is theirs; the log here is for what goes wrong.
                "RAY_DEDUP_LOGS": "1",
            },
            log=self._log,
        )

    def _no_start(self, ended: str) -> DukouError:
        said = last_lines(self._log)
        return RemoteError(
            "fleet.no-cluster",
            f"{self._kept.name} {ended} before a replica answered{f': {said}' if said else ''}",
        )


def _replica(document: dict[str, Any]) -> Replica:
    return Replica(**{**document, "models": tuple(document["models"])})
