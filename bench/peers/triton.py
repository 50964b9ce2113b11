"""NVIDIA Triton: the `tritonserver` inside the nvidia-pytriton wheel.

The wheel carries the Python backend but no ONNX Runtime backend, so a Python model calls ONNX Runtime,
as Triton's documentation shows: instances = cores, dynamic batching, one thread a session.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.calls import METHOD
from bench.digits import NAME, Digits
from bench.peers.peer import Running
from bench.process import ServerProcess
from bench.workplace import Unavailable, peers_python

_MODEL_PROGRAM = Path(__file__).parent / "programs" / "triton_model.py"
_MAX_BATCH = 64
_CONFIG = """\
name: "{name}"
backend: "python"
max_batch_size: {batch}
input [ {{ name: "X", data_type: TYPE_FP32, dims: [ 64 ] }} ]
output [ {{ name: "probabilities", data_type: TYPE_FP32, dims: [ 10 ] }} ]
instance_group [ {{ count: {instances}, kind: KIND_CPU }} ]
dynamic_batching {{ max_queue_delay_microseconds: 0 }}
version_policy: {{ latest: {{ num_versions: 1 }} }}
"""


class Triton:
    """Its HTTP door, metrics on as by default."""

    name = "triton"
    _calls = False

    def __init__(self) -> None:
        self.instances = len(os.sched_getaffinity(0))
        self.settings = (
            f"python backend calling ONNX Runtime (1 thread), {self.instances} instances, "
            f"dynamic batching up to {_MAX_BATCH} without delay, explicit model control"
        )

    def versions(self) -> dict[str, str]:
        """Of the wheels in the peers' environment."""
        return installed("nvidia-pytriton", "onnxruntime", "numpy")

    @contextmanager
    def start(self, digits: Digits, folder: Path, /) -> Iterator[Running]:
        """On ports that were free a moment ago: it takes no port 0."""
        place_stub()
        repository = folder / "models"
        shutil.rmtree(repository, ignore_errors=True)
        model = repository / NAME
        self._place(model, digits, "1")
        config = _CONFIG.format(name=NAME, batch=_MAX_BATCH, instances=self.instances)
        (model / "config.pbtxt").write_text(config, "utf-8")
        with triton_server(repository, NAME, folder, calls=self._calls) as (server, base, calls):

            def swap() -> None:
                self._place(model, digits, "2")
                load = f"{base}/v2/repository/models/{NAME}/load"
                request = urllib.request.Request(load, data=b"{}", method="POST")
                with urllib.request.urlopen(request, timeout=60):
                    pass

            url = f"{calls}{METHOD}" if self._calls else f"{base}/v2/models/{NAME}/infer"
            yield Running(server.pid, url, server.command, server.started_at, swap=swap)

    def _place(self, model: Path, digits: Digits, version: str) -> None:
        place = model / version
        place.mkdir(parents=True)
        shutil.copy(_MODEL_PROGRAM, place / "model.py")
        shutil.copy(digits.files[version], place / "model.onnx")


class TritonCalls(Triton):
    """Its gRPC door."""

    name = "triton-grpc"
    _calls = True


@contextmanager
def triton_server(
    repository: Path, model: str, folder: Path, *, calls: bool = False
) -> Iterator[tuple[ServerProcess, str, str]]:
    """The server on a repository, once the model is ready; its addresses of HTTP and of gRPC, whose door
    is open where `calls`."""
    program, environment = tritonserver()
    port, port_of_calls = free_port(), free_port()
    command = [*program, "--model-repository", repository]
    command += ["--model-control-mode", "explicit", "--load-model", model]
    command += ["--http-address", "127.0.0.1", "--http-port", str(port)]
    door = ["--grpc-address", "127.0.0.1", "--grpc-port", str(port_of_calls)]
    door = door if calls else ["--allow-grpc", "false"]
    command += ["--metrics-port", str(free_port()), *door]
    with ServerProcess(command, folder / "log", environment) as server:
        base = f"http://127.0.0.1:{port}"
        server.wait_ready(f"{base}/v2/models/{model}/ready")
        yield server, base, f"http://127.0.0.1:{port_of_calls}"


def tritonserver() -> tuple[list[str | Path], dict[str, str]]:
    """The words that start the server with its backends, and what it needs to know beside.

    Raises:
        Unavailable: the peers' environment cannot be made, or has no backend for its Python.
    """
    place_stub()
    home, packages = _home(), site_packages()
    environment = {
        "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
        "PATH": f"{peers_python().parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(packages),
    }
    return [home / "bin" / "tritonserver", "--backend-directory", home / "backends"], environment


def place_stub() -> None:
    """The wheel has one stub an interpreter version; the server looks for it beside the backend."""
    home = _home()
    stub = home / "backends" / "python" / "triton_python_backend_stub"
    major_minor = _ask_python("import sys; print('%d.%d' % sys.version_info[:2])")
    source = home / "python_backend_stubs" / major_minor / stub.name
    if not source.is_file():
        raise Unavailable(f"the wheel has no python backend for Python {major_minor}")
    shutil.copy(source, stub)


def _home() -> Path:
    return site_packages() / "pytriton" / "tritonserver"


def free_port() -> int:
    """A port that nobody listens on now, for a server that cannot take port 0."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def site_packages() -> Path:
    """Where the peers' packages are."""
    return Path(_ask_python("import sysconfig; print(sysconfig.get_path('purelib'))"))


def installed(*packages: str) -> dict[str, str]:
    """Versions of packages in the peers' environment."""
    listed = ", ".join(repr(package) for package in packages)
    asked = f"import importlib.metadata as m; print(*[m.version(p) for p in ({listed},)])"
    return dict(zip(packages, _ask_python(asked).split(), strict=True))


def _ask_python(code: str) -> str:
    done = subprocess.run(
        [peers_python(), "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode != 0:
        raise Unavailable(f"the peers' environment is broken: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()
