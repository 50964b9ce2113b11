"""`tritonclient.http`, as NVIDIA publishes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.http as triton
from case import case, close
from tritonclient.utils import InferenceServerException

PACKAGE = "tritonclient"
ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]]


@contextlib.contextmanager
def _client(facts: dict[str, Any]) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(facts["address"])
    try:
        yield client
    finally:
        client.close()


def _input(name: str, array: np.ndarray, datatype: str, *, binary: bool = True) -> Any:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def _rows(*, binary: bool = True) -> list[Any]:
    return [_input("x", np.array(ROWS, np.float32), "FP32", binary=binary)]


def _refused(call: Any, status: str, words: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == status, error
        assert words in error.message(), error
    else:
        raise AssertionError("it was not refused")


@case("server live, ready")
def live(facts: dict[str, Any]) -> None:
    """Health of the server."""
    with _client(facts) as client:
        assert client.is_server_live()
        assert client.is_server_ready()


@case("model ready")
def ready(facts: dict[str, Any]) -> None:
    """Health of a model, with and without a version."""
    with _client(facts) as client:
        assert client.is_model_ready("m")
        assert client.is_model_ready("m", "1")
        assert not client.is_model_ready("nobody")


@case("server metadata")
def server(facts: dict[str, Any]) -> None:
    """Name and extensions."""
    with _client(facts) as client:
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]


@case("model metadata")
def model(facts: dict[str, Any]) -> None:
    """Inputs and outputs."""
    with _client(facts) as client:
        said = client.get_model_metadata("m")
        assert said["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
        assert [output["name"] for output in said["outputs"]] == ["label", "probabilities"]


@case("infer, JSON both ways")
def infer_json(facts: dict[str, Any]) -> None:
    """Everything as JSON."""
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    with _client(facts) as client:
        answer = client.infer("m", _rows(binary=False), outputs=outputs, request_id="seven")
    close(answer.as_numpy("probabilities"), facts["probabilities"])
    assert answer.as_numpy("label") is None
    assert answer.get_response()["id"] == "seven"


@case("infer, binary both ways")
def infer_binary(facts: dict[str, Any]) -> None:
    """The client's own default."""
    with _client(facts) as client:
        answer = client.infer("m", _rows())
    close(answer.as_numpy("probabilities"), facts["probabilities"])
    assert answer.as_numpy("label").tolist() == facts["labels"]


@case("infer, mixed: JSON and binary in one request")
def infer_mixed(facts: dict[str, Any]) -> None:
    """One input and one output of each kind."""
    inputs = [
        _input("a", np.array([[1, 2]], np.float32), "FP32"),
        _input("b", np.array([[3, 4]], np.float32), "FP32", binary=False),
    ]
    outputs = [
        triton.InferRequestedOutput("sum", binary_data=False),
        triton.InferRequestedOutput("difference", binary_data=True),
    ]
    with _client(facts) as client:
        answer = client.infer("two", inputs, outputs=outputs)
    close(answer.as_numpy("sum"), [[4, 6]])
    close(answer.as_numpy("difference"), [[-2, -2]])


@case("infer, a version by its number")
def infer_version(facts: dict[str, Any]) -> None:
    """Two versions of one model answer differently."""
    with _client(facts) as client:
        first = client.infer("m", _rows(), model_version="1").as_numpy("probabilities")
        latest = client.infer("m", _rows()).as_numpy("probabilities")
        _refused(lambda: client.infer("m", _rows(), model_version="9"), "404", "9")
    assert not np.allclose(first, latest)
    close(latest, facts["probabilities"])


@case("infer, BYTES")
def infer_bytes(facts: dict[str, Any]) -> None:
    """Text and bytes that are no text, binary; text as JSON."""
    raw = np.array([["渡口".encode(), b"\xff\x00"]], object)
    with _client(facts) as client:
        answer = client.infer("text", [_input("t", raw, "BYTES")])
        assert answer.as_numpy("same").tolist() == raw.tolist()
        plain = [_input("t", np.array([["a", "b"]], object), "BYTES", binary=False)]
        wanted = [triton.InferRequestedOutput("same", binary_data=False)]
        answer = client.infer("text", plain, outputs=wanted)
        assert answer.as_numpy("same").tolist() == [["a", "b"]]


@case("infer, FP16 and BF16")
def infer_half(facts: dict[str, Any]) -> None:
    """Halves travel as binary; as JSON they are refused, as by Triton."""
    halves = np.array([[1.5, -2.0]], np.float16)
    with _client(facts) as client:
        answer = client.infer("half", [_input("h", halves, "FP16")])
        assert answer.as_numpy("same").tolist() == halves.tolist()
        brains = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
        answer = client.infer("brain", [_input("h", brains, "BF16")])
        assert (
            answer.as_numpy("same").astype(np.float32).tolist()
            == brains.astype(np.float32).tolist()
        )


@case("infer, parameters, priority and timeout")
def infer_parameters(facts: dict[str, Any]) -> None:
    """What a request may say besides."""
    with _client(facts) as client:
        answer = client.infer(
            "m", _rows(), priority=1, timeout=20_000_000, parameters={"who": "me", "count": 3}
        )
    close(answer.as_numpy("probabilities"), facts["probabilities"])


@case("infer, asynchronous")
def infer_async(facts: dict[str, Any]) -> None:
    """Several at once."""
    client = triton.InferenceServerClient(facts["address"], concurrency=4)
    try:
        asked = [client.async_infer("m", _rows()) for _ in range(8)]
        for each in asked:
            close(each.get_result().as_numpy("probabilities"), facts["probabilities"])
    finally:
        client.close()


@case("errors: unknown model, wrong dtype, wrong shape, missing input")
def errors(facts: dict[str, Any]) -> None:
    """A status and a sentence."""
    with _client(facts) as client:
        _refused(lambda: client.infer("nobody", _rows()), "404", "nobody")
        wrong = [_input("x", np.array(ROWS, np.float64), "FP64")]
        _refused(lambda: client.infer("m", wrong), "400", "FP64")
        wide = [_input("x", np.zeros((1, 5), np.float32), "FP32")]
        _refused(lambda: client.infer("m", wide), "400", "5")
        one = [_input("a", np.zeros((1, 2), np.float32), "FP32")]
        _refused(lambda: client.infer("two", one), "400", "b")


@case("system shared memory is refused, as Triton does by default")
def shared_memory(facts: dict[str, Any]) -> None:
    """501, with what to do instead."""
    with _client(facts) as client:
        _refused(
            lambda: client.register_system_shared_memory("r", "/r", 64), "501", "shared memory"
        )


@case("infer, compressed by gzip and deflate, both ways")
def compressed(facts: dict[str, Any]) -> None:
    """Both that the client offers."""
    with _client(facts) as client:
        for coding in ("gzip", "deflate"):
            answer = client.infer(
                "m",
                _rows(),
                request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )
            close(answer.as_numpy("probabilities"), facts["probabilities"])


@case("model config")
def config(facts: dict[str, Any]) -> None:
    """What perf_analyzer asks first."""
    with _client(facts) as client:
        said = client.get_model_config("m")
    assert said["name"] == "m"
    assert said["input"][0]["data_type"] == "TYPE_FP32"


@case("statistics")
def statistics(facts: dict[str, Any]) -> None:
    """The counters of a model's versions."""
    with _client(facts) as client:
        client.infer("m", _rows())
        said = client.get_inference_statistics("m")["model_stats"]
    latest = next(each for each in said if each["version"] == "2")
    assert latest["inference_stats"]["success"]["count"] >= 1
    assert latest["last_inference"] > 1_700_000_000_000
    batches = {each["batch_size"]: each["compute_infer"]["count"] for each in latest["batch_stats"]}
    assert batches[2] >= 1
    assert sum(batches.values()) == latest["execution_count"]


@case("classification")
def classification(facts: dict[str, Any]) -> None:
    """The best classes of an output, by value and index."""
    wanted = [triton.InferRequestedOutput("probabilities", class_count=1)]
    with _client(facts) as client:
        answer = client.infer("m", _rows(), outputs=wanted)
    best = [line.decode().split(":")[1] for line in answer.as_numpy("probabilities").reshape(-1)]
    assert best == [str(label) for label in facts["labels"]]


@case("repository index")
def index(facts: dict[str, Any]) -> None:
    """What is loaded."""
    with _client(facts) as client:
        said = client.get_model_repository_index()
    assert {"m", "two"} <= {each["name"] for each in said}


@case("unload_model, load_model, repository index: explicit model control")
def control(facts: dict[str, Any]) -> None:
    """A model goes, is listed as gone, and comes back."""
    pair = [_input(name, np.array([[1, 2]], np.float32), "FP32") for name in ("a", "b")]
    with _client(facts) as client:
        client.unload_model("spare")
        assert not client.is_model_ready("spare")
        assert client.is_server_ready()
        _refused(lambda: client.infer("spare", pair), "404", "spare")
        (spare,) = (e for e in client.get_model_repository_index() if e["name"] == "spare")
        assert (spare["state"], spare["reason"]) == ("UNAVAILABLE", "unloaded")
        client.load_model("spare")
        assert client.is_model_ready("spare")
        close(client.infer("spare", pair).as_numpy("sum"), [[2, 4]])
        client.unload_model("spare", unload_dependents=True)
        client.load_model("spare")
        client.load_model("spare")
        _refused(lambda: client.load_model("nobody"), "404", "failed to load 'nobody'")


@case("load_model with a configuration or a file is refused in words")
def sent_along(facts: dict[str, Any]) -> None:
    """A model is served as its server has it."""
    with _client(facts) as client:
        _refused(lambda: client.load_model("spare", config="{}"), "501", "model store")
        files = {"file:1/model.onnx": b"onnx"}
        _refused(lambda: client.load_model("spare", config="{}", files=files), "501", "spare")
        assert client.is_model_ready("spare")


@case("shared memory: the lists of regions are empty")
def regions(facts: dict[str, Any]) -> None:
    """As by a Triton whose clients may not share memory."""
    with _client(facts) as client:
        assert client.get_system_shared_memory_status() == []
        assert client.get_cuda_shared_memory_status() == []


@case("trace settings, log settings: refused as not supported")
def unsupported(facts: dict[str, Any]) -> None:
    """501, with a sentence."""
    with _client(facts) as client:
        _refused(lambda: client.get_trace_settings("m"), "501", "")
        _refused(client.get_log_settings, "501", "")
