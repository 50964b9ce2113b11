"""Every protocol that `dukou predict --dialect` speaks: one line each, imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

# name → module and class. The first is what is spoken where nothing is said.
DIALECTS = {
    "v2": ("dukou.serve.dialects.v2", "V2"),
    "tensorflow": ("dukou.serve.dialects.tensorflow", "TensorFlow"),
    "kserve-v1": ("dukou.serve.dialects.rows", "KServeV1"),
    "torchserve": ("dukou.serve.dialects.rows", "TorchServe"),
    "keras": ("dukou.serve.dialects.rows", "Keras"),
    "v2-grpc": ("dukou.serve.dialects.v2_grpc", "V2Grpc"),
    "tensorflow-grpc": ("dukou.serve.dialects.tensorflow_grpc", "TensorFlowGrpc"),
    "torchserve-grpc": ("dukou.serve.dialects.rows_grpc", "TorchServeGrpc"),
}
# One exchange with the server: method, path, JSON body → the JSON that came, errors raised as ours. Over gRPC:
# `CALL`, the call's name, the message's bytes → those of the answer's.
Ask = Callable[..., Any]
Document = dict[str, Any]


def is_of_calls(name: str) -> bool:
    """Whether a protocol is spoken in calls of gRPC."""
    return name.endswith("-grpc")


class Target:
    """Which version of which model is asked.

    Attributes:
        model: its name.
        version: its number; None where nothing is said.
        alias: a name for a version; None where nothing is said.
    """

    def __init__(self, model: str, version: str | None = None, alias: str | None = None) -> None:
        self.model = model
        self.version = version
        self.alias = alias


class Dialect(Protocol):
    """One protocol, from a client's side."""

    def metadata(self, ask: Ask, target: Target) -> Document | None:
        """The model's inputs and outputs as V2 has them; None where the protocol does not tell them."""
        ...

    def infer(self, ask: Ask, target: Target, request: Document) -> Document:
        """Sends a V2 request, and gives its answer as V2 has it, by what `metadata` said."""
        ...

    def infer_rows(self, ask: Ask, target: Target, rows: Sequence[Any]) -> Document:
        """Sends rows whose shape nobody told, and gives what is answered as V2 has it."""
        ...


def load_dialect(name: str) -> Dialect:
    """The protocol of this name, which the table has."""
    module, kind = DIALECTS[name]
    return cast(Dialect, getattr(importlib.import_module(module), kind)())
