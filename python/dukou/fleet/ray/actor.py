"""One replica in the cluster: an actor that keeps a `dukou serve` running on its node.

Where the node or the actor's process dies, Ray starts the actor anew, elsewhere if need be, and it starts
its server. The server ends with the actor's process: its lifeline closes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

from dukou.base.errors import relay_error
from dukou.fleet.local import spawn_dukou
from dukou.fleet.replica import REPLICA_OF
from dukou.serve.keep import Kept
from dukou.serve.process import ChildProcess

_LOOK_S = 0.05
_DRAIN_S = 30.0


class ReplicaActor:
    """Keeps one server running.

    Args:
        fleet: the fleet's name.
        name: the replica's.
        words: of the server's `dukou`.
        home: DUKOU_HOME, the same on every node.
        environment: what the server has beside its node's own.
    """

    def __init__(
        self, fleet: str, name: str, words: list[str], home: str, environment: dict[str, str]
    ) -> None:
        ray: Any = importlib.import_module("ray")
        context = ray.get_runtime_context()
        self._node = str(context.get_node_id())
        self._where = str(ray.util.get_node_ip_address())
        self._instance = os.urandom(8).hex()
        self._words, self._home = words, Path(home)
        self._environment = {**environment, REPLICA_OF: f"{fleet}/{name}"}
        self._log = self._home / "fleets" / fleet / f"{name}.log"
        self._kept = Kept(name, self._spawn)
        self._facts: dict[str, Any] = {}
        self._failure: dict[str, Any] | None = None
        self._stopping = False
        self._kept.start(time.monotonic())
        threading.Thread(target=self._keep, daemon=True).start()

    def describe(self) -> dict[str, Any]:
        """Where it runs and answers; `failure` says why it does not."""
        child = self._kept.child
        return {
            "node": self._node,
            "instance": self._instance,
            "where": self._where,
            "pid": None if child is None else child.pid,
            "url": self._facts.get("url"),
            "socket": self._facts.get("socket"),
            "models": list(self._facts.get("models", ())),
            "restarts": max(0, self._kept.restarts),
            "failure": self._failure,
        }

    def stop(self) -> None:
        """Has the server answer what it has taken, and end."""
        self._stopping = True
        child = self._kept.child
        if child is None:
            return
        with contextlib.suppress(OSError):
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + _DRAIN_S
        while self._kept.child is not None and time.monotonic() < deadline:
            time.sleep(_LOOK_S)

    def _keep(self) -> None:
        while True:
            now = time.monotonic()
            child = self._kept.child
            if child is not None:
                for event in child.read_events():
                    self._hear(event)
                if self._kept.reap(now) is not None:
                    self._facts = {}
            if not self._stopping and self._kept.due is not None and self._kept.due <= now:
                self._kept.start(now)
            time.sleep(_LOOK_S)

    def _hear(self, event: dict[str, Any]) -> None:
        match event.get("event"):
            case "ready":
                self._facts, self._failure = event, None
            case "error":
                error = relay_error(str(event["code"]), str(event["message"]), event.get("hint"))
                self._failure = {"code": error.code, "message": error.message, "hint": error.hint}

    def _spawn(self) -> ChildProcess:
        self._log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _be_as_important_as_others()
        return spawn_dukou(
            self._words, home=self._home, log=self._log, environment=self._environment
        )


def _be_as_important_as_others() -> None:
    """Ray runs its workers at niceness 15, and a server would inherit that for good."""
    with contextlib.suppress(
        PermissionError
    ):  # an ordinary user cannot: the cluster's owner says it
        os.setpriority(os.PRIO_PROCESS, 0, 0)
