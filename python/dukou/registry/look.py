"""A look at the registry that changes nothing: no table is made or upgraded, no file appears.

For whoever asks how things stand (`dukou doctor`, `dukou clean --dry-run`); work is done through
`Registry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from dukou.base.errors import StateError
from dukou.base.settings import resolve_setting
from dukou.registry.audit import verify_chain
from dukou.registry.database import HEAD, read_only_url
from dukou.registry.lost import refuse_lost
from dukou.registry.tables import ALIASES, AUDIT_EVENTS, VERSIONS


class SeenVersion(NamedTuple):
    """A registered version: its model, number, digest and the aliases that name it."""

    model: str
    number: int
    digest: str
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RegistryLook:
    """What was seen.

    Attributes:
        name: the database, without its password.
        exists: whether there is a registry at all.
        step: the step of its tables; None where there are none.
        events: how many audit events there are; None where the chain was not walked.
        versions: every registered version, by model and number.
        newest: the time of the newest audit event, ISO 8601 in UTC; None where there is none.
    """

    name: str
    exists: bool
    step: str | None = None
    events: int | None = None
    versions: tuple[SeenVersion, ...] = ()
    newest: str | None = None

    @property
    def is_current(self) -> bool:
        """Whether its tables are those of this dukou."""
        return self.step == HEAD


def look_at_registry(home: Path, *, verify: bool = False) -> RegistryLook:
    """Looks at the installation's registry.

    Args:
        home: DUKOU_HOME; `DUKOU_REGISTRY` names another database than the one in it.
        verify: walk the audit chain.

    Raises:
        StateError: `registry.unreadable`, `registry.audit-broken`.
    """
    said = resolve_setting("registry").value
    file = home / "registry.db"
    if said is None and not file.exists():
        return RegistryLook(f"`{file}`", exists=False)
    if said is None:
        refuse_lost(file)
    name = f"`{file}`" if said is None else "that `DUKOU_REGISTRY` names"
    try:
        if said is not None:
            name = f"`{sa.make_url(said).render_as_string(hide_password=True)}`"
        engine = sa.create_engine(read_only_url(file) if said is None else said)
        try:
            with engine.connect() as connection:
                return _look(connection, name, verify=verify)
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError) as error:  # a driver that is not installed, too
        cause = getattr(error, "orig", None) or error
        raise StateError(
            "registry.unreadable", f"the registry {name} cannot be read: {cause}"
        ) from error


def _look(connection: sa.Connection, name: str, *, verify: bool) -> RegistryLook:
    if not sa.inspect(connection).has_table("alembic_version"):
        return RegistryLook(name, exists=True)
    step = connection.execute(
        sa.text("SELECT version_num FROM alembic_version")
    ).scalar_one_or_none()
    events = verify_chain(connection) if verify else None
    named: dict[tuple[str, int], list[str]] = {}
    for row in connection.execute(sa.select(ALIASES.c.model, ALIASES.c.name, ALIASES.c.number)):
        named.setdefault((row.model, row.number), []).append(row.name)
    rows = connection.execute(
        sa.select(VERSIONS.c.model, VERSIONS.c.number, VERSIONS.c.digest).order_by(
            VERSIONS.c.model, VERSIONS.c.number
        )
    )
    versions = tuple(
        SeenVersion(r.model, r.number, r.digest, tuple(sorted(named.get((r.model, r.number), ()))))
        for r in rows
    )
    newest = connection.execute(sa.select(sa.func.max(AUDIT_EVENTS.c.time))).scalar_one_or_none()
    return RegistryLook(name, True, step, events, versions, newest)
