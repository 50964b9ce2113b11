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

# `case.py` asks for the version.
sys.path.append(str(stubs.FOLDER))
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


@case("Predict, text, halves, whole numbers and truths, in both forms of a TensorProto")
def dtypes(facts: dict[str, Any]) -> None:
    """Each in the field that TensorFlow has for it."""
    arrays = {
        "text": ("t", np.array([["渡口".encode(), b"\xff\x00"]], object)),
        "half": ("h", np.array([[1.5, -2.0]], np.float16)),
        "whole": ("i", np.array([[-(2**62), 7]], np.int64)),
        "truth": ("b", np.array([[True, False]])),
    }
    with _predictions(facts) as predictions:
        for model, (name, array) in arrays.items():
            for content in (True, False):
                request = stubs.predict_pb2.PredictRequest()
                request.model_spec.name = model
                tensor = stubs.make_tensor_proto(array, content=content)
                request.inputs[name].CopyFrom(tensor)
                answer = predictions.Predict(request, timeout=20)
                assert stubs.make_ndarray(answer.outputs["same"]).tolist() == array.tolist()


@case("Predict, one value that stands for all")
def repeated(facts: dict[str, Any]) -> None:
    """As `make_tensor_proto` writes a tensor of equal values: the last one stands for the rest."""
    request = stubs.predict_pb2.PredictRequest()
    request.model_spec.name = "two"
    for name, value in (("a", 1.5), ("b", 0.5)):
        tensor = stubs.make_tensor_proto(np.array([[value]], np.float32), content=False)
        tensor.tensor_shape.dim[0].size = 3
        tensor.tensor_shape.dim[1].size = 2
        request.inputs[name].CopyFrom(tensor)
    with _predictions(facts) as predictions:
        answer = predictions.Predict(request, timeout=20)
    close(stubs.make_ndarray(answer.outputs["sum"]), [[2.0, 2.0]] * 3)


def _examples(request: Any, model: str = "m") -> Any:
    request.model_spec.name = model
    for row in ROWS:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.extend(row.tolist())
    return request


@case("Classify, MultiInference")
def classify(facts: dict[str, Any]) -> None:
    """Examples in, classes with their scores out."""
    request = _examples(stubs.classification_pb2.ClassificationRequest())
    several = stubs.inference_pb2.MultiInferenceRequest()
    several.input.CopyFrom(request.input)
    task = several.tasks.add(method_name="tensorflow/serving/classify")
    task.model_spec.name = "m"
    with _predictions(facts) as predictions:
        one = predictions.Classify(request, timeout=20).result
        (result,) = predictions.MultiInference(several, timeout=20).results
    for told in (one, result.classification_result):
        scores = [[each.score for each in row.classes] for row in told.classifications]
        close(scores, facts["probabilities"])


@case("Regress: a model without a number a row is refused in TensorFlow Serving's words")
def regress(facts: dict[str, Any]) -> None:
    """As a signature that has no regression."""
    request = _examples(stubs.regression_pb2.RegressionRequest())
    with _predictions(facts) as predictions:
        _refused(lambda: predictions.Regress(request), grpc.StatusCode.FAILED_PRECONDITION)


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
