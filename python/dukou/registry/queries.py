"""The registry's questions to its tables, each within a transaction that is given."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable

import sqlalchemy as sa

from dukou.base.errors import StateError
from dukou.base.ids import Digest, ModelName
from dukou.registry.entries import DeploymentEntry, VersionEntry
from dukou.registry.tables import ALIASES, DEPLOYMENTS, MODELS, VERSIONS


def read_model_names(connection: sa.Connection) -> list[str]:
    """Every model's name, in order."""
    return list(connection.execute(sa.select(MODELS.c.name).order_by(MODELS.c.name)).scalars())


def require_model(connection: sa.Connection, name: ModelName) -> None:
    """Raises `registry.unknown-model`, naming the nearest, where there is no such model."""
    names = read_model_names(connection)
    if name in names:
        return
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        hint = f"did you mean `{near[0]}`?"
    elif names:
        hint = f"there are {_listed(f'`{n}`' for n in names)}"
    else:
        hint = "the registry is empty: `dukou ship` fills it"
    raise StateError("registry.unknown-model", f"the registry has no model `{name}`", hint=hint)


def find_version(connection: sa.Connection, model: ModelName, number: int) -> VersionEntry:
    """The version; raises `registry.unknown-model` or `registry.unknown-version`."""
    entries = read_versions(connection, model)
    for entry in entries:
        if entry.number == number:
            return entry
    raise StateError(
        "registry.unknown-version",
        f"`{model}` has no version {number}",
        hint=say_what_there_is(entries),
    )


def read_versions(connection: sa.Connection, model: ModelName) -> list[VersionEntry]:
    """The model's versions by number, with their aliases; raises `registry.unknown-model`."""
    require_model(connection, model)
    aliases = read_aliases(connection, model)
    rows = connection.execute(
        sa.select(VERSIONS).where(VERSIONS.c.model == model).order_by(VERSIONS.c.number)
    )
    return [
        VersionEntry(
            model=model,
            number=row.number,
            digest=Digest(row.digest),
            variant=row.variant,
            metrics=json.loads(row.metrics),
            created=row.created,
            status=row.status,
            aliases=tuple(alias for alias, number in aliases.items() if number == row.number),
        )
        for row in rows
    ]


def read_aliases(connection: sa.Connection, model: str) -> dict[str, int]:
    """The model's aliases: name → number."""
    rows = connection.execute(
        sa.select(ALIASES.c.name, ALIASES.c.number)
        .where(ALIASES.c.model == model)
        .order_by(ALIASES.c.name)
    )
    return {row.name: row.number for row in rows}


def read_deployment(
    connection: sa.Connection, name: str, revision: int | None = None
) -> DeploymentEntry | None:
    """The revision asked for, else the current one; None where there is none."""
    query = sa.select(DEPLOYMENTS).where(DEPLOYMENTS.c.name == name)
    if revision is not None:
        query = query.where(DEPLOYMENTS.c.revision == revision)
    row = connection.execute(query.order_by(DEPLOYMENTS.c.revision.desc()).limit(1)).one_or_none()
    if row is None:
        return None
    return DeploymentEntry(row.name, row.revision, json.loads(row.document), row.created)


def say_what_there_is(entries: list[VersionEntry]) -> str:
    """The hint of `registry.unknown-version`."""
    numbers = _listed(str(e.number) for e in reversed(entries))
    aliases = _listed(f"`{alias}` ({e.number})" for e in entries for alias in e.aliases)
    return f"versions: {numbers or 'none'}; aliases: {aliases or 'none'}"


def _listed(items: Iterable[str], most: int = 10) -> str:
    listed = list(items)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
