"""A server as a process: started, watched through /proc, and ended with everything it started."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from bench.workplace import Unavailable

_TICKS = os.sysconf("SC_CLK_TCK")
_POLL_S = 0.002


class ServerProcess:
    """One server in a session of its own. A context manager: the end of the block ends all of it."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [os.fspath(word) for word in command]
        self.log = log
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0

    def __enter__(self) -> ServerProcess:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.log.open("wb") as log:
                self.started_at = time.monotonic()
                self._process = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
        except OSError as error:
            raise Unavailable(f"`{self.command[0]}` cannot be run: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process that was started; others may hang below it."""
        if self._process is None:
            raise Unavailable(f"`{self.command[0]}` was not started")
        return self._process.pid

    def stop(self, timeout_s: float = 20.0) -> None:
        """Asks it to end, then ends what is left of its session."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pass
        finally:
            # Its children too, where it left any: the session is ours alone.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._process = None

    def wait_line(self, pattern: str, timeout_s: float = 60.0) -> str:
        """The first group of the first line of its output that matches.

        Raises:
            Unavailable: it ended, or said nothing of the kind in time; with its last words.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = re.search(pattern, self.log.read_text("utf-8", "replace"))
            if found:
                return found.group(1)
            self._check_alive()
            time.sleep(_POLL_S)
        raise Unavailable(f"it did not say `{pattern}` within {timeout_s:g} s{self._last_words()}")

    def wait_ready(self, url: str, timeout_s: float = 60.0) -> None:
        """Waits until `GET url` answers 200.

        Raises:
            Unavailable: it ended, or was not ready in time; with its last words.
        """
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            self._check_alive()
            time.sleep(_POLL_S)
        raise Unavailable(f"`{url}` was not ready within {timeout_s:g} s{self._last_words()}")

    def _check_alive(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            status = self._process.returncode
            raise Unavailable(f"it ended with status {status}{self._last_words()}")

    def _last_words(self) -> str:
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()[-3:]
        return f": {' | '.join(line.strip()[:300] for line in lines)}" if lines else ""


def tree_of(pid: int) -> list[int]:
    """A process and everything below it."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            fields = _stat(int(folder.name))
            if fields:
                children.setdefault(int(fields[1]), []).append(int(folder.name))
    found, open_ = [], [pid]
    while open_:
        at = open_.pop()
        found.append(at)
        open_ += children.get(at, [])
    return found


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, of those below it, and of those of them that have ended."""
    total = 0
    for at in tree_of(pid):
        fields = _stat(at)
        if fields:
            # utime, stime, cutime, cstime: the latter two of children that were waited for.
            total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def peak_rss_mb(pid: int) -> float:
    """The largest resident memory each process of the tree has had, added up (10^6 bytes).

    Pages that processes share are counted in each of them.
    """
    return sum(_status_kb(at, "VmHWM") for at in tree_of(pid)) * 1024 / 1e6


def rss_mb(pid: int) -> float:
    """Resident memory of one process now (10^6 bytes)."""
    return _status_kb(pid, "VmRSS") * 1024 / 1e6


def private_mb(pid: int) -> float:
    """Memory of one process that it shares with no file and nobody (10^6 bytes)."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    except OSError:
        return 0.0
    parts = re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", text, re.MULTILINE)
    return sum(int(part) for part in parts) * 1024 / 1e6


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name; empty where the process has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _status_kb(pid: int, field: str) -> int:
    try:
        text = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) if found else 0
