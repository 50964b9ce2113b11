"""What TorchServe is asked over gRPC, of its two services. What is changed here is put back."""

from __future__ import annotations

import json
from typing import Any

from tests.compatibility.calls import Call
from tests.compatibility.clients.torchserve_messages import messages, method
from tests.compatibility.questions import ROWS

_MESSAGES = messages()
_ROW = json.dumps(ROWS[0]).encode()


def _predict(name: str, content: bytes = _ROW, part: str = "data", **fields: Any) -> Call:
    asked = {"model_name": "m", "input": {part: content}, **fields}
    return _ask(name, "Predictions", "PredictionsRequest", "PredictionResponse", **asked)


def _ask(name: str, called: str, request: str, answer: str, **fields: Any) -> Call:
    door = "grpc" if request in ("Empty", "PredictionsRequest") else "grpc management"
    message = _MESSAGES[request](**fields)
    return Call(name, method(called, request), [message], _MESSAGES[answer], door=door)


def _manage(name: str, called: str, request: str, **fields: Any) -> Call:
    return _ask(name, called, request, "ManagementResponse", **fields)


TORCHSERVE_CALLS = [
    _ask("ping", "Ping", "Empty", "TorchServeHealthResponse"),
    _predict("predict, a row"),
    _predict("predict, rows", json.dumps(ROWS).encode()),
    _predict("predict, `body`", part="body"),
    _predict("predict, a version", model_version="1.0"),
    _predict("not JSON", b"["),
    _predict("another number of columns", b"[1.0, 2.0]"),
    _predict("a part of another name", part="other"),
    _predict("an unknown model", model_name="nobody"),
    _predict("no model", model_name=""),
    _predict("an unknown version", model_version="9.0"),
    _manage("list", "ListModels", "ListModelsRequest"),
    _manage("list, a page of one", "ListModels", "ListModelsRequest", limit=1),
    _manage("describe", "DescribeModel", "DescribeModelRequest", model_name="m"),
    _manage(
        "describe, an unknown model", "DescribeModel", "DescribeModelRequest", model_name="nobody"
    ),
    _manage(
        "describe, an unknown version",
        "DescribeModel",
        "DescribeModelRequest",
        model_name="m",
        model_version="9.0",
    ),
    _manage("register, no url", "RegisterModel", "RegisterModelRequest"),
    _manage("register, an unknown file", "RegisterModel", "RegisterModelRequest", url="none.mar"),
    _manage(
        "register",
        "RegisterModel",
        "RegisterModelRequest",
        url="other.mar",
        initial_workers=1,
        synchronous=True,
    ),
    _predict("predict, registered", model_name="other"),
    _manage("register, again", "RegisterModel", "RegisterModelRequest", url="other.mar"),
    _manage(
        "scale, and wait",
        "ScaleWorker",
        "ScaleWorkerRequest",
        model_name="other",
        min_worker=1,
        synchronous=True,
    ),
    _manage(
        "scale, fewer at most than at least",
        "ScaleWorker",
        "ScaleWorkerRequest",
        model_name="other",
        min_worker=2,
        max_worker=1,
    ),
    _manage("scale, an unknown model", "ScaleWorker", "ScaleWorkerRequest", model_name="nobody"),
    _manage("unregister", "UnregisterModel", "UnregisterModelRequest", model_name="other"),
    _manage(
        "unregister, an unknown model",
        "UnregisterModel",
        "UnregisterModelRequest",
        model_name="nobody",
    ),
    _manage(
        "set-default, an unknown version",
        "SetDefault",
        "SetDefaultRequest",
        model_name="m",
        model_version="9.0",
    ),
    _predict("unregistered: predictions", model_name="other"),
]
