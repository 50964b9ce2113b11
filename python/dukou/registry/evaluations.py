"""What was found about a version when it was judged, each time: kept as it was said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from dukou.base.canonical import dump_canonical
from dukou.base.ids import parse_model_name
from dukou.registry.entries import EvaluationEntry
from dukou.registry.queries import find_version
from dukou.registry.tables import EVALUATIONS

if TYPE_CHECKING:
    from dukou.registry.registry import Registry


class Evaluations:
    """The evaluations of a registry; `Registry.evaluations` gives it."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def add(self, model: str, number: int, document: Mapping[str, Any]) -> None:
        """Keeps what was found about a version.

        Raises:
            StateError: `registry.unknown-model`, `registry.unknown-version`.
        """
        name = parse_model_name(model)
        with self._registry.write() as connection:
            find_version(connection, name, number)
            time = self._registry.now()
            connection.execute(
                EVALUATIONS.insert().values(
                    model=name,
                    number=number,
                    document=dump_canonical(document).decode(),
                    created=time,
                )
            )
            details = {"document": dict(document)}
            subject = f"{name}:{number}"
            self._registry.note(connection, "evaluation.record", subject, details, time)

    def list(self, model: str, number: int) -> list[EvaluationEntry]:
        """The version's evaluations, oldest first.

        Raises:
            StateError: `registry.unknown-model`, `registry.unknown-version`.
        """
        name = parse_model_name(model)
        with self._registry.read() as connection:
            find_version(connection, name, number)
            rows = connection.execute(
                sa.select(EVALUATIONS)
                .where(EVALUATIONS.c.model == name, EVALUATIONS.c.number == number)
                .order_by(EVALUATIONS.c.id)
            ).all()
        return [
            EvaluationEntry(name, number, json.loads(row.document), row.created) for row in rows
        ]
