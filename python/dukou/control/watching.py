"""Has the monitor run beside control while anything is captured; a process of its own, for its memory.

It imports what control must not hold, and it may die: serving and rollouts do not notice.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dukou.serve.keep import delay_s

_WELL_AFTER_S = 10.0
_END_S = 5.0


class Watching:
    """The monitor's process.

    Args:
        folder: the server's.
        clock: monotonic seconds.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._due = 0.0
        self._quick_ends = 0

    def keep(self, table: dict[str, Any] | None) -> None:
        """Starts or ends the process, as the served table asks for; starts it again where it died."""
        wanted = table is not None and any(model["capture"] for model in table["models"])
        now = self._clock()
        if self._process is not None and self._process.poll() is not None:
            quick = now - self._started < _WELL_AFTER_S
            self._quick_ends = self._quick_ends + 1 if quick else 0
            self._due = now + delay_s(self._quick_ends)
            print(f"trouble: the monitor ended ({self._process.returncode})", file=sys.stderr)
            self._forget()
        if not wanted:
            self.end()
        elif self._process is None and now >= self._due:
            self._started = now
            # It ends when its stdin does: with this process, however that ends.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "dukou.control.watch", str(self._folder)],
                stdin=subprocess.PIPE,
                stdout=sys.stderr.fileno(),
            )

    def end(self) -> None:
        """Ends it; what it has read is written."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._forget()

    def _forget(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None
