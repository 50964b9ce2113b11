"""What a remote is: a place that holds blobs, manifests and tags of one model, and what went there.

Knows nothing of how a version is made or who asks; `carry.py` moves versions over this contract alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dukou.package.descriptor import Descriptor

# Largest manifest or index that is read: the distribution specification's own advice.
LARGEST_MANIFEST = 4 << 20


class Remote(Protocol):
    """One repository. Every method may raise `remote.*`; what it gives is not yet verified.

    Attributes:
        where: names it in sentences.
        name: the last part of its address: what a model is called where nobody says.
    """

    where: str
    name: str

    def find_tag(self, tag: str) -> str | None:
        """The digest of the manifest that the tag leads to; None where there is no such tag."""
        ...

    def tags(self) -> list[str]:
        """Every tag, in no order; empty where there is no such repository."""
        ...

    def has_blob(self, blob: Descriptor) -> bool:
        """Whether the blob is there."""
        ...

    def has_manifest(self, digest: str) -> bool:
        """Whether the manifest is there."""
        ...

    def read_manifest(self, digest: str) -> bytes:
        """A manifest's bytes, at most `LARGEST_MANIFEST`."""
        ...

    def read_blob(self, blob: Descriptor) -> Iterator[bytes]:
        """A blob's bytes in pieces; goes on where a connection broke."""
        ...

    def referrers(self, digest: str) -> list[Descriptor]:
        """What refers to the manifest: by the referrers API where there is one, else by the tag schema."""
        ...

    def publishing(self) -> AbstractContextManager[None]:
        """What is written inside appears, by its tags, only where the block ends well."""
        ...

    def write_blob(self, blob: Descriptor, content: Path) -> None:
        """Sends a blob's file."""
        ...

    def write_manifest(
        self, manifest: Descriptor, content: bytes, tags: Sequence[str] = ()
    ) -> None:
        """Sends a manifest after the blobs that it names, and moves the tags to it."""
        ...

    def write_referrer(self, referrer: Descriptor, content: bytes, subject: str) -> None:
        """Sends a manifest whose subject is another one, so that `referrers` finds it."""
        ...

    def close(self) -> None:
        """Ends its connections."""
        ...


@dataclass(slots=True)
class Traffic:
    """What a push or a pull moved, and what was there already.

    Attributes:
        moved: blobs and manifests that travelled.
        moved_bytes: of them.
        present: those that the other side had.
        present_bytes: of them.
    """

    moved: int = 0
    moved_bytes: int = 0
    present: int = 0
    present_bytes: int = 0

    def count(self, size: int, *, moved: bool) -> None:
        """Counts a blob."""
        if moved:
            self.moved += 1
            self.moved_bytes += size
        else:
            self.present += 1
            self.present_bytes += size
