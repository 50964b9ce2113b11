"""The bare echo: what HTTP itself costs here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
