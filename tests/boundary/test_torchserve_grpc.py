"""TorchServe's services over gRPC, by grpcio and messages with the numbers of its `.proto` files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from tests import serving
from tests.compatibility.clients.torchserve_messages import messages, method
from tests.serving import write_model

ROW = [1.0, 2.0, 3.0, 4.0]
Call = Callable[..., Any]


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    folder = tmp_path_factory.mktemp("models")
    store = folder / "store"
    store.mkdir()
    write_model(store / "new.onnx")
    classes = messages()
    model = write_model(folder / "m.onnx")
    with (
        serving.house() as house,
        house.serving(model, "--model-store", store) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.address[1]}") as channel,
    ):

        def ask(name: str, request: str, answer: str, **fields: Any) -> Any:
            kind = channel.unary_stream if name.startswith("Stream") else channel.unary_unary
            calling = kind(
                method(name, request),
                request_serializer=classes[request].SerializeToString,
                response_deserializer=classes[answer].FromString,
            )
            return calling(classes[request](**fields), timeout=30)

        yield ask


def _predict(call: Call, model: str, inputs: dict[str, bytes], **fields: str) -> Any:
    request = ("PredictionsRequest", "PredictionResponse")
    said = call("Predictions", *request, model_name=model, input=inputs, **fields)
    return json.loads(said.prediction)


def _manage(call: Call, method: str, **fields: Any) -> str:
    request = f"{method}Request"
    return str(call(method, request, "ManagementResponse", **fields).msg)


def test_ping_and_predictions(call: Call) -> None:
    health = call("Ping", "Empty", "TorchServeHealthResponse").health
    assert json.loads(health) == {"status": "Healthy"}
    row = json.dumps(ROW).encode()
    expected = _predict(call, "m", {"data": row})
    assert expected.keys() == {"label", "probabilities"}
    assert _predict(call, "m", {"x": row}, model_version="1") == expected
    instances = json.dumps({"instances": [ROW]}).encode()
    assert _predict(call, "m", {"data": instances}) == {"predictions": [expected]}
    request = ("PredictionsRequest", "PredictionResponse")
    (only,) = call("StreamPredictions", *request, model_name="m", input={"data": row})
    assert json.loads(only.prediction) == expected


def test_what_is_wrong_is_in_its_words(call: Call) -> None:
    row = json.dumps(ROW).encode()
    for model, inputs, status, words in (
        ("none", {"data": row}, "INTERNAL", "Model not found: none\nModelNotFoundException"),
        ("m", {"data": b"[1]"}, "INVALID_ARGUMENT", "input `x` has shape [1], and the model takes"),
        ("m", {}, "INVALID_ARGUMENT", "input `x` is missing"),
        ("", {"data": row}, "INVALID_ARGUMENT", "Parameter model_name is required."),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            _predict(call, model, inputs)
        error: Any = caught.value
        assert (error.code().name, error.details()[: len(words)]) == (status, words)


def test_models_are_managed(call: Call) -> None:
    said = _manage(call, "RegisterModel", url="new.onnx", model_name="n", synchronous=True)
    count = len(_workers(call, "n"))
    assert said == f'Model "n" Version: 1 registered with {count} initial workers'
    models = json.loads(_manage(call, "ListModels"))["models"]
    assert [model["modelName"] for model in models] == ["m", "n"]
    assert json.loads(_manage(call, "ListModels", limit=1))["nextPageToken"] == "1"
    scaled = _manage(call, "ScaleWorker", model_name="n", min_worker=2, synchronous=True)
    assert scaled == "Workers scaled to 2 for model: n"
    assert len(_workers(call, "n")) == 2
    done = _manage(call, "SetDefault", model_name="n", model_version="1")
    assert done == 'Default version successfully updated for model "n" to "1"'
    assert _manage(call, "UnregisterModel", model_name="n") == 'Model "n" unregistered'
    for name, fields, status in (
        ("DescribeModel", {"model_name": "n"}, "NOT_FOUND"),
        ("RegisterModel", {"url": "../m.onnx"}, "NOT_FOUND"),
        ("RegisterModel", {}, "INVALID_ARGUMENT"),
        ("SetDefault", {"model_name": "m"}, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            _manage(call, name, **fields)
        error: Any = caught.value
        assert error.code().name == status, (name, error.details())


def _workers(call: Call, model: str) -> list[dict[str, Any]]:
    (described,) = json.loads(_manage(call, "DescribeModel", model_name=model))
    return list(described["workers"])
