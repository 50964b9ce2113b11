"""Copies of requests, asked of ours beside the clients' way: bounded, and never in it."""

from __future__ import annotations

import asyncio
import time
import zlib
from typing import Any, NamedTuple

import h11

from dukou.serve.migrate.body import LARGEST_COPY, Kept, Room
from dukou.serve.migrate.compare import Answer, Tolerance, compare
from dukou.serve.migrate.link import Broken, Upstream
from dukou.serve.migrate.tally import Tally

# Copies that wait at most, and that are asked at once.
_WAITING = 256
_AT_ONCE = 8
_PATIENCE_S = 60.0
_LARGEST_ANSWER = 4 * LARGEST_COPY


class Copy(NamedTuple):
    """A request with what the old server answered it.

    Attributes:
        request: its head.
        body: all of its body.
        status: of the old answer.
        headers: of it, names in lower case.
        answer: all of its body.
    """

    request: h11.Request
    body: Kept
    status: int
    headers: dict[str, str]
    answer: Kept


class Mirror:
    """Asks ours the same, compares, and counts.

    Args:
        upstream: ours.
        tally: where it is counted.
        tolerance: how far numbers may be apart.
        share: of the requests that can be copied, so many are: 0 to 1.
    """

    def __init__(
        self, upstream: Upstream, tally: Tally, tolerance: Tolerance, share: float
    ) -> None:
        self._upstream = upstream
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
            if not copy.body.is_whole or not copy.answer.is_whole:
                reason = "too large"
            else:
                try:
                    self._queue.put_nowait(copy)
                except asyncio.QueueFull:
                    reason = "too many at once"
        if reason is not None:
            self._tally.left_out[reason] += 1
            copy.body.drop()
            copy.answer.drop()

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
                copy.body.drop()
                copy.answer.drop()
                self._queue.task_done()

    async def _compare(self, copy: Copy) -> None:
        method = copy.request.method.decode("ascii")
        target = copy.request.target.decode("ascii")
        body = copy.body.whole or b""
        try:
            begin = time.monotonic()
            new = await asyncio.wait_for(self._ask(copy.request, body), _PATIENCE_S)
            self._tally.times["new"].add(time.monotonic() - begin)
            old = _plain(Answer(copy.status, copy.headers, copy.answer.whole or b""))
            difference = await asyncio.to_thread(compare, old, new, self._tolerance)
        except TimeoutError:
            self._tally.did_not_answer(method, target, f"no answer in {_PATIENCE_S:g} s", body)
        except (Broken, zlib.error) as error:
            self._tally.did_not_answer(method, target, str(error), body)
        else:
            self._tally.compared(method, target, difference, body)

    async def _ask(self, request: h11.Request, body: bytes) -> Answer:
        for fresh in (False, True):
            link = await self._upstream.open(fresh=fresh)
            try:
                await link.send(self._upstream.head(request), more=True)
                if body:
                    await link.send(h11.Data(data=body), more=True)
                await link.send(h11.EndOfMessage())
                status, headers = 0, {}
                room = Kept(Room(_LARGEST_ANSWER))
                while True:
                    event = await link.receive()
                    if isinstance(event, h11.Response):
                        status, headers = event.status_code, plain_headers(event.headers)
                    elif isinstance(event, h11.Data):
                        room.add(bytes(event.data))
                    elif isinstance(event, h11.EndOfMessage):
                        break
                    elif not isinstance(event, h11.InformationalResponse):
                        raise Broken("the connection ended within the answer")
            except Broken:
                link.close()
                if link.used and not link.heard and not fresh:
                    continue  # a kept connection that was closed meanwhile
                raise
            except BaseException:
                link.close()
                raise
            self._upstream.keep(link)
            return _plain(Answer(status, headers, room.whole or b""))
        raise Broken("no connection stood")


def plain_headers(headers: Any) -> dict[str, str]:
    """h11's headers by their names in lower case."""
    return {name.decode("ascii"): value.decode("latin-1") for name, value in headers}


def _plain(answer: Answer) -> Answer:
    """An answer without its compression.

    Raises:
        Broken: it is of a kind that is not known here, or grows too large.
        zlib.error: it is damaged.
    """
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return answer
    if coding not in ("gzip", "deflate"):
        raise Broken(f"an answer is compressed by `{coding}`, which is not read here")
    # 32: zlib and gzip alike, by what stands at its beginning.
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    body = unpack.decompress(answer.body, _LARGEST_ANSWER)
    if unpack.unconsumed_tail:
        raise Broken("an answer is too large once it is unpacked")
    return answer._replace(body=body)
