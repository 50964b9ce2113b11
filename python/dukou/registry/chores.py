"""Work that comes back (retraining, a backup drill, an audit of dependencies), each time it was done."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dukou.base.canonical import dump_canonical
from dukou.registry.tables import CHORES

if TYPE_CHECKING:
    from dukou.registry.registry import Registry


@dataclass(frozen=True, slots=True)
class ChoreEntry:
    """One time that a chore was done.

    Attributes:
        id: grows with every one.
        subject: of what: a model, or `installation`.
        name: which chore: `retrain`, `backup-drill` …
        outcome: `done` or `failed`.
        began: ISO 8601 in UTC.
        ended: ISO 8601 in UTC.
        document: what came of it.
    """

    id: int
    subject: str
    name: str
    outcome: str
    began: str
    ended: str
    document: Mapping[str, Any]


class Chores:
    """The chores of a registry; `Registry.chores` gives it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def add(
        self,
        subject: str,
        name: str,
        *,
        outcome: str,
        began: str,
        document: Mapping[str, Any] | None = None,
    ) -> int:
        """Writes down that a chore has just been done, with its audit event; returns its id."""
        with self._registry.write() as connection:
            time = self._registry.now()
            values = {"subject": subject, "name": name, "outcome": outcome, "began": began}
            done = connection.execute(
                CHORES.insert().values(
                    **values, ended=time, document=dump_canonical(document or {}).decode()
                )
            )
            details = {"outcome": outcome, "document": dict(document or {})}
            self._registry.note(connection, f"chore.{name}", subject, details, time)
            return int((done.inserted_primary_key or (0,))[0])

    def list(self, subject: str, name: str | None = None, *, limit: int = 100) -> list[ChoreEntry]:
        """The newest times, oldest first."""
        query = sa.select(CHORES).where(CHORES.c.subject == subject)
        if name is not None:
            query = query.where(CHORES.c.name == name)
        with self._registry.read() as connection:
            rows = connection.execute(query.order_by(CHORES.c.id.desc()).limit(limit)).all()
        return [
            ChoreEntry(**{**row._mapping, "document": json.loads(row.document)})
            for row in reversed(rows)
        ]
