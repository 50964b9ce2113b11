"""Keeps one child running: starts it again when it ends, a few times at once, then ever more slowly."""

from __future__ import annotations

from collections.abc import Callable

from dukou.serve.process import ChildProcess, describe_end

# Ends in a row that are not waited for: somebody kills it, or one bad request came more than once.
_AT_ONCE = 3
_FIRST_DELAY_S = 0.1
_LONGEST_DELAY_S = 5.0
# A child that lived this long was well: its next end is a first one again.
_WELL_AFTER_S = 10.0


class Kept:
    """A child with its restarts. The clock is handed in: nothing here waits.

    Attributes:
        name: for messages.
        child: the running one; None between two.
        restarts: how often it was started again.
        due: when the next start is due; None while one runs.
    """

    def __init__(self, name: str, start: Callable[[], ChildProcess]) -> None:
        self.name = name
        self._start = start
        self.child: ChildProcess | None = None
        self.restarts = -1
        self.due: float | None = None
        self._started = 0.0
        self._quick_ends = 0

    def start(self, now: float) -> ChildProcess:
        """Starts it."""
        self.child = self._start()
        self.restarts += 1
        self._started = now
        self.due = None
        return self.child

    def reap(self, now: float) -> str | None:
        """How it ended, where it did; the next start is then due."""
        if self.child is None or self.child.poll() is None:
            return None
        ended = describe_end(self.child.returncode or 0)
        self.child.close()
        self.child = None
        self._quick_ends = 0 if now - self._started >= _WELL_AFTER_S else self._quick_ends
        self.due = now + delay_s(self._quick_ends)
        self._quick_ends += 1
        return ended


def delay_s(quick_ends: int) -> float:
    """How long to wait after so many quick ends in a row: at first not at all, then doubling to 5 s."""
    if quick_ends < _AT_ONCE:
        return 0.0
    return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(quick_ends - _AT_ONCE, 16))
