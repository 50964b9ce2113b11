"""Runs the commands and snippets of a Markdown page, in order, in one clean folder.

- Blocks marked `sh` run in bash with `-eu -o pipefail`; blocks marked `python` with this Python.
- A line that begins with `dukou serve`, `dukou fleet up` or `dukou migrate --from` goes on until somebody ends it:
  it is started beside the rest, and the page goes on once the server says that it is ready.
- Ports stand in pages as people type them (8080); here each is replaced by a free one.
- A block after `<!-- run elsewhere: PATH -->` is run by the test at PATH, which must exist.
- A block after `<!-- needs: torch -->` is run where this module can be imported.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_BLOCK = re.compile(
    r"(?:<!-- run elsewhere: (?P<elsewhere>\S+) -->\n)?(?:<!-- needs: (?P<needs>\w+) -->\n)?"
    r"^```(?P<language>sh|python)\n(?P<body>.*?)^```$",
    flags=re.MULTILINE | re.DOTALL,
)
_SERVERS = ("dukou serve ", "dukou fleet up ", "dukou migrate --from ")
_PORT = re.compile(r"\b(808[0-5])\b")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    language: str
    body: str
    elsewhere: str | None
    needs: str | None
    line: int


def read_blocks(page: Path) -> list[Block]:
    """The blocks of a page that can be run."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            m["language"],
            m["body"],
            m["elsewhere"],
            m["needs"],
            text[: m.start("body")].count("\n") + 1,
        )
        for m in _BLOCK.finditer(text)
    ]


class PageRun:
    """One page being run: its folder, its servers, the ports it was given."""

    def __init__(self, folder: Path, stages: Path) -> None:
        """A page in an empty `folder`; finished stages are kept in `stages` from page to page."""
        self.folder = folder
        self._servers: list[subprocess.Popen[bytes]] = []
        self._ports: dict[str, str] = {}
        self._environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder / "home"),
            "LANG": "C.UTF-8",
            **{k: v for k, v in os.environ.items() if k.startswith("SSL_CERT")},
        }
        cache = folder / "home" / ".dukou" / "cache"
        cache.mkdir(parents=True)
        (folder / "home" / ".dukou").chmod(0o700)
        # Kept results are found by the content that they depend on: sharing them changes no answer.
        (cache / "stages").symlink_to(stages)

    def run(self, block: Block) -> str:
        """Runs a block and gives what it printed; a failure carries the whole of it."""
        body = _PORT.sub(lambda m: self._port(m[1]), block.body)
        if block.language == "python":
            return self._finish([sys.executable, "-W", "error", "-c", body])
        printed, pending = "", ""
        for line in body.splitlines(keepends=True):
            if line.startswith(_SERVERS) and "--help" not in line:
                printed += self._script(pending)
                pending = ""
                self._serve(line)
            else:
                pending += line
        return printed + self._script(pending)

    def close(self) -> None:
        """Ends the servers that the page started."""
        for server in self._servers:
            if server.poll() is None:
                server.send_signal(signal.SIGTERM)
        for server in self._servers:
            server.wait(timeout=20)

    def _script(self, text: str) -> str:
        return self._finish(["bash", "-eu", "-o", "pipefail", "-c", text]) if text.strip() else ""

    def _finish(self, command: list[str]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"exit {done.returncode} of:\n{command[-1]}\n{done.stdout}"
        self._follow_cd(command[-1])
        return done.stdout

    def _follow_cd(self, text: str) -> None:
        """A page's `cd` holds for its later blocks, as it does for a person's shell."""
        for line in text.splitlines():
            if line.startswith("cd "):
                self.folder = (self.folder / line.removeprefix("cd ").strip()).resolve()

    def _serve(self, line: str) -> None:
        ready = self.folder / f"ready-{len(self._servers)}.json"
        log = (self.folder / f"serve-{len(self._servers)}.log").open("wb")
        with log:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {line.strip()} --ready-file {ready}"],
                cwd=self.folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._servers.append(server)
        deadline = time.monotonic() + 60
        while not ready.exists():
            said = Path(log.name).read_text(errors="replace")
            assert server.poll() is None, f"`{line.strip()}` ended:\n{said}"
            assert time.monotonic() < deadline, f"`{line.strip()}` is not ready:\n{said}"
            time.sleep(0.02)

    def _port(self, written: str) -> str:
        if written not in self._ports:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._ports[written] = str(probe.getsockname()[1])
        return self._ports[written]
