"""Copies of requests, asked of ours beside the clients' way: bounded, and never in it."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from dukou.serve.migrate.compare import Tolerance
from dukou.serve.migrate.tally import Tally

# Copies that wait at most, and that are asked at once.
_WAITING = 256
_AT_ONCE = 8
_PATIENCE_S = 60.0


class Unanswered(Exception):  # noqa: N818 (it is a copy's fate, not anybody's error)
    """Ours did not answer a copy, and why."""


class Copy(Protocol):
    """A request that the old server answered, with what it answered."""

    @property
    def name(self) -> str:
        """What was asked: `POST /v1/models/m:predict`."""

    @property
    def is_whole(self) -> bool:
        """Whether there was room for all of both."""

    def show(self) -> str:
        """The request, for people."""

    async def ask(self) -> Any:
        """What ours answers.

        Raises:
            Unanswered: nothing that could be compared.
        """

    def compare(self, new: Any, tolerance: Tolerance) -> str | None:
        """How the answer of ours differs; None where both say the same."""

    def drop(self) -> None:
        """Lets go of what is held."""


class Mirror:
    """Asks ours the same, compares, and counts.

    Args:
        tally: where it is counted.
        tolerance: how far numbers may be apart.
        share: of the requests that can be copied, so many are: 0 to 1.
    """

    def __init__(self, tally: Tally, tolerance: Tolerance, share: float) -> None:
        self._tally = tally
        self._tolerance = tolerance
        self._share = share
        self._due = 0.0
        self._queue: asyncio.Queue[Copy] = asyncio.Queue(_WAITING)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begins to ask."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(_AT_ONCE)]

    def offer(self, copy: Copy) -> None:
        """Takes a copy, or counts why not; never waits."""
        reason = None
        self._due += self._share
        if self._due < 1.0:
            reason = "by the share"
        else:
            self._due -= 1.0
            if not copy.is_whole:
                reason = "too large"
            else:
                try:
                    self._queue.put_nowait(copy)
                except asyncio.QueueFull:
                    reason = "too many at once"
        if reason is not None:
            self._tally.left_out[reason] += 1
            copy.drop()

    async def settle(self) -> None:
        """Waits until every copy that was taken is counted."""
        await self._queue.join()

    async def close(self) -> None:
        """Ends; copies that wait are not asked any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            copy = await self._queue.get()
            try:
                await self._compare(copy)
            finally:
                copy.drop()
                self._queue.task_done()

    async def _compare(self, copy: Copy) -> None:
        try:
            begin = time.monotonic()
            new = await asyncio.wait_for(copy.ask(), _PATIENCE_S)
            self._tally.times["new"].add(time.monotonic() - begin)
            difference = await asyncio.to_thread(copy.compare, new, self._tolerance)
        except TimeoutError:
            self._tally.did_not_answer(copy, f"no answer in {_PATIENCE_S:g} s")
        except Unanswered as error:
            self._tally.did_not_answer(copy, str(error))
        except Exception as error:  # noqa: BLE001 (an answer of any kind: the next copy is compared)
            self._tally.did_not_answer(copy, f"it cannot be compared: {error!r}"[:300])
        else:
            self._tally.compared(copy, difference)
