"""mosec: a Rust front with Python workers. The same bytes in and out, at a route of our choosing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.digits import Digits
from bench.peers.peer import Running
from bench.peers.triton import free_port, installed
from bench.process import ServerProcess
from bench.workplace import peers_python

_PROGRAM = Path(__file__).parent / "programs" / "mosec_server.py"
_MAX_BATCH = 16
_WAIT_MS = 1


class Mosec:
    """A worker a core, batched, with msgspec for the JSON."""

    name = "mosec"

    def __init__(self) -> None:
        self._workers = len(os.sched_getaffinity(0))
        self.settings = (
            f"{self._workers} workers calling ONNX Runtime (1 thread), batches up to {_MAX_BATCH}, "
            f"wait {_WAIT_MS} ms, JSON by msgspec"
        )

    def versions(self) -> dict[str, str]:
        """Of the wheels in the peers' environment."""
        return installed("mosec", "msgspec", "onnxruntime", "numpy")

    @contextmanager
    def start(self, digits: Digits, folder: Path) -> Iterator[Running]:
        """On a port that was free a moment ago: it takes no port 0."""
        port = free_port()
        command: list[str | Path] = [peers_python(), _PROGRAM]
        command += ["--address", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
        environment = {
            "BENCH_MODEL": str(digits.files["1"]),
            "BENCH_WORKERS": str(self._workers),
            "BENCH_MAX_BATCH": str(_MAX_BATCH),
            "BENCH_WAIT_MS": str(_WAIT_MS),
        }
        with ServerProcess(command, folder / "log", environment) as server:
            base = f"http://127.0.0.1:{port}"
            server.wait_ready(f"{base}/metrics")
            yield Running(server.pid, f"{base}/inference", server.command, server.started_at)
