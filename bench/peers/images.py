"""Servers that hand a picture through: the echo of both ways, ours, Triton."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.dukou import Dukou, serve
from bench.peers.echo import THREADS
from bench.peers.peer import Running
from bench.peers.triton import Triton, place_stub, triton_server
from bench.pictures import INPUT, NAME, OUTPUT, SHAPE, Pictures
from bench.process import ServerProcess
from bench.workplace import program

_MODEL_PROGRAM = Path(__file__).parent / "programs" / "triton_identity.py"
_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: 0
input [ {{ name: "{input}", data_type: TYPE_FP32, dims: {dims} }} ]
output [ {{ name: "{output}", data_type: TYPE_FP32, dims: {dims} }} ]
instance_group [ {{ count: {instances}, kind: KIND_CPU }} ]
"""


class EchoBothWays:
    """hyper and nothing else; every body is answered with itself."""

    name = "echo-both-ways"
    settings = f"hyper HTTP/1.1, {THREADS} threads, nodelay; every body goes back in the pieces in which it came"

    def versions(self) -> dict[str, str]:
        """Pinned in Cargo.lock."""
        return {}

    @contextmanager
    def start(self, _work: Pictures, folder: Path, /) -> Iterator[Running]:
        """On port 0."""
        command: list[str | Path] = [program("bench-echo"), "--threads", str(THREADS)]
        with ServerProcess(command, folder / "log") as server:
            url = server.wait_line(r"listening on (\S+)\s")
            yield Running(server.pid, f"{url}/echo", server.command, server.started_at)


class DukouImages:
    """`dukou serve pictures.onnx`."""

    name = "dukou-images"
    settings = Dukou.settings

    def versions(self) -> dict[str, str]:
        """Ours."""
        return Dukou().versions()

    @contextmanager
    def start(self, work: Pictures, folder: Path, /) -> Iterator[Running]:
        """On port 0."""
        with serve([work.file], folder, name=NAME) as (server, facts):
            url = f"{facts['url']}/v2/models/{NAME}/infer"
            yield Running(server.pid, url, server.command, server.started_at)


class TritonImages:
    """Its HTTP door; the model hands the array on that it is given."""

    name = "triton-images"

    def __init__(self) -> None:
        self._instances = Triton().instances
        self.settings = (
            f"python backend, {self._instances} instances, which hand on what they are given; "
            "explicit model control"
        )

    def versions(self) -> dict[str, str]:
        """Of the wheels in the peers' environment."""
        return Triton().versions()

    @contextmanager
    def start(self, _work: Pictures, folder: Path, /) -> Iterator[Running]:
        """On a port that was free a moment ago."""
        place_stub()
        repository = folder / "models"
        shutil.rmtree(repository, ignore_errors=True)
        place = repository / NAME / "1"
        place.mkdir(parents=True)
        shutil.copy(_MODEL_PROGRAM, place / "model.py")
        config = _CONFIG.format(
            name=NAME, input=INPUT, output=OUTPUT, dims=list(SHAPE), instances=self._instances
        )
        (repository / NAME / "config.pbtxt").write_text(config, "utf-8")
        with triton_server(repository, NAME, folder) as (server, base, _):
            url = f"{base}/v2/models/{NAME}/infer"
            yield Running(server.pid, url, server.command, server.started_at)
