"""The bench's model in a Ray cluster: ours as `dukou fleet up --ray`, and Ray Serve, three replicas each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cluster import Cluster
from bench.digits import NAME, Digits
from bench.peers.dukou import Dukou, dukou_command
from bench.peers.peer import Running
from bench.peers.triton import free_port, installed
from bench.process import ServerProcess
from bench.workplace import ROOT, peers_python, program

REPLICAS = 3
_PROGRAM = Path(__file__).parent / "programs" / "ray_serve_app.py"
# docs.ray.io, "Enable High Throughput on Ray Serve", since 2.56.
TUNED = {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}


def cluster_environment(*, tuned: bool) -> dict[str, str]:
    """What the cluster's processes have: our code, and Ray Serve's switches."""
    return {
        # Ray runs workers at niceness 15, which the load generator beside them would win against.
        "RAY_worker_niceness": "0",
        "PYTHONPATH": str(ROOT / "python"),
        **(TUNED if tuned else {}),
    }


class DukouInRay:
    """Ours: replicas placed by the cluster, our gateway before them."""

    name = "dukou-ray"
    settings = f"`dukou fleet up FILE --ray --replicas {REPLICAS}` and nothing else; asked through the gateway"

    def versions(self) -> dict[str, str]:
        """Ours, and the cluster's."""
        return {**Dukou().versions(), **installed("ray")}

    @contextmanager
    def start(self, digits: Digits, folder: Path, cluster: Cluster) -> Iterator[Running]:
        """On port 0."""
        command: list[str | Path] = [*dukou_command(), "fleet", "up", digits.files["1"]]
        command += ["--name", NAME, "--ray", "--address", cluster.address, "--port", "0", "--json"]
        command += ["--replicas", str(REPLICAS)]
        environment = {
            "DUKOU_HOME": str(folder / "home"),
            "DUKOU_ENGINE": str(program("dukou-engine")),
            "RAY_DISABLE_IMPORT_WARNING": "1",
        }
        with ServerProcess(command, folder / "log", environment) as server:
            facts = json.loads(server.wait_line(r'(?m)^(\{.*"url".*\})$'))
            url = f"{facts['url']}/v2/models/{facts['models'][0]}/infer"
            yield Running(server.pid, url, server.command, server.started_at)


class RayServe:
    """Ray Serve: the same model in as many replicas, behind its own proxies.

    Args:
        tuned: whether the cluster has `TUNED`.
    """

    def __init__(self, *, tuned: bool) -> None:
        self.name = "ray-serve-tuned" if tuned else "ray-serve"
        switches = " ".join(f"{name}={value}" for name, value in TUNED.items())
        self.settings = (
            f"{REPLICAS} replicas, `max_ongoing_requests=64`, ONNX Runtime (1 thread) in an async handler"
            + (f"; {switches}, as its documentation says for high throughput" if tuned else "")
        )

    def versions(self) -> dict[str, str]:
        """Of the wheels in the peers' environment."""
        return installed("ray", "onnxruntime", "numpy", "uvicorn")

    @contextmanager
    def start(self, digits: Digits, folder: Path, cluster: Cluster) -> Iterator[Running]:
        """On a port that was free a moment ago."""
        port = free_port()
        command: list[str | Path] = [peers_python(), _PROGRAM, cluster.address, digits.files["1"]]
        command += [str(REPLICAS), str(port)]
        environment = {name: value for name, value in TUNED.items() if self.name.endswith("tuned")}
        with ServerProcess(command, folder / "log", {**os.environ, **environment}) as server:
            server.wait_line(r"(?m)^(SERVING)$", 120.0)
            url = f"http://127.0.0.1:{port}/infer"
            yield Running(server.pid, url, server.command, server.started_at)
