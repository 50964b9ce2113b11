"""What a fleet is told to run, what a replica of it is, and what a place does that runs replicas."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

# Says to a server that it is one of a fleet's: its name there. Not a setting: nobody types it.
REPLICA_OF = "DUKOU_REPLICA_OF"


class FleetOrder(NamedTuple):
    """What a fleet is to serve, and how.

    Attributes:
        name: of the fleet.
        model: what each replica serves: a reference, a deployment's name, or a file.
        replicas: how many there are to be.
        home: DUKOU_HOME.
        gateway: words for the gateway's `dukou serve`: where it listens, who may come in.
        replica: words for each replica's.
        memory_bytes: that one replica's engine may take, by the deployment; watched, and reserved where
            a place can reserve.
        cpus: that a place is to reserve for one replica.
    """

    name: str
    model: str
    replicas: int
    home: Path
    gateway: Sequence[str] = ()
    replica: Sequence[str] = ()
    memory_bytes: int | None = None
    cpus: float = 1.0

    @property
    def folder(self) -> Path:
        """Where the fleet's files lie: the gateway's document, logs."""
        return self.home / "fleets" / self.name


class Replica(NamedTuple):
    """One server of the fleet, as far as is known.

    Attributes:
        name: `replica-1`, `replica-2` …
        where: what it runs on, for people: a machine, or a node of a cluster.
        pid: its supervisor; None where it does not run.
        url: where it answers; None until it does.
        socket: its engine's local API, where that is on this machine.
        restarts: how often it was started again.
        models: what it serves.
        leaving: whether it is on its way out, and asked nothing more.
    """

    name: str
    where: str
    pid: int | None = None
    url: str | None = None
    socket: str | None = None
    restarts: int = 0
    models: tuple[str, ...] = ()
    leaving: bool = False


class Place(Protocol):
    """Where replicas run. It is stepped, never waits, and raises only what makes a start hopeless."""

    @property
    def kind(self) -> str:
        """`local`, `ray`."""
        ...

    def scale(self, count: int) -> None:
        """So many are wanted from now on. What is too many is `leaving` until it is let go."""
        ...

    def step(self, now: float) -> list[str]:
        """Does what is due; sentences for whoever watches.

        Raises:
            DukouError: why the very first replica cannot be started.
        """
        ...

    def replicas(self) -> list[Replica]:
        """All of them, in their order."""
        ...

    def let_go(self, name: str) -> None:
        """Ends a replica that is leaving: the gateway asks it nothing any more."""
        ...

    def descriptors(self) -> list[int]:
        """What becomes readable when there is something to do."""
        ...

    def drain(self) -> None:
        """Has every replica answer what it has taken, and end."""
        ...

    def is_empty(self) -> bool:
        """Whether all have ended."""
        ...

    def kill(self) -> None:
        """Ends what still runs, at once."""
        ...


def replica_words(order: FleetOrder) -> list[str]:
    """The words of one replica's `dukou`; its port is its own."""
    return [
        *("serve", "--json", "--host", "127.0.0.1", "--port", "0"),
        *order.replica,
        "--",
        order.model,
    ]
