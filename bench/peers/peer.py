"""What a peer is to the harness."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

# What a case has its servers do: the model, and requests with their answers.
Work = TypeVar("Work", contravariant=True)


@dataclass(frozen=True)
class Running:
    """A server that answers.

    Attributes:
        pid: its first process; whatever is below it counts as the server.
        url: where requests for inference go.
        command: the line that started it.
        started_at: when that was, by the monotonic clock (s).
        answers: whether its answers depend on the request. The echo's do not.
        key: that requests must show; none where nobody asks for one.
        certificate: what its own is checked against, where it speaks TLS.
        swap: replaces version 1 by version 2 and returns once that is served; None where it cannot.
    """

    pid: int
    url: str
    command: list[str]
    started_at: float
    answers: bool = True
    key: str | None = None
    certificate: Path | None = None
    swap: Callable[[], None] | None = None

    @property
    def load_words(self) -> tuple[str, ...]:
        """What `dukou-load` needs to come in."""
        words: tuple[str, ...] = ()
        if self.key is not None:
            words += ("--key", self.key)
        if self.certificate is not None:
            words += ("--cacert", str(self.certificate))
        return words


class Peer(Protocol[Work]):
    """A server that can be started on a case's model."""

    name: str
    settings: str

    def versions(self) -> dict[str, str]:
        """Of what it is made of."""

    def start(self, work: Work, folder: Path, /) -> AbstractContextManager[Running]:
        """Starts it with its files in `folder`; the end of the block ends it.

        Raises:
            Unavailable: it does not start here, and why.
        """
