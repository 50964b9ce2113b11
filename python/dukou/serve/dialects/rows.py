"""Protocols that tell nothing of a model's signature: rows go out, predictions come back.

TorchServe's inference API, KServe's V1, a Keras server's `/predict`.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Sequence
from typing import Any

from dukou.base.errors import InputError, RemoteError
from dukou.serve.dialects.table import Ask, Document, Target


class TorchServe:
    """`POST /predictions/NAME` with the rows as JSON; the answer is what the handler gives."""

    def metadata(self, ask: Ask, target: Target) -> Document | None:  # noqa: ARG002
        """A handler does not say what it takes."""
        refuse_alias(target, "TorchServe")
        return None

    def infer(self, ask: Ask, target: Target, request: Document) -> Document:
        """The request as it is: a handler behind an envelope of V2 takes it."""
        return outputs_of(ask("POST", _torchserve_path(target), request))

    def infer_rows(self, ask: Ask, target: Target, rows: Sequence[Any]) -> Document:
        """The rows as one list."""
        return outputs_of(ask("POST", _torchserve_path(target), list(rows)), len(rows))


class _Instances:
    """A server of one path a model, which takes `instances` and knows neither versions nor aliases."""

    title: str
    path: str

    def metadata(self, ask: Ask, target: Target) -> Document | None:  # noqa: ARG002
        """Such a server does not say what it takes."""
        refuse_alias(target, self.title)
        if target.version is not None:
            raise InputError(
                "usage.invalid",
                f"{self.title} has no versions, and `{target.version}` of `{target.model}` was asked for",
                hint="leave the version out, or ask by another `--dialect`",
            )
        return None

    def infer(self, ask: Ask, target: Target, request: Document) -> Document:
        """What was written as a whole request goes as it is."""
        return outputs_of(ask("POST", self._path(target), request))

    def infer_rows(self, ask: Ask, target: Target, rows: Sequence[Any]) -> Document:
        """A row an instance."""
        return outputs_of(ask("POST", self._path(target), {"instances": list(rows)}))

    def _path(self, target: Target) -> str:
        return self.path.format(urllib.parse.quote(target.model, safe=""))


class KServeV1(_Instances):
    """`POST /v1/models/NAME:predict`."""

    title, path = "KServe's V1", "/v1/models/{}:predict"


class Keras(_Instances):
    """`POST /NAME/predict`; `docs/dialects.md` has the whole of it."""

    title, path = "a Keras server", "/{}/predict"


def _torchserve_path(target: Target) -> str:
    words = [target.model] if target.version is None else [target.model, target.version]
    return "/predictions/" + "/".join(urllib.parse.quote(word, safe="") for word in words)


def refuse_alias(target: Target, server: str) -> None:
    """Says that a server has no aliases, where one was asked for.

    Raises:
        InputError: `usage.invalid`.
    """
    if target.alias is not None:
        raise InputError(
            "usage.invalid",
            f"{server} has no aliases, and `{target.alias}` of `{target.model}` was asked for",
            hint="name the model alone, or ask by another `--dialect`",
        )


def outputs_of(answer: Any, sent: int | None = None) -> Document:
    """An answer of predictions, a row each, as V2 has outputs: one, or one for each name in the rows.

    Args:
        answer: what came.
        sent: so many rows were asked; an object with as many values a name is outputs by their names.

    Raises:
        RemoteError: `client.server-error`: there are none in it.
    """
    rows = answer
    if isinstance(answer, dict):
        if "predictions" not in answer and answer and _are_columns(answer, sent):
            return {"outputs": [_output(name, values) for name, values in answer.items()]}
        rows = answer.get("predictions")
        if rows is None and "error" not in answer:
            rows = [answer]  # one row's fields, as TorchServe's classifiers answer
    if rows is None:
        raise RemoteError("client.server-error", f"the answer has no predictions: {answer}"[:300])
    if not isinstance(rows, list):
        rows = [rows]
    names = list(rows[0]) if rows and isinstance(rows[0], dict) else []
    if names and all(isinstance(row, dict) and list(row) == names for row in rows):
        return {"outputs": [_output(name, [row[name] for row in rows]) for name in names]}
    return {"outputs": [_output("predictions", rows)]}


def _are_columns(answer: dict[str, Any], sent: int | None) -> bool:
    return all(isinstance(values, list) and len(values) == sent for values in answer.values())


def _output(name: str, rows: list[Any]) -> Document:
    # One dimension is enough: what is inside a row stays nested as it came.
    return {"name": name, "shape": [len(rows)], "data": rows}
