"""The bare echo: what HTTP itself costs here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.calls import METHOD, response
from bench.digits import Digits, full_answer
from bench.peers.peer import Running
from bench.process import ServerProcess
from bench.workplace import program

THREADS = 2


class Echo:
    """hyper and nothing else."""

    name = "echo"
    settings = f"hyper HTTP/1.1, {THREADS} threads, nodelay; answers fixed bytes of a real answer"

    def versions(self) -> dict[str, str]:
        """Pinned in Cargo.lock."""
        return {}

    @contextmanager
    def start(self, digits: Digits, folder: Path) -> Iterator[Running]:
        """On port 0."""
        answer = folder / "answer.json"
        answer.write_bytes(full_answer(digits.answers["1"][0]))
        command: list[str | Path] = [program("bench-echo"), "--answer", answer]
        command += ["--threads", str(THREADS)]
        with ServerProcess(command, folder / "log") as server:
            url = server.wait_line(r"listening on (\S+)\s")
            yield Running(
                server.pid, f"{url}/echo", server.command, server.started_at, answers=False
            )


class EchoCalls(Echo):
    """The same over HTTP/2, with the trailers of a call."""

    name = "echo-grpc"
    settings = f"hyper HTTP/2, {THREADS} threads, nodelay; answers fixed bytes of a real answer"

    @contextmanager
    def start(self, digits: Digits, folder: Path) -> Iterator[Running]:
        """On port 0."""
        answer = folder / "answer.bin"
        (output,) = digits.answers["1"][0]["outputs"]
        answer.write_bytes(response(output))
        command: list[str | Path] = [program("bench-echo"), "--answer", answer, "--calls", "1"]
        command += ["--threads", str(THREADS)]
        with ServerProcess(command, folder / "log") as server:
            url = server.wait_line(r"listening on (\S+)\s")
            yield Running(
                server.pid, url + METHOD, server.command, server.started_at, answers=False
            )
