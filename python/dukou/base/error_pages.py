"""The page of every error code, as it ships with the package: what `dukou help CODE` shows.

`error_pages.json` is made from `spec/errors.toml` by `make generate`, and read when a page is asked for.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import NamedTuple

from dukou.base.errors import DukouError

_FILE = Path(__file__).with_name("error_pages.json")


class ErrorPage(NamedTuple):
    """What there is to say about a code.

    Attributes:
        code: as it is printed, logged and answered.
        family: whose matter it is.
        http_status: of an answer that carries it, where it is not the family's; else None.
        summary: what it means.
        cause: how it typically happens.
        remedy: what to do.
        example: a command that helps, where one does; else None.
    """

    code: str
    family: str
    http_status: int | None
    summary: str
    cause: str
    remedy: str
    example: str | None


def load_error_pages() -> dict[str, ErrorPage]:
    """Every page, by code, those of codes that only the engine raises among them."""
    document = json.loads(_FILE.read_text(encoding="utf-8"))
    return {
        code: ErrorPage(
            code=code,
            family=said["family"],
            http_status=said.get("status"),
            summary=said["summary"],
            cause=said.get("cause", ""),
            remedy=said["remedy"],
            example=said.get("example"),
        )
        for code, said in document.items()
    }


def near_codes(text: str, codes: list[str], most: int = 3) -> list[str]:
    """The codes that `text` may have meant, best first: near in letters, or with the same word."""
    wanted = text.strip("[]` ").lower()
    near = difflib.get_close_matches(wanted, codes, n=most, cutoff=0.6)
    # `digest-mismatch` or `disk` without the part before the point.
    near += [code for code in codes if wanted and wanted in code and code not in near]
    words = {code.partition(".")[2]: code for code in codes}
    near += [
        words[word]
        for word in difflib.get_close_matches(wanted.rpartition(".")[2], words, n=most, cutoff=0.75)
        if words[word] not in near
    ]
    return near[:most]


def exit_status(family: str) -> int:
    """The exit status of a command that fails with a code of this family."""
    return next(kind.exit_status for kind in DukouError.__subclasses__() if kind.family == family)
