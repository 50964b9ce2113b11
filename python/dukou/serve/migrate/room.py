"""The memory that copies may take: bounded for one, and for all of them together."""

from __future__ import annotations

# A request or an answer larger than this is passed on and not copied.
LARGEST_COPY = 16 * 1024 * 1024
# Of copies and of bodies that could be sent again, all together.
COPIES_BYTES = 256 * 1024 * 1024


_PIECE_BYTES = 64


class Room:
    """Bytes that may be held for copies at once, of all requests together."""

    def __init__(self, most: int) -> None:
        self._left = most

    def take(self, count: int) -> bool:
        """Whether there was room for so many more."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        """So many are held no more."""
        self._left += count


class Kept:
    """Bytes that are kept for a copy, for as long as there is room; all or nothing of them."""

    def __init__(self, room: Room, most: int = LARGEST_COPY) -> None:
        self._room = room
        self._most = most
        self._held = 0
        self._pieces: list[bytes] | None = []

    def add(self, piece: bytes) -> None:
        """Keeps a piece; where there is no room for it nothing is kept any more."""
        if self._pieces is None:
            return
        # What Python needs beside its bytes counts too: small pieces are many.
        cost = len(piece) + _PIECE_BYTES
        if self._held + cost > self._most or not self._room.take(cost):
            self.drop()
            return
        self._held += cost
        self._pieces.append(piece)

    def drop(self) -> None:
        """Lets go of what is kept."""
        self._room.give_back(self._held)
        self._held = 0
        self._pieces = None

    @property
    def is_whole(self) -> bool:
        """Whether every piece that was added is there."""
        return self._pieces is not None

    @property
    def pieces(self) -> list[bytes]:
        """What is kept."""
        return self._pieces or []

    @property
    def whole(self) -> bytes | None:
        """All of it; None where there was no room."""
        return None if self._pieces is None else b"".join(self._pieces)
