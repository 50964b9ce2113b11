"""Documents that people write: read with pydantic, refused in one sentence.

A foreign exception is translated here, at the seam: which key, what it holds, what it may hold, and
for a key that nobody knows the nearest one that is known.
"""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from dukou.base.errors import InputError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

Document = TypeVar("Document", bound="BaseModel")


def load_toml(path: Path, *, code: str) -> dict[str, Any]:
    """The TOML document at `path`; a syntax error names the line and column."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise InputError(code, f"`{path}` is not TOML: {error}") from None
    except UnicodeDecodeError as error:
        raise InputError(code, f"`{path}` is not UTF-8: byte {error.start} is not") from None


def parse_document(
    kind: type[Document], data: Any, *, code: str, source: str = "the document"
) -> Document:
    """`data` as a `kind`; the first thing that is wrong is said with its path.

    Raises:
        InputError: with `code`, where `data` is not a valid `kind`.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(data)
    except ValidationError as error:
        # A key that nobody knows is said first: what is missing beside it is often what it was to be.
        details = sorted(
            error.errors(include_url=False), key=lambda detail: detail["type"] != "extra_forbidden"
        )
        message, hint = _explain(kind, details[0])
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise InputError(code, f"{source}: {message}{more}", hint=hint) from None


def _explain(kind: type[BaseModel], detail: ErrorDetails) -> tuple[str, str | None]:
    path = [part for part in detail["loc"] if not _is_branch(part)]
    key = ".".join(str(part) for part in path)
    if detail["type"] == "extra_forbidden":
        known = _keys_at(kind, path[:-1])
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        where = f"in `[{'.'.join(map(str, path[:-1]))}]`" if path[:-1] else "at the top"
        hint = f"did you mean `{near[0]}`?" if near else f"known {where}: {', '.join(known)}"
        return f"`{key}` is not a key that dukou knows", hint
    if detail["type"] == "missing":
        return f"`{key}` is missing", None
    if detail["type"] == "reference":
        # One part contradicts another: the rule says itself which, and what stands there.
        context = detail.get("ctx", {})
        return f"`{'.'.join(filter(None, [key, context['field']]))}`: {context['problem']}", None
    wanted = detail["msg"].removeprefix("Value error, ")
    return f"`{key}` is `{detail['input']!r:.80}`: {wanted[:1].lower()}{wanted[1:]}", None


def _is_branch(part: int | str) -> bool:
    """Whether pydantic put this name into a path for a branch of a union."""
    return isinstance(part, str) and part[:1].isupper()


def _keys_at(kind: Any, path: list[int | str]) -> list[str]:
    from pydantic import BaseModel

    for part in path:
        if isinstance(part, int):
            continue
        field = getattr(kind, "model_fields", {}).get(str(part))
        if field is None:
            return []
        candidates = [field.annotation, *get_args(field.annotation)]
        kind = next(
            (c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None
        )
    return sorted(getattr(kind, "model_fields", {}))
