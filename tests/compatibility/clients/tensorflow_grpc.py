"""`tensorflow-serving-api`'s own stubs, as Google publishes them, over gRPC; without TensorFlow itself."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from case import case, close

sys.path.append(str(Path(__file__).parents[2] / "boundary"))
import tensorflow_stubs as stubs

PACKAGE = "tensorflow-serving-api"
ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]], np.float32)


@contextlib.contextmanager
def _predictions(facts: dict[str, Any]) -> Iterator[Any]:
    with grpc.insecure_channel(facts["address"]) as channel:
        yield stubs.prediction_service_pb2_grpc.PredictionServiceStub(channel)


def _request(name: str = "m", *, content: bool = True) -> Any:
    request = stubs.predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.inputs["x"].CopyFrom(stubs.make_tensor_proto(ROWS, content=content))
    return request


def _refused(call: Any, status: grpc.StatusCode) -> None:
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == status, error
    else:
        raise AssertionError("it was not refused")


@case("Predict, tensor_content and values one by one")
def predict(facts: dict[str, Any]) -> None:
    """Both forms in; values one by one out, as clients read them."""
    with _predictions(facts) as predictions:
        for content in (True, False):
            answer = predictions.Predict(_request(content=content), timeout=20)
            close(stubs.make_ndarray(answer.outputs["probabilities"]), facts["probabilities"])
            assert list(answer.outputs["label"].int64_val) == facts["labels"]
            assert answer.model_spec.signature_name == "serving_default"


@case("Predict, output_filter and a version by its number")
def chosen(facts: dict[str, Any]) -> None:
    """One output of version 1."""
    request = _request()
    request.output_filter.append("probabilities")
    request.model_spec.version.value = 1
    with _predictions(facts) as predictions:
        answer = predictions.Predict(request, timeout=20)
    assert list(answer.outputs) == ["probabilities"]
    assert answer.model_spec.version.value == 1
    found = stubs.make_ndarray(answer.outputs["probabilities"])
    assert not np.allclose(found, facts["probabilities"])


@case("GetModelMetadata")
def metadata(facts: dict[str, Any]) -> None:
    """The signature, packed as TensorFlow Serving packs it."""
    request = stubs.get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "m"
    request.metadata_field.append("signature_def")
    with _predictions(facts) as predictions:
        answer = predictions.GetModelMetadata(request, timeout=20)
    signatures = stubs.get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    inputs = signatures.signature_def["serving_default"].inputs
    assert [dim.size for dim in inputs["x"].tensor_shape.dim] == [-1, 4]


@case("GetModelStatus")
def status(facts: dict[str, Any]) -> None:
    """What readiness probes look for."""
    request = stubs.get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "m"
    with grpc.insecure_channel(facts["address"]) as channel:
        models = stubs.model_service_pb2_grpc.ModelServiceStub(channel)
        answer = models.GetModelStatus(request, timeout=20)
    states = {each.version: each.state for each in answer.model_version_status}
    assert states == {1: 30, 2: 30}


@case("errors: unknown model, missing input")
def errors(facts: dict[str, Any]) -> None:
    """A status each."""
    empty = stubs.predict_pb2.PredictRequest()
    empty.model_spec.name = "m"
    with _predictions(facts) as predictions:
        _refused(lambda: predictions.Predict(_request("nobody")), grpc.StatusCode.NOT_FOUND)
        _refused(lambda: predictions.Predict(empty), grpc.StatusCode.INVALID_ARGUMENT)
