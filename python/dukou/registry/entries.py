"""What the registry says: models, versions, deployments, and what a reference means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dukou.base.errors import StateError
from dukou.base.ids import Digest, ModelName, parse_model_name

CHAMPION = "champion"
READY, ARCHIVED = "ready", "archived"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model line.

    Attributes:
        name: the model's.
        created: ISO 8601 in UTC.
        versions: how many there are.
        latest: the highest number; 0 where there is none.
        aliases: alias → number.
    """

    name: ModelName
    created: str
    versions: int
    latest: int
    aliases: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """A version of a model.

    Attributes:
        model: the model's name.
        number: 1, 2, 3 …
        digest: of its artifact.
        variant: `original`, `int8` …
        metrics: what was measured, as registered.
        created: ISO 8601 in UTC.
        status: `ready` or `archived`.
        aliases: the names that lead to it now.
    """

    model: ModelName
    number: int
    digest: Digest
    variant: str
    metrics: Mapping[str, Any]
    created: str
    status: str
    aliases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeploymentEntry:
    """A revision of a deployment."""

    name: str
    revision: int
    document: Mapping[str, Any]
    created: str


@dataclass(frozen=True, slots=True)
class EvaluationEntry:
    """What was found when a version was evaluated."""

    model: ModelName
    number: int
    document: Mapping[str, Any]
    created: str


@dataclass(frozen=True, slots=True)
class Reference:
    """`name`, `name:3`, `name@alias` or `name@sha256:…`, taken apart."""

    model: ModelName
    number: int | None = None
    alias: str | None = None
    digest: str | None = None


def parse_reference(text: str) -> Reference:
    """Takes a reference apart.

    Raises:
        InputError: `config.invalid`: the part before `:` or `@` cannot be a model's name.
        StateError: `registry.unknown-version`: what stands behind `:` is no number.
    """
    if "@" in text:
        name, _, rest = text.partition("@")
        model = parse_model_name(name)
        if rest.startswith("sha256:"):
            return Reference(model, digest=rest)
        return Reference(model, alias=rest)
    name, colon, rest = text.partition(":")
    model = parse_model_name(name)
    if not colon:
        return Reference(model)
    if not (rest.isascii() and rest.isdigit()) or len(rest) > 9:
        raise StateError(
            "registry.unknown-version",
            f"`{rest}` is not a version's number",
            hint=f"a number stands behind `:`, an alias behind `@`: `{name}@{rest}`",
        )
    return Reference(model, number=int(rest))
