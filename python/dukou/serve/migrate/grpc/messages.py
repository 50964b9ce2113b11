"""What the messages of inference say, read into plain values that can be compared and shown."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from dukou.serve.messages.schema import read_message
from dukou.serve.messages.tensors import read_tensorflow_tensors, read_v2_tensors
from dukou.serve.migrate.compare import Tolerance, differences

_V2 = "/inference.GRPCInferenceService/"
_TENSORFLOW = "/tensorflow.serving.PredictionService/"
_TORCHSERVE = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/"
# Of a request, so many letters are shown, and so many elements of each tensor.
_SHOWN = 1000
_SHOWN_ELEMENTS = 16


def is_inference(method: str) -> bool:
    """Whether a call asks a model something: such a one changes nothing, and is copied."""
    return method in _CALLS


def compare_answers(
    method: str, old: list[bytes], new: list[bytes], tolerance: Tolerance
) -> str | None:
    """What differs first between the messages of two servers that both did not refuse; None: nothing."""
    if len(old) != len(new):
        return f"the old server sent {len(old)} messages, and {len(new)} came here"
    _, read = _CALLS[method]
    try:
        left, right = [read(each) for each in old], [read(each) for each in new]
    except (DecodeError, ValueError, LookupError) as error:
        return None if old == new else f"an answer cannot be read: {error}"
    left, right = _paired(left, right)
    if len(left) == 1:
        return next(differences(left[0], right[0], tolerance), None)
    return next(differences(left, right, tolerance), None)


def show_request(method: str, messages: list[bytes]) -> str:
    """The first message of a call, as JSON, for people."""
    if not messages:
        return ""
    show, _ = _CALLS[method]
    try:
        text = json.dumps(show(messages[0]), ensure_ascii=False)
    except (DecodeError, ValueError, LookupError):
        text = messages[0][:_SHOWN].decode("utf-8", "backslashreplace")
    more = f" … and {len(messages) - 1} more messages" if len(messages) > 1 else ""
    return text[:_SHOWN] + more


def _paired(old: list[Any], new: list[Any]) -> tuple[list[Any], list[Any]]:
    """Both in the order of their ids, where each has one: servers may answer a stream's requests as they end."""
    ids = [[each.pop("id", "") if isinstance(each, dict) else "" for each in s] for s in (old, new)]
    if len(set(ids[0])) < len(ids[0]) or set(ids[0]) != set(ids[1]) or "" in ids[0]:
        return old, new
    place = {name: index for index, name in enumerate(ids[1])}
    return old, [new[place[name]] for name in ids[0]]


# --- V2 ---


def _v2_answer(raw: bytes) -> dict[str, Any]:
    return _v2_outputs(read_message("v2.ModelInferResponse", raw))


def _v2_outputs(answer: Any) -> dict[str, Any]:
    return {
        "id": answer.id,
        "outputs": read_v2_tensors(answer.outputs, answer.raw_output_contents),
    }


def _v2_streamed(raw: bytes) -> dict[str, Any]:
    answer = read_message("v2.ModelStreamInferResponse", raw)
    # An error's words are each server's own.
    return {"refused": bool(answer.error_message), **_v2_outputs(answer.infer_response)}


def _v2_request(raw: bytes) -> dict[str, Any]:
    request = read_message("v2.ModelInferRequest", raw)
    inputs = read_v2_tensors(request.inputs, request.raw_input_contents)
    return {"model": request.model_name, "inputs": _shortened(inputs)}


# --- TensorFlow Serving ---


def _predict_answer(raw: bytes) -> dict[str, Any]:
    return {"outputs": read_tensorflow_tensors(read_message("tf.PredictResponse", raw).outputs)}


def _predict_request(raw: bytes) -> dict[str, Any]:
    request = read_message("tf.PredictRequest", raw)
    inputs = read_tensorflow_tensors(request.inputs)
    return {"model": request.model_spec.name, "inputs": _shortened(inputs)}


def _classes(result: Any) -> list[Any]:
    return [
        [[each.label, each.score] for each in classes.classes] for classes in result.classifications
    ]


def _values(result: Any) -> list[float]:
    return [each.value for each in result.regressions]


def _classify_answer(raw: bytes) -> dict[str, Any]:
    return {"result": _classes(read_message("tf.ClassificationResponse", raw).result)}


def _regress_answer(raw: bytes) -> dict[str, Any]:
    return {"result": _values(read_message("tf.RegressionResponse", raw).result)}


def _multi_answer(raw: bytes) -> dict[str, Any]:
    results = read_message("tf.MultiInferenceResponse", raw).results
    return {
        "results": [
            _classes(each.classification_result)
            if each.HasField("classification_result")
            else _values(each.regression_result)
            for each in results
        ]
    }


def _examples_request(raw: bytes) -> dict[str, Any]:
    request = read_message("tf.ExamplesRequest", raw)
    return {"model": request.model_spec.name, "bytes of examples": len(request.input)}


def _multi_request(raw: bytes) -> dict[str, Any]:
    return {"bytes of tasks and examples": len(raw)}


# --- TorchServe ---


def _prediction(raw: bytes) -> Any:
    said = read_message("torch.PredictionResponse", raw).prediction
    try:
        return json.loads(said)
    except ValueError:
        return said.decode("utf-8", "backslashreplace")


def _prediction_request(raw: bytes) -> dict[str, Any]:
    request = read_message("torch.PredictionsRequest", raw)
    shown = {
        name: request.input[name][:_SHOWN].decode("utf-8", "backslashreplace")
        for name in sorted(request.input)
    }
    return {"model": request.model_name, "input": shown}


# --- all of them ---


def _shortened(tensors: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {**tensor, "data": tensor["data"][:_SHOWN_ELEMENTS]}
        for name, tensor in tensors.items()
    }


# call → how its request is shown, and how its answer is read.
_CALLS: dict[str, tuple[Callable[[bytes], Any], Callable[[bytes], Any]]] = {
    _V2 + "ModelInfer": (_v2_request, _v2_answer),
    _V2 + "ModelStreamInfer": (_v2_request, _v2_streamed),
    _TENSORFLOW + "Predict": (_predict_request, _predict_answer),
    _TENSORFLOW + "Classify": (_examples_request, _classify_answer),
    _TENSORFLOW + "Regress": (_examples_request, _regress_answer),
    _TENSORFLOW + "MultiInference": (_multi_request, _multi_answer),
    _TORCHSERVE + "Predictions": (_prediction_request, _prediction),
    _TORCHSERVE + "StreamPredictions": (_prediction_request, _prediction),
    _TORCHSERVE + "StreamPredictions2": (_prediction_request, _prediction),
}
