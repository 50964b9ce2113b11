"""A client's calls: each goes to the side that answers, and every message of its answer comes back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import grpc
import grpc.aio

from dukou.serve.migrate.grpc.channel import Call, Metadata, Upstream, onward
from dukou.serve.migrate.grpc.copy import GrpcCopy, Outcome
from dukou.serve.migrate.grpc.messages import is_inference
from dukou.serve.migrate.mirror import Mirror
from dukou.serve.migrate.room import COPIES_BYTES, Kept, Room
from dukou.serve.migrate.tally import Tally


class _Requests:
    """The messages of a client, passed on as they come, and kept beside that as far as there is room."""

    def __init__(self, context: Any, room: Room) -> None:
        self._context = context
        self._reading: asyncio.Future[Any] | None = None
        self.kept = Kept(room)
        self.ended = False

    async def all(self) -> AsyncIterator[bytes]:
        """From the first one, as far as they came before, and then as they come."""
        for message in list(self.kept.pieces):
            yield message
        while not self.ended:
            if self._reading is None:
                self._reading = asyncio.ensure_future(self._context.read())
            # Whoever waits here may be stopped; the message is then for who comes next.
            message = await asyncio.shield(self._reading)
            self._reading = None
            if message is grpc.aio.EOF:
                self.ended = True
            else:
                self.kept.add(message)
                yield message

    def close(self) -> None:
        """Nothing is read any more."""
        if self._reading is not None:
            self._reading.cancel()


class _Answered(NamedTuple):
    """A call's end.

    Attributes:
        side: who answered.
        outcome: what it said.
        seconds: from the last message of the request to the end.
        reached: whether it answered at all, or stands there still.
    """

    side: str
    outcome: Outcome
    seconds: float
    reached: bool


class Forwarder(grpc.GenericRpcHandler):  # type: ignore[misc] # grpcio has no types
    """Passes calls on, at first to the old server and after the flip to ours.

    Args:
        old: the server that was there.
        new: ours.
        copies: ours once more, with a connection of its own: copies are never in a client's way.
        mirror: takes copies of what the old one answered.
        tally: where it is counted.

    Attributes:
        side: who answers: `old` or `new`. A call that has begun ends where it began.
    """

    def __init__(
        self, old: Upstream, new: Upstream, copies: Upstream, mirror: Mirror, tally: Tally
    ) -> None:
        self.side = "old"
        self._upstreams = {"old": old, "new": new}
        self._copies = copies
        self._mirror = mirror
        self._tally = tally
        self._room = Room(COPIES_BYTES)

    def service(self, handler_call_details: Any) -> Any:
        """Whatever is called is passed on."""
        method = handler_call_details.method
        metadata = tuple(handler_call_details.invocation_metadata)

        async def handle(_: Any, context: Any) -> None:
            await self._one(method, metadata, context)

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _one(self, method: str, metadata: Metadata, context: Any) -> None:
        """One call, whatever happens on the way."""
        requests = _Requests(context, self._room)
        answer = Kept(self._room)
        first = self.side
        if first != "old" or not is_inference(method):
            answer.drop()
        offered = False
        try:
            done = await self._answered(first, method, metadata, requests, answer, context)
            if not done.reached:
                self._tally.failed += 1
                return
            inference = is_inference(method)
            self._tally.forwarded[done.side] += 1
            self._tally.taken_over += done.side != first
            if inference:
                self._tally.times[done.side].add(done.seconds)
            if inference and done.side == first == "old" and requests.ended:
                offered = True
                self._mirror.offer(
                    GrpcCopy(self._copies, method, metadata, requests.kept, done.outcome, answer)
                )
        finally:
            requests.close()
            if not offered:
                requests.kept.drop()
                answer.drop()

    async def _answered(
        self,
        side: str,
        method: str,
        metadata: Metadata,
        requests: _Requests,
        answer: Kept,
        context: Any,
    ) -> _Answered:
        """Asks the side that answers; the other one only where ours cannot be reached at all."""
        done = await self._exchange(side, method, metadata, requests, answer, context)
        # What may change something is never said twice.
        again = is_inference(method) and requests.kept.is_whole
        if not done.reached and side == "new" and again:
            done = await self._exchange("old", method, metadata, requests, answer, context)
        code, details, trailing = done.outcome
        context.set_trailing_metadata(onward(trailing))
        if code is not grpc.StatusCode.OK:
            context.set_code(code)
            context.set_details(details)
        return done

    async def _exchange(
        self,
        side: str,
        method: str,
        metadata: Metadata,
        requests: _Requests,
        answer: Kept,
        context: Any,
    ) -> _Answered:
        upstream = self._upstreams[side]
        call = upstream.call(method, metadata, context.time_remaining())
        sent = time.monotonic()

        async def upload() -> None:
            nonlocal sent
            async for message in requests.all():
                await call.write(message)
                sent = time.monotonic()
            await call.done_writing()

        uploading = asyncio.create_task(_until_refused(upload()))
        heard = False
        try:
            begin = await _begin(call)
            if begin:
                heard = True
                await context.send_initial_metadata(onward(begin))
            while (message := await _next(call)) is not None:
                heard = True
                answer.add(message)
                await context.write(message)
            outcome = Outcome(
                await call.code(), await call.details() or "", await call.trailing_metadata()
            )
        finally:
            uploading.cancel()
            await asyncio.gather(uploading, return_exceptions=True)
            call.cancel()
        away = outcome.code is grpc.StatusCode.UNAVAILABLE and not heard and upstream.is_away
        return _Answered(side, outcome, time.monotonic() - sent, not away)


async def _until_refused(upload: Any) -> None:
    """A server that has answered takes no more: its answer says why."""
    try:
        await upload
    except (grpc.RpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
        return


async def _begin(call: Call) -> Any:
    try:
        return await call.initial_metadata()
    except grpc.RpcError:
        return None


async def _next(call: Call) -> bytes | None:
    """The next message of an answer; None at its end, however it ends."""
    try:
        message = await call.read()
    except grpc.RpcError:
        return None
    return None if message is grpc.aio.EOF else message
