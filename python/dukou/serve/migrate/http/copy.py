"""A copy of a request over HTTP, and the answer that the old server gave."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import h11

from dukou.serve.migrate.compare import Tolerance
from dukou.serve.migrate.http.answer import Answer, compare
from dukou.serve.migrate.http.link import Broken, Link, Upstream
from dukou.serve.migrate.mirror import Unanswered
from dukou.serve.migrate.room import LARGEST_COPY, Kept, Room

_LARGEST_ANSWER = 4 * LARGEST_COPY
# Of a request, so much is shown.
_SHOWN_BYTES = 1000


class HttpCopy(NamedTuple):
    """A request with what the old server answered it.

    Attributes:
        upstream: ours.
        request: its head.
        body: all of its body.
        status: of the old answer.
        headers: of it, names in lower case.
        answer: all of its body.
    """

    upstream: Upstream
    request: h11.Request
    body: Kept
    status: int
    headers: dict[str, str]
    answer: Kept

    @property
    def name(self) -> str:
        """Its first line, but for the version."""
        return f"{self.request.method.decode('ascii')} {self.request.target.decode('ascii')}"

    @property
    def is_whole(self) -> bool:
        """Whether there was room for both bodies."""
        return self.body.is_whole and self.answer.is_whole

    def show(self) -> str:
        """The beginning of its body."""
        return (self.body.whole or b"")[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")

    def drop(self) -> None:
        """Lets go of both bodies."""
        self.body.drop()
        self.answer.drop()

    def compare(self, new: Answer, tolerance: Tolerance) -> str | None:
        """How the answer of ours differs.

        Raises:
            Unanswered: what the old server answered cannot be unpacked.
        """
        old = _plain(Answer(self.status, self.headers, self.answer.whole or b""))
        return compare(old, new, tolerance)

    async def ask(self) -> Answer:
        """What ours answers.

        Raises:
            Unanswered: it broke off, or cannot be unpacked.
        """
        for fresh in (False, True):
            try:
                link = await self.upstream.open(fresh=fresh)
            except Broken as error:
                raise Unanswered(str(error)) from error
            try:
                answer = await self._ask_on(link)
            except Broken as error:
                link.close()
                if link.used and not link.heard and not fresh:
                    continue  # a kept connection that was closed meanwhile
                raise Unanswered(str(error)) from error
            except BaseException:
                link.close()
                raise
            self.upstream.keep(link)
            return _plain(answer)
        raise Unanswered("no connection stood")

    async def _ask_on(self, link: Link) -> Answer:
        await link.send(self.upstream.head(self.request), more=True)
        if body := self.body.whole:
            await link.send(h11.Data(data=body), more=True)
        await link.send(h11.EndOfMessage())
        status, headers = 0, {}
        room = Kept(Room(_LARGEST_ANSWER), _LARGEST_ANSWER)
        while True:
            event = await link.receive()
            if isinstance(event, h11.Response):
                status, headers = event.status_code, plain_headers(event.headers)
            elif isinstance(event, h11.Data):
                room.add(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                if not room.is_whole:
                    raise Unanswered("an answer is too large to be compared")
                return Answer(status, headers, room.whole or b"")
            elif not isinstance(event, h11.InformationalResponse):
                raise Broken("the connection ended within the answer")


def plain_headers(headers: Any) -> dict[str, str]:
    """h11's headers by their names in lower case."""
    return {name.decode("ascii"): value.decode("latin-1") for name, value in headers}


def _plain(answer: Answer) -> Answer:
    """An answer without its compression.

    Raises:
        Unanswered: it is of a kind that is not known here, damaged, or grows too large.
    """
    coding = answer.headers.get("content-encoding", "identity").strip().lower()
    if coding in ("", "identity"):
        return answer
    if coding not in ("gzip", "deflate"):
        raise Unanswered(f"an answer is compressed by `{coding}`, which is not read here")
    # 32: zlib and gzip alike, by what stands at its beginning.
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
    try:
        body = unpack.decompress(answer.body, _LARGEST_ANSWER)
    except zlib.error as error:
        raise Unanswered(f"an answer cannot be unpacked: {error}") from error
    if unpack.unconsumed_tail:
        raise Unanswered("an answer is too large once it is unpacked")
    return answer._replace(body=body)
