"""TensorFlow Serving's services over gRPC, asked with its own stubs; numbers are ONNX Runtime's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import numpy as np
import onnxruntime
import pytest
from tests import serving
from tests.boundary.tensorflow_stubs import (
    DTYPES,
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    make_ndarray,
    make_tensor_proto,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
    tensor_pb2,
)
from tests.boundary.test_tensorflow import _write_two as write_two_inputs
from tests.serving import write_model

MODELS = Path(__file__).resolve().parents[2] / "conformance" / "models"
ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]], np.float32)
ONNX = {
    "float32": "fp32",
    "float64": "fp64",
    "float16": "fp16",
    "object": "bytes",
}


class Place(NamedTuple):
    """The stubs of one server, and where its linear model lies."""

    predictions: Any
    models: Any
    model: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    model = write_model(tmp_path_factory.mktemp("models") / "m.onnx")
    identities = [MODELS / f"identity_{ONNX.get(name, name)}.onnx" for name in DTYPES]
    value = write_two_inputs(model.with_name("value.onnx"))
    with (
        serving.house() as house,
        house.serving(model, value, *identities) as server,
        grpc.insecure_channel("{}:{}".format(*server.address)) as channel,
    ):
        yield Place(
            prediction_service_pb2_grpc.PredictionServiceStub(channel),
            model_service_pb2_grpc.ModelServiceStub(channel),
            model,
        )


def _request(name: str = "m", **inputs: np.ndarray[Any, Any]) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    for key, array in inputs.items():
        request.inputs[key].CopyFrom(make_tensor_proto(array, content=True))
    return request


def _refused(call: Callable[..., Any], *arguments: Any) -> tuple[str, str, str]:
    """Status, words and our code of a refusal."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    error: Any = caught.value
    return error.code().name, error.details(), dict(error.trailing_metadata())["dukou-code"]


def test_predict_answers_by_name(place: Place) -> None:
    session = onnxruntime.InferenceSession(place.model)
    label, probabilities = session.run(None, {"x": ROWS})
    answer = place.predictions.Predict(_request(x=ROWS))
    assert sorted(answer.outputs) == ["label", "probabilities"]
    np.testing.assert_array_equal(make_ndarray(answer.outputs["label"]), label)
    np.testing.assert_array_equal(make_ndarray(answer.outputs["probabilities"]), probabilities)
    # Clients read the values where TensorFlow Serving writes them.
    assert len(answer.outputs["probabilities"].float_val) == probabilities.size
    spec = answer.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("m", 1, "serving_default")


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_in_both_forms(place: Place, dtype: str, content: bool) -> None:
    if dtype == "object":
        array = np.array([[b"", "渡口".encode(), b"\x00\xff"]], object)
    elif dtype == "bool":
        array = np.array([[True, False, True]])
    elif dtype.startswith("float"):
        array = np.array([[1.5, -0.25, 6e4]], dtype)
    else:
        array = np.array([[np.iinfo(dtype).min, 1, np.iinfo(dtype).max]], dtype)
    request = predict_pb2.PredictRequest()
    request.model_spec.name = f"identity_{ONNX.get(dtype, dtype)}"
    request.inputs["x"].CopyFrom(make_tensor_proto(array, content=content))
    came = make_ndarray(place.predictions.Predict(request).outputs["y"])
    assert came.dtype == array.dtype
    np.testing.assert_array_equal(came, array)


def test_one_value_stands_for_many(place: Place) -> None:
    request = _request("identity_fp32", x=np.array([[7.5]], np.float32))
    tensor = request.inputs["x"]
    tensor.CopyFrom(tensor_pb2.TensorProto(dtype=1, float_val=[7.5]))
    for extent in (2, 3):
        tensor.tensor_shape.dim.add(size=extent)
    came = make_ndarray(place.predictions.Predict(request).outputs["y"])
    np.testing.assert_array_equal(came, np.full((2, 3), 7.5, np.float32))


def test_outputs_are_filtered_and_versions_named(place: Place) -> None:
    request = _request(x=ROWS)
    request.output_filter.append("label")
    request.model_spec.version.value = 1
    request.model_spec.signature_name = "serving_default"
    assert list(place.predictions.Predict(request).outputs) == ["label"]
    request.output_filter.append("z")
    assert _refused(place.predictions.Predict, request) == (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {label,probabilities}.",
        "request.unknown-output",
    )


def test_refusals_are_in_tensorflow_serving_s_words(place: Place) -> None:
    predict = place.predictions.Predict
    request = _request("nothing", x=ROWS)
    expected = ("NOT_FOUND", "Servable not found for request: Latest(nothing)")
    assert _refused(predict, request)[:2] == expected
    request = _request(x=ROWS)
    request.model_spec.version.value = 7
    expected = ("NOT_FOUND", "Servable not found for request: Specific(m, 7)")
    assert _refused(predict, request)[:2] == expected
    request.model_spec.version_label = "stable"
    expected = ("NOT_FOUND", "Unrecognized servable version label: stable")
    assert _refused(predict, request)[:2] == expected
    request = _request(x=ROWS)
    request.model_spec.signature_name = "other"
    expected = ("FAILED_PRECONDITION", 'Serving signature key "other" not found.')
    assert _refused(predict, request)[:2] == expected
    status, words, _ = _refused(predict, _request(z=ROWS))
    assert status == "INVALID_ARGUMENT"
    assert words == (
        "input size does not match signature: 1!=1 len({z}) != len({x}). Sent extra: {z}. "
        "Missing but required: {x}."
    )
    assert _refused(predict, _request(""))[:2] == (
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    )
    assert _refused(predict, _request(x=ROWS.astype(np.int32)))[2] == "request.wrong-dtype"
    assert _refused(predict, _request(x=ROWS[:, :3]))[2] == "request.wrong-shape"
    huge = _request("identity_fp32", x=np.array([[1.0]], np.float32))
    huge.inputs["x"].tensor_content = b""
    huge.inputs["x"].tensor_shape.dim[0].size = 2**40
    huge.inputs["x"].tensor_shape.dim[1].size = 3
    assert _refused(predict, huge)[2] == "wire.shape-overflow"


def _examples(request: Any, rows: np.ndarray[Any, Any]) -> Any:
    request.model_spec.name = "m"
    for row in rows:
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.extend(row.tolist())
    return request


def test_classify_tells_classes_with_their_scores(place: Place) -> None:
    _, probabilities = onnxruntime.InferenceSession(place.model).run(None, {"x": ROWS})
    answer = place.predictions.Classify(_examples(classification_pb2.ClassificationRequest(), ROWS))
    rows = [[(c.label, c.score) for c in row.classes] for row in answer.result.classifications]
    assert rows == [[("", float(score)) for score in row] for row in probabilities]
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 1)


def test_a_context_stands_before_every_example(place: Place) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "m"
    within = request.input.example_list_with_context
    within.context.features.feature["x"].float_list.value.extend([9, 9, 9, 9])
    within.examples.add()
    own = within.examples.add()
    own.features.feature["x"].float_list.value.extend(ROWS[0].tolist())
    rows = np.array([[9, 9, 9, 9], ROWS[0]], np.float32)
    _, probabilities = onnxruntime.InferenceSession(place.model).run(None, {"x": rows})
    answer = place.predictions.Classify(request)
    told = [[c.score for c in row.classes] for row in answer.result.classifications]
    np.testing.assert_array_equal(np.array(told, np.float32), probabilities)


def test_regress_and_several_inferences(place: Place) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name = "value"
    for number in (1.5, -2.0):
        example = request.input.example_list.examples.add()
        example.features.feature["a"].float_list.value.extend([number, 1.0])
        example.features.feature["b"].int64_list.value.append(3)
    answer = place.predictions.Regress(request)
    assert [r.value for r in answer.result.regressions] == [5.5, 2.0]
    several = inference_pb2.MultiInferenceRequest()
    several.input.CopyFrom(request.input)
    task = several.tasks.add(method_name="tensorflow/serving/regress")
    task.model_spec.name = "value"
    (result,) = place.predictions.MultiInference(several).results
    assert [r.value for r in result.regression_result.regressions] == [5.5, 2.0]
    assert result.model_spec.version.value == 1
    several.tasks.add().CopyFrom(task)
    assert _refused(place.predictions.MultiInference, several)[:2] == (
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: serving_default",
    )
    del several.tasks[:]
    assert _refused(place.predictions.MultiInference, several)[0] == "INVALID_ARGUMENT"


def test_what_cannot_be_told_is_refused_in_tensorflow_serving_s_words(place: Place) -> None:
    status, words, _ = _refused(
        place.predictions.Regress, _examples(regression_pb2.RegressionRequest(), ROWS)
    )
    assert status == "FAILED_PRECONDITION"
    assert words.startswith("No regression outputs found in SignatureDef")
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "value"
    status, words, _ = _refused(place.predictions.Classify, request)
    assert status == "FAILED_PRECONDITION"
    assert words.startswith("Expected classification signature outputs to contain at least one of")
    request.model_spec.name = "m"
    assert _refused(place.predictions.Classify, request)[:2] == (
        "INVALID_ARGUMENT",
        "Input is empty: it holds an example a row",
    )
    request.input.example_list.examples.add()
    status, words, code = _refused(place.predictions.Classify, request)
    assert (status, code) == ("INVALID_ARGUMENT", "request.missing-input")
    assert "Feature: x (data type: FP32) is required but could not be found" in words


def test_metadata_holds_the_signature(place: Place) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest()
    request.model_spec.name = "m"
    request.metadata_field.append("signature_def")
    answer = place.predictions.GetModelMetadata(request)
    assert (answer.model_spec.name, answer.model_spec.version.value) == ("m", 1)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    (name,) = signatures.signature_def
    signature = signatures.signature_def[name]
    assert (name, signature.method_name) == ("serving_default", "tensorflow/serving/predict")
    (x,) = signature.inputs.values()
    assert (x.name, x.dtype, [dim.size for dim in x.tensor_shape.dim]) == ("x:0", 1, [-1, 4])
    assert sorted(signature.outputs) == ["label", "probabilities"]
    request.metadata_field[0] = "graph"
    status, words, _ = _refused(place.predictions.GetModelMetadata, request)
    assert status == "INVALID_ARGUMENT"
    assert words.startswith("Metadata field graph is not supported")
    del request.metadata_field[:]
    assert _refused(place.predictions.GetModelMetadata, request)[0] == "INVALID_ARGUMENT"


def test_status_says_which_versions_answer(place: Place) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "m"
    (status,) = place.models.GetModelStatus(request).model_version_status
    assert (status.version, status.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    assert (status.status.error_code, status.status.error_message) == (0, "")
    request.model_spec.version.value = 7
    assert _refused(place.models.GetModelStatus, request)[:2] == (
        "NOT_FOUND",
        "Could not find version 7 of model m",
    )
    request.model_spec.Clear()
    request.model_spec.name = "nothing"
    assert _refused(place.models.GetModelStatus, request)[:2] == (
        "NOT_FOUND",
        "Could not find any versions of model nothing",
    )


def test_a_reload_serves_its_list_and_nothing_else(place: Place, tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / "store" / "many" / version).mkdir(parents=True)
        write_model(tmp_path / "store" / "many" / version / "model.onnx", scale=float(version))
    with (
        serving.house() as house,
        house.serving(place.model, "--model-store", tmp_path / "store") as server,
        grpc.insecure_channel("{}:{}".format(*server.address)) as channel,
    ):
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        reload = model_management_pb2.ReloadConfigRequest()
        status, words, _ = _refused(models.HandleReloadConfigRequest, reload)
        assert status == "INVALID_ARGUMENT"
        assert "model_config_list" in words
        config = reload.config.model_config_list.config.add(
            name="many", base_path=str(tmp_path / "store" / "many"), model_platform="tensorflow"
        )
        config.model_version_policy.specific.versions.extend([1, 2])
        config.version_labels["stable"] = 1
        answer = models.HandleReloadConfigRequest(reload)
        assert (answer.status.error_code, answer.status.error_message) == (0, "")
        request = _request("many", x=ROWS)
        assert predictions.Predict(request).model_spec.version.value == 2
        request.model_spec.version_label = "stable"
        assert predictions.Predict(request).model_spec.version.value == 1
        # What the list does not hold is no longer served.
        assert _refused(predictions.Predict, _request(x=ROWS))[0] == "NOT_FOUND"
