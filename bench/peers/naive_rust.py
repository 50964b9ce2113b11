"""What a good engineer writes in an afternoon: hyper, serde_json, one session of the runtime a core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.digits import NAME, Digits
from bench.peers.peer import Running
from bench.process import ServerProcess
from bench.workplace import program, runtime_library


class NaiveRust:
    """No batching, no limits, no metrics, no log."""

    name = "naive-rust"

    def __init__(self) -> None:
        self._cores = len(os.sched_getaffinity(0))
        self.settings = (
            f"{self._cores} worker threads, a session each, run where the request is read"
        )

    def versions(self) -> dict[str, str]:
        """Pinned in Cargo.lock."""
        return {}

    @contextmanager
    def start(self, digits: Digits, folder: Path) -> Iterator[Running]:
        """On port 0."""
        command: list[str | Path] = [program("bench-naive"), "--model", digits.files["1"]]
        command += ["--runtime", runtime_library(), "--name", NAME, "--threads", str(self._cores)]
        with ServerProcess(command, folder / "log") as server:
            url = server.wait_line(r"listening on (\S+)\s")
            yield Running(
                server.pid, f"{url}/v2/models/{NAME}/infer", server.command, server.started_at
            )
