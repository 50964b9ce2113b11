"""Numbers of what is served: one number for one content, a larger one for a later content.

Every server of a registry that is told to serve the same asks here, so that revision 57 of one replica
is revision 57 of another: a gateway can then hold a caller to one, and never show an older after a
newer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dukou.registry.tables import AUDIT_HEAD, REVISIONS

if TYPE_CHECKING:
    from dukou.registry.registry import Registry


class Revisions:
    """The revisions of a registry; `Registry.revisions` gives it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def find(self, subject: str) -> tuple[int, str] | None:
        """The subject's newest number and content; None where it has none. Cheap."""
        with self._registry.read() as connection:
            row = connection.execute(_of(subject)).one_or_none()
        return None if row is None else (int(row.number), str(row.content))

    def number(
        self, subject: str, content: str, *, above: int, is_current: Callable[[], bool]
    ) -> int | None:
        """The content's number: the one that the subject has, where that is its content, else a new one.

        A new number is no smaller than the end of the audit chain, so that numbers of different
        subjects lie in the order of time as well.

        Args:
            subject: what is served, whatever it says now.
            content: a digest of what it says now.
            above: a number that is out already, as of a registry that was restored: what is older
                than it gets a new one.
            is_current: asked while nobody else may change the registry: whether what the content was
                made from is still so.

        Returns:
            The number, or None where the content is out of date: it is to be made again.

        Raises:
            StateError: `registry.conflict`.
            ResourceError: `store.disk-full`, `store.not-writable`.
        """
        found = self.find(subject)
        if found is not None and found[1] == content and found[0] >= above:
            return found[0]
        with self._registry.write() as connection:
            # The row lock orders writers where the database itself does not (PostgreSQL).
            head = connection.execute(sa.select(AUDIT_HEAD).with_for_update()).one()
            if not is_current():
                return None
            row = connection.execute(_of(subject)).one_or_none()
            if row is not None and row.content == content and row.number >= above:
                return int(row.number)
            before = 0 if row is None else int(row.number)
            number = max(before + 1, above + 1, int(head.sequence))
            values = {"number": number, "content": content, "changed": self._registry.now()}
            if row is None:
                connection.execute(REVISIONS.insert().values(subject=subject, **values))
            else:
                connection.execute(
                    REVISIONS.update().where(REVISIONS.c.subject == subject).values(**values)
                )
            return number


def _of(subject: str) -> sa.Select[tuple[int, str]]:
    return sa.select(REVISIONS.c.number, REVISIONS.c.content).where(REVISIONS.c.subject == subject)
