"""Other servers, started with the tests' classifier in them, each in its own environment."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import onnx
from onnx import numpy_helper
from tests.compatibility.questions import V1, V2, Question, ask, differences

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "peers"
Address = tuple[str, int]


class Peer(NamedTuple):
    """A server that the same is asked of.

    Attributes:
        name: its package.
        environment: its own, under `build`.
        questions: protocol → what is asked of it.
        start: its command line, by the weights' file, its port and a folder; what it needs to know beside.
    """

    name: str
    environment: str
    questions: dict[str, list[Question]]
    start: Callable[[Path, int, Path], tuple[list[str | Path], dict[str, str]]]

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return ROOT / "build" / self.environment / "bin" / "python"


def _kserve(weights: Path, port: int, _: Path) -> tuple[list[str | Path], dict[str, str]]:
    return [HERE / "kserve_server.py", weights, str(port)], {}


def _mlserver(weights: Path, port: int, folder: Path) -> tuple[list[str | Path], dict[str, str]]:
    shutil.copy(HERE / "mlserver_model.py", folder)
    settings = {
        "http_port": port,
        "grpc_port": _free_port(),
        "metrics_port": _free_port(),
        "parallel_workers": 0,
        "host": "127.0.0.1",
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    model = {"name": "m", "implementation": "mlserver_model.Classifier"}
    (folder / "model-settings.json").write_text(json.dumps(model))
    environment = {"WEIGHTS": str(weights), "PYTHONPATH": str(folder)}
    return ["-m", "mlserver.cli.main", "start", folder], environment


KSERVE = Peer("kserve", "clients-venv", {"V2": V2, "V1": V1}, _kserve)
MLSERVER = Peer("mlserver", "mlserver-venv", {"V2": V2}, _mlserver)


@contextlib.contextmanager
def running(peer: Peer, model: Path) -> Iterator[Address]:
    """The server with the weights of an ONNX file, ended with the block."""
    assert peer.python.is_file(), f"`make .stamps/{peer.environment}` makes `{peer.python}`"
    import numpy as np

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (weights,) = onnx.load(model).graph.initializer
        np.save(folder / "weights.npy", numpy_helper.to_array(weights))
        port = _free_port()
        words, environment = peer.start(folder / "weights.npy", port, folder)
        log = (folder / "log").open("wb")
        process = subprocess.Popen(
            [peer.python, *words],
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(process, ("127.0.0.1", port), folder / "log")
            yield "127.0.0.1", port
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            log.close()


def version_of(peer: Peer) -> str:
    """The version of its package."""
    command = f"from importlib.metadata import version; print(version({peer.name!r}))"
    done = subprocess.run(
        [peer.python, "-c", command], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def differing_of(
    there: Address, here: Address, questions: Sequence[Question]
) -> dict[str, list[str]]:
    """Question → how the answers differ."""
    return {
        question.name: differences(question, ask(there, question), ask(here, question))
        for question in questions
    }


def compare_with(peer: Peer, here: Address, model: Path) -> dict[str, Any]:
    """All that is asked of a peer, by protocol, beside what our server answers."""
    with running(peer, model) as there:
        found = {
            protocol: differing_of(there, here, questions)
            for protocol, questions in peer.questions.items()
        }
    return {"name": peer.name, "version": version_of(peer), "protocols": found}


def _free_port() -> int:
    """A port that is free now: these servers cannot be told to take one themselves."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], address: Address, log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        said = log.read_text(errors="replace")
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask(address, Question("ready", "GET", "/v2/models/m/ready")).status == 200:
                return
        time.sleep(0.1)
