"""An engine process: started with its sockets, told through its local API, ended by drain or by force."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from dukou.base.errors import DukouError, RemoteError, relay_error
from dukou.serve.find import find_plugins
from dukou.serve.local_api import LocalApi
from dukou.serve.process import ChildProcess, describe_end, last_lines

_FIRST_PLACE = 3  # where LISTEN_FDS' descriptors begin, by systemd's convention


class EngineProcess:
    """One run of `dukou-engine`.

    The listeners stay the caller's: they outlive this process. Used as a context manager it drains
    at the end of the block.
    """

    def __init__(
        self, child: ChildProcess, socket_path: Path, log: Path | None, log_begin: int = 0
    ) -> None:
        self.child = child
        self.api = LocalApi(socket_path)
        self._log = log
        self._log_begin = log_begin

    @classmethod
    def start(
        cls,
        program: Path,
        *,
        listeners: Mapping[str, socket.socket],
        socket_path: Path,
        state_dir: Path,
        runtime: Path,
        table: Path | None = None,
        threads: int | None = None,
        log: Path | None = None,
        encryption_key: str | None = None,
    ) -> EngineProcess:
        """Starts an engine; returns at once. `wait_serving` waits for its first table.

        Args:
            program: `find_engine()`.
            listeners: name → listening socket, as the table's listeners are named.
            socket_path: of the local API.
            state_dir: for the last good table and the compiled cache; made where missing.
            runtime: `find_runtime()`.
            table: a file with the table to begin with; the state directory's last one where None.
            threads: worker threads; the engine's choice where None.
            log: a file that its log is appended to; this process's stderr where None.
            encryption_key: where the engine reads the encryption keys (a path, `env:VARIABLE`,
                `command:WORDS`), never a key; `DUKOU_ENCRYPTION_KEY` says it where None.

        Raises:
            RemoteError: `engine.no-start`: the program cannot be run.
        """
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        command: list[str | Path] = [
            *(program, "--socket", socket_path, "--state-dir", state_dir, "--runtime", runtime)
        ]
        if table is not None:
            command += ["--table", table]
        if threads is not None:
            command += ["--threads", str(threads)]
        for plugin in find_plugins():
            command += ["--plugin", plugin]
        lifeline_place = _FIRST_PLACE + len(listeners)
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("LISTEN_")
        }
        environment |= {
            "LISTEN_FDS": str(len(listeners)),
            "LISTEN_FDNAMES": ":".join(listeners),
            "DUKOU_LIFELINE_FD": str(lifeline_place),
        }
        if encryption_key is not None:
            environment["DUKOU_ENCRYPTION_KEY"] = encryption_key
        places = {
            _FIRST_PLACE + index: listener.fileno()
            for index, listener in enumerate(listeners.values())
        }
        # Before it is started: it may have said its last words when this is read.
        begin = log.stat().st_size if log is not None and log.exists() else 0
        try:
            child = ChildProcess.spawn(
                command,
                places=places,
                lifeline_place=lifeline_place,
                environment=environment,
                log=log,
            )
        except OSError as error:
            raise RemoteError(
                "engine.no-start", f"`{program}` cannot be run: {error.strerror}"
            ) from error
        return cls(child, socket_path, log, begin)

    @property
    def pid(self) -> int:
        """The process."""
        return self.child.pid

    def wait_event(self, name: str, timeout_s: float = 60.0) -> dict[str, Any]:
        """Waits for an event of this name; what else it says meanwhile is passed over.

        Raises:
            DukouError: what the engine says with `refused`, or `engine.no-start` where it ends.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            for event in self.child.read_events():
                if event.get("event") == name:
                    return event
                if event.get("event") == "refused":
                    raise refusal(event)
            left = deadline - time.monotonic()
            if self.child.stdout < 0 or left <= 0:
                raise self.no_start(f"did not say `{name}` within {timeout_s:g} s")
            select.select([self.child.stdout], [], [], left)

    def wait_serving(self, timeout_s: float = 60.0) -> dict[str, Any]:
        """Waits until a table is in and requests are answered."""
        return self.wait_event("serving", timeout_s)

    def no_start(self, why: str) -> DukouError:
        """The error of an engine that ended before it served, with its last words."""
        returncode = self._wait_end(1.0)
        said = last_lines(self._log, self._log_begin) if self._log is not None else ""
        what = describe_end(returncode) if returncode is not None else why
        return RemoteError(
            "engine.no-start",
            f"the engine {what} before it served{f': {said}' if said else ''}",
            hint=f"its log is `{self._log}`" if self._log is not None else None,
        )

    def stop(self, timeout_s: float = 30.0) -> int:
        """Drains and waits for the end; kills where the time is over. Returns the exit status."""
        self.child.signal(signal.SIGTERM)
        if self._wait_end(timeout_s) is None:
            self.child.signal(signal.SIGKILL)
            self._wait_end(10.0)
        self.child.close()
        return -9 if self.child.returncode is None else self.child.returncode

    def _wait_end(self, timeout_s: float) -> int | None:
        # A pidfd becomes readable when the process ends.
        if self.child.poll() is None:
            ended = os.pidfd_open(self.child.pid)
            try:
                select.select([ended], [], [], timeout_s)
            finally:
                os.close(ended)
        return self.child.poll()

    def __enter__(self) -> EngineProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def refusal(event: dict[str, Any]) -> DukouError:
    """The error in a `refused` event."""
    message = str(event.get("message", "the engine refused the table"))
    return relay_error(
        str(event.get("code", "client.server-error")), message, event.get("remedy") or None
    )
