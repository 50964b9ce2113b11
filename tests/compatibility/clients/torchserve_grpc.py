"""TorchServe's two services over gRPC, by `grpcio` and messages with the numbers of its `.proto` files."""

from __future__ import annotations

import json
from typing import Any

import grpc
from case import case, close
from torchserve_messages import messages, method

PACKAGE = "grpcio"
MESSAGES = messages()
ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]]


def _ask(facts: dict[str, Any], name: str, request: str, answer: str, **fields: Any) -> Any:
    with grpc.insecure_channel(facts["address"]) as channel:
        kind = channel.unary_stream if name.startswith("Stream") else channel.unary_unary
        calling = kind(
            method(name, request),
            request_serializer=MESSAGES[request].SerializeToString,
            response_deserializer=MESSAGES[answer].FromString,
        )
        said = calling(MESSAGES[request](**fields), timeout=20)
        return list(said) if name.startswith("Stream") else said


def _predict(facts: dict[str, Any], name: str = "Predictions", **fields: Any) -> Any:
    asked = {"model_name": "m", "input": {"data": json.dumps(ROWS).encode()}, **fields}
    return _ask(facts, name, "PredictionsRequest", "PredictionResponse", **asked)


def _manage(facts: dict[str, Any], name: str, **fields: Any) -> str:
    request = "ScaleWorkerRequest" if name == "ScaleWorker" else f"{name}Request"
    return str(_ask(facts, name, request, "ManagementResponse", **fields).msg)


def _refused(call: Any, status: str, words: str) -> None:
    try:
        call()
    except grpc.RpcError as error:
        assert error.code().name == status, error
        assert words in error.details(), error
    else:
        raise AssertionError("it was not refused")


@case("Ping")
def ping(facts: dict[str, Any]) -> None:
    """The text of the JSON that REST answers."""
    said = _ask(facts, "Ping", "Empty", "TorchServeHealthResponse")
    assert json.loads(said.health) == {"status": "Healthy"}


@case("Predictions, a version by its number, StreamPredictions")
def predictions(facts: dict[str, Any]) -> None:
    """The body that REST answers, in a message."""
    found = json.loads(_predict(facts).prediction)
    close(
        [row["probabilities"] for row in found]
        if isinstance(found, list)
        else found["probabilities"],
        facts["probabilities"],
    )
    first = json.loads(_predict(facts, model_version="1").prediction)
    assert first != found
    (streamed,) = _predict(facts, "StreamPredictions")
    assert json.loads(streamed.prediction) == found


@case("ListModels, DescribeModel")
def described(facts: dict[str, Any]) -> None:
    """What automation polls."""
    models = json.loads(_manage(facts, "ListModels", limit=100))["models"]
    assert "m" in {each["modelName"] for each in models}
    (model,) = json.loads(_manage(facts, "DescribeModel", model_name="m"))
    assert {worker["status"] for worker in model["workers"]} == {"READY"}


@case("UnregisterModel, RegisterModel, ScaleWorker, SetDefault")
def managed(facts: dict[str, Any]) -> None:
    """A model goes and comes back from the store."""
    said = _manage(facts, "UnregisterModel", model_name="spare")
    assert said == 'Model "spare" unregistered'
    _refused(lambda: _predict(facts, model_name="spare"), "INTERNAL", "Model not found: spare")
    said = _manage(facts, "RegisterModel", url="spare", initial_workers=1, synchronous=True)
    assert said == 'Model "spare" Version: 1 registered with 1 initial workers'
    said = _manage(
        facts, "ScaleWorker", model_name="spare", min_worker=2, max_worker=2, synchronous=True
    )
    assert said == "Workers scaled to 2 for model: spare"
    said = _manage(facts, "SetDefault", model_name="spare", model_version="1")
    assert said == 'Default version successfully updated for model "spare" to "1"'
    answer = _predict(facts, model_name="spare", input={"a": b"[1, 2]", "b": b"[3, 4]"})
    close(json.loads(answer.prediction)["sum"], [4, 6])


@case("errors: unknown model, unknown version, no url")
def errors(facts: dict[str, Any]) -> None:
    """A status each; the second line of the details is TorchServe's class."""
    _refused(lambda: _predict(facts, model_name="nobody"), "INTERNAL", "ModelNotFoundException")
    _refused(
        lambda: _predict(facts, model_version="9"), "INTERNAL", "ModelVersionNotFoundException"
    )
    _refused(lambda: _manage(facts, "RegisterModel"), "INVALID_ARGUMENT", "url is required")
