"""A large tensor is copied once on its way to the model and not at all on its way back, whoever carries it.

The server counts what it copies (`dukou_copied_bytes_total`); the picture is 150,528 float32, 602,112 bytes.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_calls
from tests import serving
from tests.boundary.tensorflow_stubs import (
    make_ndarray,
    make_tensor_proto,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tests.serving import RunningServer

MODEL = Path(__file__).resolve().parents[2] / "conformance" / "models" / "identity_fp32.onnx"
PICTURE = np.random.default_rng(20261126).random((224 * 224, 3), np.float32)

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with serving.house() as house, house.serving(MODEL) as running:
        yield running


def _copied(server: RunningServer) -> dict[str, int]:
    with urllib.request.urlopen(f"{server.url}/metrics", timeout=20) as answer:
        page = answer.read().decode()
    found = re.findall(r'^dukou_copied_bytes_total\{direction="(\w+)"\} (\d+)$', page, re.M)
    return {direction: int(count) for direction, count in found}


def _by_rest(address: str, picture: Array) -> Array:
    raw = {"parameters": {"binary_data_size": picture.nbytes}}
    tensor = {"name": "x", "shape": list(picture.shape), "datatype": "FP32", **raw}
    asked = {"parameters": {"binary_data_output": True}, "inputs": [tensor]}
    head = json.dumps(asked).encode()
    request = urllib.request.Request(
        f"http://{address}/v2/models/identity_fp32/infer",
        head + picture.tobytes(),
        {"Inference-Header-Content-Length": str(len(head))},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        body = answer.read()
        length = int(answer.headers["Inference-Header-Content-Length"])
    return np.frombuffer(body[length:], "<f4").reshape(picture.shape)


def _by_calls(address: str, picture: Array) -> Array:
    given = triton_calls.InferInput("x", list(picture.shape), "FP32")
    given.set_data_from_numpy(picture)
    with triton_calls.InferenceServerClient(address) as client:
        return client.infer("identity_fp32", [given]).as_numpy("y")


def _by_tensorflow(content: bool) -> Callable[[str, Array], Array]:
    def ask(address: str, picture: Array) -> Array:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "identity_fp32"
        request.inputs["x"].CopyFrom(make_tensor_proto(picture, content=content))
        with grpc.insecure_channel(address) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            return make_ndarray(stub.Predict(request, timeout=30).outputs["y"])

    return ask


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(_by_rest, id="v2-rest"),
        pytest.param(_by_calls, id="v2-grpc"),
        pytest.param(_by_tensorflow(True), id="tensorflow-grpc-content"),
        pytest.param(_by_tensorflow(False), id="tensorflow-grpc-floats"),
    ],
)
def test_a_picture_is_copied_once(
    server: RunningServer, ask: Callable[[str, Array], Array]
) -> None:
    address = "{}:{}".format(*server.address)
    before = _copied(server)
    np.testing.assert_array_equal(ask(address, PICTURE), PICTURE)
    after = _copied(server)
    assert after["in"] - before["in"] == PICTURE.nbytes
    assert after["out"] == before["out"]


def test_what_is_small_is_not_counted(server: RunningServer) -> None:
    address = "{}:{}".format(*server.address)
    before = _copied(server)
    _by_rest(address, PICTURE[:300])
    assert _copied(server) == before
