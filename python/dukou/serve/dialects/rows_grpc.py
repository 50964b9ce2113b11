"""TorchServe's inference service over gRPC: rows as JSON go out, what the handler gives comes back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError

from dukou.base.errors import InputError, RemoteError
from dukou.serve.dialects.rows import outputs_of, refuse_alias
from dukou.serve.dialects.table import Ask, Document, Target
from dukou.serve.messages.schema import new_message, read_message

_PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"


class TorchServeGrpc:
    """`Predictions`, with the rows under `data`."""

    def metadata(self, ask: Ask, target: Target) -> Document | None:  # noqa: ARG002
        """A handler does not say what it takes."""
        refuse_alias(target, "TorchServe")
        return None

    def infer(self, ask: Ask, target: Target, request: Document) -> Document:
        """The request as it is: a handler behind an envelope of V2 takes it."""
        return outputs_of(_ask(ask, target, request))

    def infer_rows(self, ask: Ask, target: Target, rows: Sequence[Any]) -> Document:
        """The rows as one list."""
        return outputs_of(_ask(ask, target, list(rows)), len(rows))


def _ask(ask: Ask, target: Target, document: Any) -> Any:
    try:
        text = json.dumps(document, allow_nan=False)
    except ValueError as error:
        raise InputError(
            "data.mismatch", "a value is NaN or infinite, and JSON has neither"
        ) from error
    message = new_message(
        "torch.PredictionsRequest",
        model_name=target.model,
        model_version=target.version or "",
        input={"data": text.encode()},
    )
    answer = ask("CALL", _PREDICTIONS, message.SerializeToString())
    try:
        return json.loads(read_message("torch.PredictionResponse", answer).prediction)
    except (DecodeError, ValueError) as error:
        raise RemoteError(
            "client.server-error", f"what was answered of `{target.model}` is not JSON"
        ) from error
