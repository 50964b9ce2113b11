"""Ours, as a user starts it, with every default on: access log, metrics, limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.calls import METHOD
from bench.digits import NAME, Digits
from bench.peers.peer import Running
from bench.process import ServerProcess
from bench.workplace import Unavailable, program


class Dukou:
    """`dukou serve digits.onnx`: the supervisor counts as the server too."""

    name = "dukou"
    settings = (
        "`dukou serve FILE` and nothing else; access log, metrics and limits are on by default"
    )

    def versions(self) -> dict[str, str]:
        """Ours."""
        import dukou

        return {"dukou": dukou.__version__}

    @contextmanager
    def start(self, digits: Digits, folder: Path) -> Iterator[Running]:
        """On port 0."""
        with serve([digits.files["1"]], folder) as (server, facts):
            url = f"{facts['url']}/v2/models/{NAME}/infer"

            def swap() -> None:
                _put_version_2(Path(facts["socket"]), digits.files["2"])

            yield Running(server.pid, url, server.command, server.started_at, swap=swap)


class DukouCalls(Dukou):
    """The same, called by gRPC on the same port."""

    name = "dukou-grpc"

    @contextmanager
    def start(self, digits: Digits, folder: Path) -> Iterator[Running]:
        """On port 0."""
        with serve([digits.files["1"]], folder) as (server, facts):
            yield Running(server.pid, facts["url"] + METHOD, server.command, server.started_at)


class DukouCached:
    """`dukou serve digits.onnx --cache 64m`."""

    name = "dukou-cached"
    settings = "`dukou serve FILE --cache 64m`; access log, metrics and limits are on by default"

    def versions(self) -> dict[str, str]:
        """Ours."""
        return Dukou().versions()

    @contextmanager
    def start(self, digits: Digits, folder: Path) -> Iterator[Running]:
        """On port 0."""
        with serve([digits.files["1"]], folder, ["--cache", "64m"]) as (server, facts):
            url = f"{facts['url']}/v2/models/{NAME}/infer"
            yield Running(server.pid, url, server.command, server.started_at)


class DukouGuarded:
    """`dukou serve digits.onnx --secure`: TLS, a key with a rate, address lists; as off loopback."""

    name = "dukou-guarded"
    settings = (
        "`dukou serve FILE --secure --deny NETWORK`, a key with a role for the model and a rate that "
        "is not reached"
    )

    def versions(self) -> dict[str, str]:
        """Ours."""
        return Dukou().versions()

    @contextmanager
    def start(self, digits: Digits, folder: Path) -> Iterator[Running]:
        """On port 0, with a key made before."""
        key = make_key(folder, "--model", NAME, "--rate", "1000000/s")
        words = ["--secure", "--deny", "192.0.2.0/24"]
        with serve([digits.files["1"]], folder, words) as (server, facts):
            yield Running(
                server.pid,
                f"{facts['url']}/v2/models/{NAME}/infer",
                server.command,
                server.started_at,
                key=key,
                certificate=Path(facts["certificate"]),
            )


def make_key(folder: Path, *words: str) -> str:
    """A key in the home of a server that `serve` will start in this folder."""
    command = [*dukou_command(), "keys", "add", "bench", *words, "--json"]
    environment = {**os.environ, "DUKOU_HOME": str(folder / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["key"])


def dukou_command() -> list[str]:
    """The installed command, which is what a user types."""
    script = Path(sys.executable).with_name("dukou")
    if not script.is_file():
        raise Unavailable(f"`{script}` is not installed; hint: `make bench` installs it")
    return [sys.executable, str(script)]


@contextmanager
def serve(
    files: Sequence[Path], folder: Path, words: Sequence[str] = (), *, name: str = NAME
) -> Iterator[tuple[ServerProcess, dict[str, str]]]:
    """`dukou serve` with a home of its own; what it says once it is ready."""
    command: list[str | Path] = [*dukou_command(), "serve", *files]
    for at in range(len(files)):
        command += ["--name", name if at == 0 else f"{name}-{at}"]
    command += ["--port", "0", "--json", *words]
    environment = {
        "DUKOU_HOME": str(folder / "home"),
        "DUKOU_ENGINE": str(program("dukou-engine")),
    }
    with ServerProcess(command, folder / "log", environment) as server:
        facts: dict[str, str] = json.loads(server.wait_line(r'(?m)^(\{.*"url".*\})$'))
        yield server, facts


def _put_version_2(socket: Path, file: Path) -> None:
    """As control would: the served table with another version in it, on the local API."""
    from dukou.serve.local_api import LocalApi

    api = LocalApi(socket)
    table = api.table() or {}
    (model,) = table["models"]
    (version,) = model["versions"]
    version |= {"version": "2", "source": {"file": str(file)}}
    model["split"] = [{"version": "2", "arm": "main", "weight": 1}]
    api.put_table({**table, "revision": "swapped", "sequence": table["sequence"] + 1})
