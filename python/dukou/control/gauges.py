"""What control knows and Prometheus asks the engine for: how old the last backup is, and its last proof."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from dukou.base.errors import DukouError
from dukou.serve.backup_age import backup_times

# An engine that was restarted has forgotten them.
_AGAIN_S = 5.0
_HELP = {
    "taken": "When the last backup of the installation was taken, in seconds since 1970.",
    "verified": "When a backup was last restored and proved, in seconds since 1970.",
}


class GaugeApi(Protocol):
    """What is asked of an engine."""

    def put_gauges(self, gauges: list[dict[str, Any]]) -> None:
        """Has these shown."""
        ...


class GaugeTeller:
    """Tells an engine again and again.

    Args:
        home: DUKOU_HOME.
        engine: who is told.
        clock: monotonic seconds.
    """

    def __init__(
        self, home: Path, engine: GaugeApi, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._home = home
        self._engine = engine
        self._clock = clock
        self._due = 0.0

    def step(self) -> None:
        """Tells, where it is time. An engine that does not answer is told the next time."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + _AGAIN_S
        gauges = [
            {"name": f"dukou_backup_{name}_timestamp_seconds", "help": _HELP[name], "value": when}
            for name, when in backup_times(self._home).items()
        ]
        if gauges:
            try:
                self._engine.put_gauges(gauges)
            except DukouError:
                return
