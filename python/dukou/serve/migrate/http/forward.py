"""A client's connections: each request goes to the side that answers, and every byte of its answer comes back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import h11

from dukou.serve.migrate.http.body import Body
from dukou.serve.migrate.http.copy import HttpCopy, plain_headers
from dukou.serve.migrate.http.link import Broken, Link, Upstream, onward
from dukou.serve.migrate.http.peer import is_inference
from dukou.serve.migrate.mirror import Mirror
from dukou.serve.migrate.room import COPIES_BYTES, Kept, Room
from dukou.serve.migrate.tally import Tally

# Connections that are served at once; more wait in the socket's queue.
_CONNECTIONS = 1024
_LINGER_S = 2.0
_SAFE = (b"GET", b"HEAD", b"OPTIONS")


class Forwarder:
    """Passes requests on, at first to the old server and after the flip to ours.

    Args:
        old: the server that was there.
        new: ours.
        copies: ours once more, with connections of its own: copies are never in a client's way.
        mirror: takes copies of what the old one answered.
        tally: where it is counted.

    Attributes:
        side: who answers: `old` or `new`. A request that has begun ends where it began.
    """

    def __init__(
        self, old: Upstream, new: Upstream, copies: Upstream, mirror: Mirror, tally: Tally
    ) -> None:
        self.side = "old"
        self._copies = copies
        self._upstreams = {"old": old, "new": new}
        self._mirror = mirror
        self._tally = tally
        self._room = Room(COPIES_BYTES)
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy: set[asyncio.Task[None]] = set()
        self._draining = False

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes a client's connection."""
        task = asyncio.create_task(self._serve(Link(reader, writer, h11.SERVER)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, seconds: float) -> None:
        """Ends the connections: those that wait at once, the others once their request is answered."""
        self._draining = True
        for task in self._tasks - self._busy:
            task.cancel()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=seconds)
            for task in left:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, client: Link) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 (of asyncio, not of a user)
        try:
            async with self._places:
                while not self._draining:
                    event = await client.receive()
                    if not isinstance(event, h11.Request):
                        return
                    self._busy.add(task)
                    await self._one(client, event)
                    if not client.next_message():
                        return
                    self._busy.discard(task)
        except Broken as error:
            if client.may_answer():
                await _say(client, client.refused_as, "wire.invalid-request", str(error))
        finally:
            self._busy.discard(task)
            client.close()

    async def _one(self, client: Link, request: h11.Request) -> None:
        """One request, whatever happens on the way."""
        body = Body(client, self._room)
        answer = Kept(self._room)
        target = request.target.decode("latin-1")
        inference = is_inference(request.method.decode("latin-1"), target)
        # What may change something is sent once, on a connection that nobody can have closed.
        careful = not inference and request.method not in _SAFE
        first = self.side
        try:
            side, head, seconds = await self._answered(client, request, body, answer, careful)
        except Broken as error:
            self._tally.failed += 0 if body.client_gone else 1
            body.kept.drop()
            answer.drop()
            if body.client_gone or not client.may_answer():
                raise
            await _say(client, 502, "server.not-running", str(error))
            await _read_away(body)
            return
        except BaseException:
            body.kept.drop()
            answer.drop()
            raise
        self._tally.forwarded[side] += 1
        self._tally.taken_over += side != first
        if inference:
            self._tally.times[side].add(seconds)
        if inference and side == "old" and first == "old" and body.ended:
            headers = plain_headers(head.headers)
            self._mirror.offer(
                HttpCopy(self._copies, request, body.kept, head.status_code, headers, answer)
            )
        else:
            answer.drop()
            await _read_away(body)
            body.kept.drop()

    async def _answered(
        self, client: Link, request: h11.Request, body: Body, answer: Kept, careful: bool
    ) -> tuple[str, h11.Response, float]:
        """Asks the side that answers; another time, or the other side, only where nothing was lost by it."""
        side, fresh = self.side, careful
        while True:
            upstream = self._upstreams[side]
            try:
                link = await upstream.open(fresh=fresh)
            except Broken:
                # Nothing was sent: whoever else can answer may.
                if side == "new":
                    side = "old"
                    continue
                raise
            try:
                head, seconds = await self._exchange(client, request, body, answer, upstream, link)
            except Broken:
                link.close()
                again = link.used and not link.heard and body.can_be_sent_again
                if body.client_gone or not again:
                    raise
                fresh = True
                continue
            except BaseException:
                link.close()
                raise
            upstream.keep(link)
            return side, head, seconds

    async def _exchange(
        self,
        client: Link,
        request: h11.Request,
        body: Body,
        answer: Kept,
        upstream: Upstream,
        link: Link,
    ) -> tuple[h11.Response, float]:
        """One request on one connection: its body goes up while its answer may come down already."""
        sent = time.monotonic()

        async def upload() -> None:
            nonlocal sent
            try:
                await link.send(upstream.head(request), more=True)
                async for piece in body.pieces(link):
                    await link.send(h11.Data(data=piece), more=True)
                await link.send(h11.EndOfMessage())
                sent = time.monotonic()
            except Broken:
                # The answer, if there is one, says why; a client that left wants none.
                if body.client_gone:
                    link.close()

        uploading = asyncio.create_task(upload())
        try:
            head = await _answer_head(link)
            begin = h11.Response(
                status_code=head.status_code, reason=head.reason, headers=onward(head.headers)
            )
            await _to_client(client, body, begin)
            while True:
                event = link.at_hand()
                if event is None:
                    await _to_client(client, body, None)
                    event = await link.receive()
                if isinstance(event, h11.Data):
                    answer.add(bytes(event.data))
                    await _to_client(client, body, h11.Data(data=event.data))
                elif isinstance(event, h11.EndOfMessage):
                    await _to_client(client, body, h11.EndOfMessage())
                    await _to_client(client, body, None)
                    return head, time.monotonic() - sent
                else:
                    raise Broken("the server closed the connection within its answer")
        finally:
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)


async def _answer_head(link: Link) -> h11.Response:
    while True:
        event = await link.receive()
        if isinstance(event, h11.Response):
            return event
        if not isinstance(event, h11.InformationalResponse):
            # Nothing of an answer came, whatever else did.
            link.heard = False
            raise Broken("the server closed the connection without an answer")


async def _to_client(client: Link, body: Body, event: h11.Event | None) -> None:
    """Sends an event together with what comes next; None: whatever was held back."""
    try:
        if event is None:
            await client.flush()
        else:
            await client.send(event, more=True)
    except Broken:
        body.client_gone = True
        raise


async def _read_away(body: Body) -> None:
    """Reads what a client still sends after its answer: closing at once would cost it that answer."""
    if body.ended:
        return

    async def away() -> None:
        body.kept.drop()
        async for _ in body.pieces():
            pass

    with contextlib.suppress(Broken, TimeoutError):
        await asyncio.wait_for(away(), _LINGER_S)


async def _say(client: Link, status: int, code: str, sentence: str) -> None:
    """An answer of our own, where no server has one."""
    text = json.dumps({"error": sentence, "code": code}).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text)))]
    with contextlib.suppress(Broken):
        await client.send(h11.Response(status_code=status, headers=headers))
        await client.send(h11.Data(data=text))
        await client.send(h11.EndOfMessage())
