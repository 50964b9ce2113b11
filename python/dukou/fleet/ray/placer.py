"""What talks to Ray: holds a fleet's actors at the wanted number, and says on stdout where they answer.

Actors are detached and named: a placer that is killed and comes back finds them. It ends them when it is
told to end, or when the fleet's process is gone.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from dukou.base.errors import DukouError, InputError, RemoteError, relay_error
from dukou.fleet.ray.actor import ReplicaActor

_LOOK_S = 0.25
_CONNECT_S = 30.0
_STOP_S = 30.0
# How long nothing is said at the start while some replicas are not known yet.
_QUIET_S = 15.0
_KNOCK_S = 5.0


def main(words: list[str]) -> int:
    """Places replicas until told to end."""
    order = json.loads(words[0])
    ending, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def end(_number: int, _frame: FrameType | None) -> None:
        os.write(writing, b"x")

    waited = [ending]
    lifeline = os.environ.pop("DUKOU_LIFELINE_FD", "")
    if lifeline.isdigit():
        os.set_inheritable(int(lifeline), False)
        waited.append(int(lifeline))
    events = _own_stdout()
    placer = None
    try:
        placer = Placer(order, events)
        # Ray sets its own handlers when it connects.
        signal.signal(signal.SIGTERM, end)
        signal.signal(signal.SIGINT, end)
        while True:
            placer.step()
            if select.select(waited, [], [], _LOOK_S)[0]:
                placer.end()
                return 0
    except DukouError as error:
        if placer is not None:
            placer.end()  # detached actors would go on trying for ever
        _emit(
            events,
            {"event": "error", "code": error.code, "message": error.message, "hint": error.hint},
        )
        return error.exit_status


class Placer:
    """A fleet's actors in one cluster.

    Args:
        order: as `RayPlace` writes it.
        events: a descriptor that events are written to.
    """

    def __init__(self, order: dict[str, Any], events: int) -> None:
        self._order = order
        self._events = events
        self._ray = _connect(order["address"], f"dukou-fleet-{order['fleet']}")
        self._actors: dict[str, _Placed] = {}
        self._alive: set[str] = set()
        self._told: list[dict[str, Any]] | None = None
        self._quiet_until = time.monotonic() + _QUIET_S
        self._waiting_since: float | None = None
        self._said = ""
        self._ever_answered = False

    def step(self) -> None:
        """Looks at every actor, makes what is missing, says what changed.

        Raises:
            DukouError: the replica's own error, where none ever answered.
        """
        wanted, released = self._wanted()
        for number in range(1, wanted + 1):
            name = f"replica-{number}"
            if name not in self._actors:
                self._actors[name] = _Placed(self._ray, self._order, name)
        for name in released:
            if name in self._actors:
                self._actors.pop(name).end()
        alive = {node["NodeID"] for node in self._ray.nodes() if node["Alive"]}
        for node in self._alive - alive:
            self._say(f"warning: Ray says that its node {node[:8]} is gone")
        self._alive = alive
        for placed in self._actors.values():
            placed.look(alive)
        self._judge()
        if (
            self._told is None
            and time.monotonic() < self._quiet_until
            and not all(placed.facts for placed in self._actors.values())
        ):
            # Where it was started again, a half of the replicas would be taken for all of them.
            return
        described = [placed.describe() for placed in self._actors.values()]
        if described != self._told:
            _emit(self._events, {"event": "replicas", "replicas": described})
            self._told = described

    def end(self) -> None:
        """Ends every actor; its server answers what it has taken before."""
        calls = [call for placed in self._actors.values() if (call := placed.stop()) is not None]
        with contextlib.suppress(Exception):
            self._ray.wait(calls, num_returns=len(calls), timeout=_STOP_S) if calls else None
        for placed in self._actors.values():
            placed.kill()
        self._ray.shutdown()

    def _judge(self) -> None:
        answered = any(placed.facts.get("url") for placed in self._actors.values())
        for placed in self._actors.values():
            failure = placed.facts.get("failure")
            if failure is None:
                continue
            error = relay_error(failure["code"], failure["message"], failure["hint"])
            if not answered and not self._ever_answered:
                raise error
            self._say(f"warning: {placed.name} does not start: {error}")
        self._ever_answered |= answered
        pending = [placed.name for placed in self._actors.values() if not placed.facts]
        if not pending:
            self._waiting_since = None
            return
        now = time.monotonic()
        self._waiting_since = self._waiting_since or now
        if now - self._waiting_since > _CONNECT_S:
            self._waiting_since = now
            free = self._ray.available_resources()
            self._say(
                f"warning: Ray has not placed {', '.join(pending)} yet: each asks for "
                f"{self._order['cpus']:g} CPUs, and {free.get('CPU', 0):g} are free"
            )

    def _say(self, sentence: str) -> None:
        if sentence != self._said:
            self._said = sentence
            _emit(self._events, {"event": "said", "message": sentence})

    def _wanted(self) -> tuple[int, list[str]]:
        document = json.loads(Path(self._order["wanted"]).read_text(encoding="utf-8"))
        return int(document["replicas"]), list(document["released"])


class _Placed:
    """One actor, and the question that is under way to it."""

    def __init__(self, ray: Any, order: dict[str, Any], name: str) -> None:
        self.name = name
        self.facts: dict[str, Any] = {}
        self._ray = ray
        self._order = order
        self._instances: list[str] = []
        self._actor = self._find_or_make()
        self._call: Any = None

    def look(self, alive: set[str]) -> None:
        """Hears its answer, where one came; a replica on a node that is gone is none."""
        if self._call is None:
            self._call = self._actor.describe.remote()
        if self._ray.wait([self._call], timeout=0)[0]:
            call, self._call = self._call, None
            try:
                self.facts = self._ray.get(call)
                if self.facts["instance"] not in self._instances:
                    self._instances.append(self.facts["instance"])
            except self._ray.exceptions.ActorDiedError:
                # For good, as when somebody killed it by name: Ray makes no other.
                self.facts = {}
                self._actor = self._find_or_make()
            except self._ray.exceptions.RayError:
                self.facts = {}
        if self.facts and self.facts["node"] not in alive:
            self.facts = {}

    def describe(self) -> dict[str, Any]:
        """As a `Replica`."""
        facts = self.facts
        node = facts.get("node")
        return {
            "name": self.name,
            "where": f"{facts['where']}/{node[:8]}" if node else "not placed",
            "pid": facts.get("pid"),
            "url": facts.get("url"),
            "socket": facts.get("socket"),
            # Each further actor is a restart too; its server counts its own.
            "restarts": facts.get("restarts", 0) + max(0, len(self._instances) - 1),
            "models": facts.get("models", []),
            "leaving": False,
        }

    def stop(self) -> Any:
        """Has its server end; the call that says when."""
        try:
            return self._actor.stop.remote()
        except self._ray.exceptions.RayError:
            return None

    def kill(self) -> None:
        """Ends the actor, for good."""
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(self._actor, no_restart=True)

    def end(self) -> None:
        """Has its server end, and ends the actor."""
        call = self.stop()
        if call is not None:
            self._ray.wait([call], timeout=_STOP_S)
        self.kill()

    def _find_or_make(self) -> Any:
        order = self._order
        options: dict[str, Any] = {
            "name": self.name,
            "get_if_exists": True,
            "lifetime": "detached",
            "max_restarts": -1,
            "max_concurrency": 4,
            "num_cpus": order["cpus"],
            "scheduling_strategy": "SPREAD",
        }
        if order["memory_bytes"] is not None:
            options["memory"] = order["memory_bytes"]
        kind = self._ray.remote(ReplicaActor)
        return kind.options(**options).remote(
            order["fleet"], self.name, order["words"], order["home"], _own_environment()
        )


def _connect(address: str, namespace: str) -> Any:
    """Ray, connected.

    Raises:
        RemoteError: `fleet.no-cluster`.
        InputError: `fleet.elsewhere`: it is a cluster of other machines.
    """
    ray: Any = importlib.import_module("ray")
    _refuse_silence(address)
    try:
        ray.init(
            address=address,
            namespace=namespace,
            log_to_driver=False,
            configure_logging=False,
            # The code is here and on the nodes, installed; nothing is uploaded.
            runtime_env={},
        )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        first = str(error).strip().splitlines()
        raise RemoteError(
            "fleet.no-cluster",
            f"no Ray cluster answers at `{address}`: {first[0] if first else type(error).__name__}",
        ) from error
    here = {ray.util.get_node_ip_address(), "127.0.0.1"}
    foreign = sorted(
        node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeManagerAddress"] not in here
    )
    if foreign:
        ray.shutdown()
        raise InputError(
            "fleet.elsewhere",
            f"the cluster at `{address}` has nodes on other machines ({', '.join(foreign)}), and "
            "replicas answer on loopback, in clear",
        )
    return ray


def _refuse_silence(address: str) -> None:
    """Ray asks an address where nobody listens for minutes.

    Raises:
        RemoteError: `fleet.no-cluster`.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        return  # `auto`, a client's address: Ray's own matter
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise RemoteError(
            "fleet.no-cluster", f"no Ray cluster answers at `{address}`: {error}"
        ) from error


def _own_environment() -> dict[str, str]:
    """The settings that a server needs and the runtime folder, as they are here; no caller's key."""
    names = ("XDG_RUNTIME_DIR", "DUKOU_REGISTRY", "DUKOU_ENCRYPTION_KEY", "DUKOU_ENGINE")
    return {name: os.environ[name] for name in names if name in os.environ}


def _own_stdout() -> int:
    """A descriptor for events; what Ray and others print goes to the log."""
    events = os.dup(1)
    os.set_inheritable(events, False)
    os.dup2(2, 1)
    return events


def _emit(events: int, event: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(events, json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
