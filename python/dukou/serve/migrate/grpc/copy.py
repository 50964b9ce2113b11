"""A copy of a call over gRPC, and the answer that the old server gave."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import grpc
import grpc.aio

from dukou.serve.migrate.compare import Tolerance
from dukou.serve.migrate.grpc.channel import Metadata, Upstream
from dukou.serve.migrate.grpc.messages import compare_answers, show_request
from dukou.serve.migrate.mirror import Unanswered
from dukou.serve.migrate.room import LARGEST_COPY, Kept, Room

_LARGEST_ANSWER = 4 * LARGEST_COPY


class Outcome(NamedTuple):
    """How a call ended.

    Attributes:
        code: of gRPC.
        details: in the server's words.
        trailing: its metadata.
    """

    code: grpc.StatusCode
    details: str
    trailing: Any


class _New(NamedTuple):
    """What ours said.

    Attributes:
        outcome: how it ended.
        messages: of its answer.
    """

    outcome: Outcome
    messages: list[bytes]


class GrpcCopy(NamedTuple):
    """A call with what the old server answered it.

    Attributes:
        upstream: ours.
        name: of the call: `/inference.GRPCInferenceService/ModelInfer`.
        metadata: of the client.
        requests: all of its messages.
        outcome: of the old answer.
        answer: all of its messages.
    """

    upstream: Upstream
    name: str
    metadata: Metadata
    requests: Kept
    outcome: Outcome
    answer: Kept

    @property
    def is_whole(self) -> bool:
        """Whether there was room for both."""
        return self.requests.is_whole and self.answer.is_whole

    def show(self) -> str:
        """Its first message, as JSON."""
        return show_request(self.name, self.requests.pieces)

    def drop(self) -> None:
        """Lets go of both."""
        self.requests.drop()
        self.answer.drop()

    def compare(self, new: _New, tolerance: Tolerance) -> str | None:
        """How the answer of ours differs: its code, its messages."""
        old_code, new_code = self.outcome.code, new.outcome.code
        if old_code is not new_code:
            return f"the code is {old_code.name}, and {new_code.name} here"
        if old_code is not grpc.StatusCode.OK:
            return None
        return compare_answers(self.name, self.answer.pieces, new.messages, tolerance)

    async def ask(self) -> _New:
        """What ours answers.

        Raises:
            Unanswered: it cannot be reached, or says more than can be held.
        """
        call = self.upstream.call(self.name, self.metadata, None)
        room = Kept(Room(_LARGEST_ANSWER), _LARGEST_ANSWER)
        try:
            try:
                for message in self.requests.pieces:
                    await call.write(message)
                await call.done_writing()
                while (message := await call.read()) is not grpc.aio.EOF:
                    room.add(message)
            except (grpc.RpcError, grpc.aio.UsageError, asyncio.InvalidStateError):
                pass  # its code says why
            outcome = Outcome(await call.code(), await call.details() or "", None)
        finally:
            call.cancel()
        if outcome.code is grpc.StatusCode.UNAVAILABLE and self.upstream.is_away:
            raise Unanswered(f"`{self.upstream.address.url}` cannot be reached: {outcome.details}")
        if not room.is_whole:
            raise Unanswered("an answer is too large to be compared")
        return _New(outcome, room.pieces)
