"""What the monitor found, window by window: the record behind `dukou status` and retraining."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa

from dukou.base.canonical import dump_canonical
from dukou.base.ids import ModelName, parse_model_name
from dukou.registry.queries import require_model
from dukou.registry.tables import WINDOWS

if TYPE_CHECKING:
    from dukou.registry.registry import Registry

Kind = Literal["drift", "quality"]


@dataclass(frozen=True, slots=True)
class WindowEntry:
    """One window.

    Attributes:
        id: grows with every window.
        model: whose requests were looked at.
        kind: `drift` or `quality`.
        began: ISO 8601 in UTC, of its first request.
        ended: of its last.
        document: what was found; `"alarm": true` where somebody must be told.
        created: when it was written.
    """

    id: int
    model: ModelName
    kind: str
    began: str
    ended: str
    document: Mapping[str, Any]
    created: str

    @property
    def alarm(self) -> bool:
        """Whether it raised an alarm."""
        return bool(self.document.get("alarm"))


class Windows:
    """The windows of a registry; `Registry.windows` gives it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def add(
        self, model: str, kind: Kind, *, began: str, ended: str, document: Mapping[str, Any]
    ) -> int:
        """Keeps a window and returns its id; one that raises an alarm is an audit event.

        Raises:
            StateError: `registry.unknown-model`.
        """
        name = parse_model_name(model)
        with self._registry.write() as connection:
            require_model(connection, name)
            time = self._registry.now()
            values = {"model": name, "kind": kind, "began": began, "ended": ended}
            done = connection.execute(
                WINDOWS.insert().values(
                    **values, document=dump_canonical(document).decode(), created=time
                )
            )
            if document.get("alarm"):
                details = {"began": began, "ended": ended, "document": dict(document)}
                self._registry.note(connection, f"{kind}.alarm", name, details, time)
            return int((done.inserted_primary_key or (0,))[0])

    def list(
        self, model: str, kind: Kind | None = None, *, after: int = 0, limit: int = 100
    ) -> list[WindowEntry]:
        """The model's newest windows behind id `after`, oldest first."""
        query = sa.select(WINDOWS).where(WINDOWS.c.model == model, WINDOWS.c.id > after)
        if kind is not None:
            query = query.where(WINDOWS.c.kind == kind)
        with self._registry.read() as connection:
            rows = connection.execute(query.order_by(WINDOWS.c.id.desc()).limit(limit)).all()
        return [
            WindowEntry(**{**row._mapping, "document": json.loads(row.document)})
            for row in reversed(rows)
        ]
