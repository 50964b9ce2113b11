"""The Open Inference Protocol over REST, as JSON."""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from typing import Any

from dukou.base.errors import InputError
from dukou.serve.dialects.table import Ask, Document, Target


class V2:
    """Tells what its models take, and is asked in tensors."""

    def metadata(self, ask: Ask, target: Target) -> Document | None:
        """`GET /v2/models/NAME`."""
        answer: Document = ask("GET", _path(target))
        return answer

    def infer(self, ask: Ask, target: Target, request: Document) -> Document:
        """`POST /v2/models/NAME/infer`."""
        answer: Document = ask("POST", _path(target) + "/infer", request)
        return answer

    def infer_rows(self, ask: Ask, target: Target, rows: Sequence[Any]) -> Document:  # noqa: ARG002
        """Nobody asks for this: the protocol tells what a model takes."""
        raise InputError("usage.invalid", "V2 is asked in tensors, not in rows")


def _path(target: Target) -> str:
    words = ["models", target.model]
    if target.version is not None:
        words += ["versions", target.version]
    elif target.alias is not None:
        words += ["aliases", target.alias]
    return "/v2/" + "/".join(urllib.parse.quote(word, safe="") for word in words)
