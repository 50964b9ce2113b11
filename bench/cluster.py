"""A Ray cluster of two nodes on this machine: started, one node killed, ended by process ids.

Never by `ray stop`, which ends every Ray on the machine. The tests of `dukou fleet up --ray` use it too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.process import tree_of
from bench.workplace import Unavailable

_OBJECT_STORE_BYTES = 80 * 1024 * 1024
_START_S = 90.0
_POLL_S = 0.05


class Cluster:
    """Two nodes.

    Args:
        python: whose Ray it is, and what its workers run.
        folder: for its files; the path must be short, for sockets lie in it.
        environment: what its processes have beside this one's.
        cpus: that each node offers.
    """

    def __init__(
        self, python: Path, folder: Path, environment: Mapping[str, str], cpus: int = 3
    ) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.address = f"127.0.0.1:{self._port}"
        self._ray = python.with_name("ray")
        self._python = python
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._cpus = cpus
        self._nodes: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> list[int]:
        """Of the nodes' first processes; all others are below them."""
        return [node.pid for node in self._nodes]

    def start(self) -> None:
        """Both, one after the other: the second needs the first.

        Raises:
            Unavailable: one does not start.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        head = ["--head", f"--port={self._port}", f"--temp-dir={self._folder}"]
        self._start("head", [*head, "--include-dashboard=false"])
        self._start("second", [f"--address={self.address}"])

    def kill_second(self) -> None:
        """What runs the second node dies without a word, as by a power cut."""
        _kill(self._nodes.pop())

    def end(self) -> None:
        """Ends every process of it; asked by a signal it would take half a minute."""
        while self._nodes:
            _kill(self._nodes.pop())

    def _start(self, name: str, words: list[str]) -> None:
        log = self._folder / f"{name}.log"
        command = [
            *(str(self._python), str(self._ray), "start", "--block"),
            *words,
            *("--node-ip-address=127.0.0.1", f"--num-cpus={self._cpus}", "--disable-usage-stats"),
            f"--object-store-memory={_OBJECT_STORE_BYTES}",
        ]
        with log.open("wb") as output:
            node = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._nodes.append(node)
        deadline = time.monotonic() + _START_S
        while "Ray runtime started" not in (said := log.read_text("utf-8", "replace")):
            if node.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"Ray's {name} node does not start: {said[-1000:]}")
            time.sleep(_POLL_S)


def _kill(node: subprocess.Popen[bytes]) -> None:
    # The starter first, so that nothing is started again; then all that was below it.
    pids = tree_of(node.pid)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    node.wait(20)


@contextlib.contextmanager
def ray_cluster(
    python: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Cluster]:
    """Two nodes, ended with the block."""
    cluster = Cluster(python, folder, environment or {})
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()
