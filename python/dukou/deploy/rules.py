"""What the documents of this room have in common: names, and how one part's contradiction is said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, NoReturn

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class TableDocument(BaseModel):
    """A part of a serving table: nothing unknown, nothing that changes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def refuse(field: str, problem: str) -> NoReturn:
    """What a schema cannot say: one part of a document contradicts another. The engine checks the same."""
    context = {"field": field, "problem": problem}
    raise PydanticCustomError("reference", "`{field}`: {problem}", context)


def refuse_twice(names: Iterable[str], field: str) -> None:
    """Refuses the second of two that are the same; `field` has a place for its position."""
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            refuse(field.format(index), f"`{name}` is there twice")
        seen.add(name)


def refuse_relative(field: str, path: str) -> None:
    """Refuses a path that depends on where somebody stands."""
    if not path.startswith("/"):
        refuse(field, f"`{path}` is a relative path, must be an absolute one")
