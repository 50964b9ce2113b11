"""A child process of the supervisor: its descriptors placed exactly, its events read, its end seen.

`subprocess` cannot say which number a descriptor has in the child; `posix_spawn` can, and forks no
copy of us. A child is in a process group of its own, so that Ctrl-C in a terminal reaches the
supervisor alone, which then ends its children in the right order.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Our copies of what a child gets are moved up here first: none of them is then in the way of another's
# place in the child.
_ABOVE_PLACES = 64
_LONGEST_LINE = 1 << 20

_FRESH_SIGNALS = [
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGPIPE,
    signal.SIGTERM,
    signal.SIGXFSZ,
]


class ChildProcess:
    """A running child, known by its process id.

    Attributes:
        pid: the process.
        stdout: descriptor of its events, non-blocking; -1 once closed.
        returncode: how it ended, negative for a signal; None while it runs.
    """

    def __init__(self, pid: int, stdout: int, lifeline: int) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._lifeline = lifeline
        self._partial = b""

    @classmethod
    def spawn(
        cls,
        program: Sequence[str | Path],
        *,
        places: Mapping[int, int],
        lifeline_place: int,
        environment: Mapping[str, str],
        log: Path | None,
    ) -> ChildProcess:
        """Starts `program`.

        Args:
            program: the path and its arguments.
            places: descriptor in the child → descriptor here.
            lifeline_place: where the child finds the read end of a pipe that closes with us.
            environment: all of the child's environment.
            log: a file that its stderr is appended to; ours where None.
        """
        events_read, events_write = os.pipe2(os.O_CLOEXEC)
        lifeline_read, lifeline_write = os.pipe2(os.O_CLOEXEC)
        moved = []
        try:
            actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
            wanted = {1: events_write, lifeline_place: lifeline_read, **places}
            for place, here in sorted(wanted.items()):
                copy = fcntl.fcntl(here, fcntl.F_DUPFD_CLOEXEC, _ABOVE_PLACES)
                moved.append(copy)
                actions.append((os.POSIX_SPAWN_DUP2, copy, place))
            if log is not None and _can_be_made(log):
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                actions.append((os.POSIX_SPAWN_OPEN, 2, os.fspath(log), flags, 0o600))
            pid = os.posix_spawn(
                program[0],
                [os.fspath(word) for word in program],
                dict(environment),
                file_actions=actions,
                setpgroup=0,
                setsigmask=[],
                setsigdef=_FRESH_SIGNALS,
            )
        except BaseException:
            os.close(events_read)
            os.close(lifeline_write)
            raise
        finally:
            for descriptor in (*moved, events_write, lifeline_read):
                os.close(descriptor)
        os.set_blocking(events_read, False)
        return cls(pid, events_read, lifeline_write)

    def read_events(self) -> list[dict[str, Any]]:
        """The JSON lines that came since the last call; never waits. What is no JSON is left out."""
        events: list[dict[str, Any]] = []
        with contextlib.suppress(BlockingIOError):
            while self.stdout >= 0:
                events += self._read_once()
        return events

    def _read_once(self) -> list[dict[str, Any]]:
        piece = os.read(self.stdout, 1 << 16)
        if not piece:
            os.close(self.stdout)
            self.stdout = -1
            return []
        *lines, self._partial = (self._partial + piece).split(b"\n")
        if len(self._partial) > _LONGEST_LINE:
            self._partial = b""
        events = []
        for line in lines:
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    events.append(event)
        return events

    def read_to_end(self) -> dict[str, Any]:
        """Waits until its stdout ends; the last event, or an empty one."""
        os.set_blocking(self.stdout, True)
        last: dict[str, Any] = {}
        while self.stdout >= 0:
            last = next(reversed(self.read_events()), last)
        return last

    def read_event(self) -> dict[str, Any]:
        """Waits for the next event; an empty one where stdout ends before."""
        os.set_blocking(self.stdout, True)
        try:
            while self.stdout >= 0:
                # Blocking, so one at a time: a second read would wait for what may never come.
                for event in self._read_once():
                    return event
        finally:
            if self.stdout >= 0:
                os.set_blocking(self.stdout, False)
        return {}

    def wait(self) -> int:
        """Waits for its end."""
        if self.returncode is None:
            self._ended(os.waitpid(self.pid, 0)[1])
        return self.returncode or 0

    def poll(self) -> int | None:
        """How it ended, None while it runs; never waits."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._ended(status)
        return self.returncode

    def signal(self, number: int) -> None:
        """Sends a signal, unless it has ended: its number may be another's by now."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def close(self) -> None:
        """Lets go of the pipes. A child that still runs sees its lifeline close."""
        for descriptor in (self.stdout, self._lifeline):
            if descriptor >= 0:
                os.close(descriptor)
        self.stdout = self._lifeline = -1

    def _ended(self, status: int) -> None:
        self.returncode = os.waitstatus_to_exitcode(status)


def describe_end(returncode: int) -> str:
    """`ended with status 3`, `was ended by SIGKILL`."""
    if returncode >= 0:
        return f"ended with status {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return f"was ended by {name}"


def _can_be_made(log: Path) -> bool:
    """Whether the log's folder is there, or could be made again: a child is worth more than its log."""
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(log.parent, os.W_OK)


def last_lines(log: Path, from_byte: int = 0, count: int = 5) -> str:
    """The last lines of a log, from a position on; nothing where it cannot be read."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(from_byte, size - 4096))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
