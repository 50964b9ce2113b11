"""One step of control: compare what should be served with what is, and put the difference right.

The clock is handed in and nothing here waits, so that a test drives it by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol

from dukou.base.errors import DukouError
from dukou.deploy.table import ServingTable

# How often the engine is asked for its table although nothing changed: it may have been restarted.
_LOOK_AGAIN_S = 1.0
_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 60.0
# An engine that is just starting has no socket yet.
_UNREACHABLE_RETRY_S = 0.05


class Desired(Protocol):
    """Where the desired table comes from."""

    def token(self) -> object:
        """Equal for as long as nothing changed."""
        ...

    def compile(self, above: int) -> ServingTable:
        """The table that should be served; its sequence is at least `above`, which is being served."""
        ...


class EngineApi(Protocol):
    """What is asked of an engine."""

    def table(self) -> dict[str, Any] | None:
        """The table being served."""
        ...

    def put_table(self, table: dict[str, Any]) -> dict[str, Any]:
        """Has a table served."""
        ...


class ControlLoop:
    """Holds one engine at the desired table.

    Args:
        desired: what should be.
        engine: what is.
        on_applied: told when another table is served (or the first is found to be), with it.
        on_trouble: told when what should be served cannot be; the old table is kept.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        desired: Desired,
        engine: EngineApi,
        *,
        on_applied: Callable[[dict[str, Any]], None],
        on_trouble: Callable[[DukouError], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desired = desired
        self._engine = engine
        self._on_applied = on_applied
        self._on_trouble = on_trouble
        self._clock = clock
        self._token: object = None
        self._served: dict[str, Any] | None = None
        self._look_at = 0.0
        self._retry_at: float | None = None
        self._failures = 0
        self._said: str | None = None

    @property
    def served(self) -> dict[str, Any] | None:
        """The table that is served, as far as is known."""
        return self._served

    def step(self) -> None:
        """Does what is due. Raises only what is our own mistake."""
        now = self._clock()
        try:
            token = self._desired.token()
            changed = token != self._token
            due = now >= self._look_at if self._retry_at is None else now >= self._retry_at
            if not changed and not due:
                return
            self._reconcile()
            self._token = token
            self._failures, self._retry_at, self._said = 0, None, None
            self._look_at = now + _LOOK_AGAIN_S
        except DukouError as error:
            self._postpone(error, now)

    def _reconcile(self) -> None:
        served = self._engine.table()
        above = 0 if served is None else int(served["sequence"])
        wanted = self._desired.compile(above).model_dump(mode="json")
        if served != wanted:
            self._engine.put_table(wanted)
        self._note_served(wanted)

    def _note_served(self, table: dict[str, Any]) -> None:
        if self._served != table:
            self._on_applied(table)
        self._served = table

    def _postpone(self, error: DukouError, now: float) -> None:
        if error.code == "engine.unreachable":
            # It restarts, or starts: its supervisor sees to it, and it has its own last table.
            self._retry_at = now + _UNREACHABLE_RETRY_S
            return
        # What was refused is tried again when something changes, and ever more rarely otherwise.
        self._retry_at = now + min(_LONGEST_RETRY_S, _FIRST_RETRY_S * 2.0 ** min(self._failures, 6))
        self._failures += 1
        try:
            self._token = self._desired.token()
        except DukouError:
            self._token = None
        if self._said != str(error):
            self._said = str(error)
            self._on_trouble(error)
