"""The servers that dukou stands in for: their usual ports, and whose meaning a path has there.

Standard library only: `dukou serve` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from dukou.base.errors import InputError
from dukou.deploy import defaults

# The listener that a server's address is of; the others are called by what they are for.
FIRST = "http"


class Peer(NamedTuple):
    """A server that clients were written for.

    Attributes:
        title: as people call it.
        ports: listener → port, the one that its address is of first.
        dialect: whose meaning a path has that means two things.
    """

    title: str
    ports: Mapping[str, int]
    dialect: str

    def ports_at(self, first: int | None) -> dict[str, int]:
        """Its ports with the first one elsewhere, the others as far from it as ever; 0: free ones.

        Raises:
            InputError: `usage.invalid`: one of them would be no port.
        """
        usual = self.ports[FIRST]
        if first is None or first == usual:
            return dict(self.ports)
        moved = {n: 0 if first == 0 else p - usual + first for n, p in self.ports.items()}
        for name, port in moved.items():
            if not 0 <= port <= 65535:
                raise InputError(
                    "usage.invalid",
                    f"`--port {first}` puts the port for {name} at {port}, which is none",
                    hint=f"{self.title}'s ports keep their distances: {self.shown(self.ports)}",
                )
        return moved

    def dialects(self) -> tuple[str, ...]:
        """Every dialect, its own first."""
        return tuple(sorted(defaults.DIALECTS, key=lambda dialect: dialect != self.dialect))

    @staticmethod
    def shown(ports: Mapping[str, int]) -> str:
        """`http 8000, grpc 8001, metrics 8002`."""
        return ", ".join(f"{name} {port}" for name, port in ports.items())


PEERS: dict[str, Peer] = {
    "tensorflow-serving": Peer("TensorFlow Serving", {FIRST: 8501, "grpc": 8500}, "tensorflow"),
    "torchserve": Peer(
        "TorchServe",
        {
            FIRST: 8080,
            "management": 8081,
            "metrics": 8082,
            "grpc": 7070,
            "grpc-management": 7071,
        },
        "torchserve",
    ),
    "triton": Peer("Triton", {FIRST: 8000, "grpc": 8001, "metrics": 8002}, "v2"),
}
