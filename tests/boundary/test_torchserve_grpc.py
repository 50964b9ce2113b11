"""TorchServe's services over gRPC, by grpcio and messages with the numbers of its `.proto` files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from tests import serving
from tests.serving import write_model

INFERENCE = "org.pytorch.serve.grpc.inference"
MANAGEMENT = "org.pytorch.serve.grpc.management"
TEXT, BYTES, INT, BOOL = 9, 12, 5, 8
ROW = [1.0, 2.0, 3.0, 4.0]
# Message → its fields: name → (number, type).
MESSAGES = {
    INFERENCE: {
        "Empty": {},
        "PredictionResponse": {"prediction": (1, BYTES)},
        "TorchServeHealthResponse": {"health": (1, TEXT)},
    },
    MANAGEMENT: {
        "ManagementResponse": {"msg": (1, TEXT)},
        "DescribeModelRequest": {"model_name": (1, TEXT), "model_version": (2, TEXT)},
        "ListModelsRequest": {"limit": (1, INT), "next_page_token": (2, INT)},
        "RegisterModelRequest": {
            "batch_size": (1, INT),
            "initial_workers": (3, INT),
            "max_batch_delay": (4, INT),
            "model_name": (5, TEXT),
            "synchronous": (8, BOOL),
            "url": (9, TEXT),
        },
        "ScaleWorkerRequest": {
            "model_name": (1, TEXT),
            "model_version": (2, TEXT),
            "max_worker": (3, INT),
            "min_worker": (4, INT),
            "synchronous": (6, BOOL),
        },
        "SetDefaultRequest": {"model_name": (1, TEXT), "model_version": (2, TEXT)},
        "UnregisterModelRequest": {"model_name": (1, TEXT), "model_version": (2, TEXT)},
    },
}
Call = Callable[..., Any]


def _messages() -> dict[str, Any]:
    """The messages as classes; a prediction's request has a map, which is a message of pairs."""
    pool = descriptor_pool.DescriptorPool()
    for package, messages in MESSAGES.items():
        file = descriptor_pb2.FileDescriptorProto(
            name=f"{package}.proto", package=package, syntax="proto3"
        )
        for name, fields in messages.items():
            message = file.message_type.add(name=name)
            for field, (number, kind) in fields.items():
                message.field.add(name=field, number=number, type=kind, label=1)
        if package == INFERENCE:
            request = file.message_type.add(name="PredictionsRequest")
            request.field.add(name="model_name", number=1, type=TEXT, label=1)
            request.field.add(name="model_version", number=2, type=TEXT, label=1)
            entry = request.nested_type.add(name="InputEntry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, type=TEXT, label=1)
            entry.field.add(name="value", number=2, type=BYTES, label=1)
            request.field.add(
                name="input",
                number=3,
                type=11,
                label=3,
                type_name=f".{package}.PredictionsRequest.InputEntry",
            )
        pool.Add(file)
    names = {n: f"{p}.{n}" for p, each in MESSAGES.items() for n in (*each, "PredictionsRequest")}
    names["PredictionsRequest"] = f"{INFERENCE}.PredictionsRequest"
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(full))
        for name, full in names.items()
    }


@pytest.fixture(scope="module")
def call(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Call]:
    folder = tmp_path_factory.mktemp("models")
    store = folder / "store"
    store.mkdir()
    write_model(store / "new.onnx")
    messages = _messages()
    model = write_model(folder / "m.onnx")
    with (
        serving.house() as house,
        house.serving(model, "--model-store", store) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.address[1]}") as channel,
    ):

        def ask(method: str, request: str, answer: str, **fields: Any) -> Any:
            package = INFERENCE if request in ("Empty", "PredictionsRequest") else MANAGEMENT
            service = "InferenceAPIsService" if package == INFERENCE else "ManagementAPIsService"
            kind = channel.unary_stream if method.startswith("Stream") else channel.unary_unary
            calling = kind(
                f"/{package}.{service}/{method}",
                request_serializer=messages[request].SerializeToString,
                response_deserializer=messages[answer].FromString,
            )
            return calling(messages[request](**fields), timeout=30)

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
    for method, fields, status in (
        ("DescribeModel", {"model_name": "n"}, "NOT_FOUND"),
        ("RegisterModel", {"url": "../m.onnx"}, "NOT_FOUND"),
        ("RegisterModel", {}, "INVALID_ARGUMENT"),
        ("SetDefault", {"model_name": "m"}, "INVALID_ARGUMENT"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            _manage(call, method, **fields)
        error: Any = caught.value
        assert error.code().name == status, (method, error.details())


def _workers(call: Call, model: str) -> list[dict[str, Any]]:
    (described,) = json.loads(_manage(call, "DescribeModel", model_name=model))
    return list(described["workers"])
