"""`tritonclient.grpc`, as NVIDIA publishes it."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
from case import case, close
from tritonclient.utils import InferenceServerException

PACKAGE = "tritonclient"
ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]], np.float32)


@contextlib.contextmanager
def _client(facts: dict[str, Any]) -> Iterator[triton.InferenceServerClient]:
    client = triton.InferenceServerClient(facts["address"])
    try:
        yield client
    finally:
        client.close()


def _input(name: str, array: np.ndarray, datatype: str) -> Any:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def _rows() -> list[Any]:
    return [_input("x", ROWS, "FP32")]


def _refused(call: Any, status: str) -> None:
    try:
        call()
    except InferenceServerException as error:
        assert error.status() == f"StatusCode.{status}", error
    else:
        raise AssertionError("it was not refused")


@case("server live, ready; model ready")
def health(facts: dict[str, Any]) -> None:
    """Health."""
    with _client(facts) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("m")
        assert client.is_model_ready("m", "1")


@case("server metadata, model metadata")
def metadata(facts: dict[str, Any]) -> None:
    """What there is, as JSON and as messages."""
    with _client(facts) as client:
        assert client.get_server_metadata().name
        said = client.get_model_metadata("m", as_json=True)
        assert [output["name"] for output in said["outputs"]] == ["label", "probabilities"]
        assert list(client.get_model_metadata("m").inputs[0].shape) == [-1, 4]


@case("infer")
def infer(facts: dict[str, Any]) -> None:
    """Numbers, an id, a chosen output."""
    with _client(facts) as client:
        answer = client.infer("m", _rows(), request_id="seven")
        close(answer.as_numpy("probabilities"), facts["probabilities"])
        assert answer.as_numpy("label").tolist() == facts["labels"]
        assert answer.get_response().id == "seven"
        wanted = [triton.InferRequestedOutput("label")]
        answer = client.infer("m", _rows(), outputs=wanted)
        assert answer.as_numpy("probabilities") is None


@case("infer, a version by its number")
def version(facts: dict[str, Any]) -> None:
    """Two versions of one model answer differently."""
    with _client(facts) as client:
        first = client.infer("m", _rows(), model_version="1")
        assert first.get_response().model_version == "1"
        assert not np.allclose(first.as_numpy("probabilities"), facts["probabilities"])


@case("infer, BYTES, FP16, BF16")
def dtypes(facts: dict[str, Any]) -> None:
    """What JSON cannot carry."""
    raw = np.array([["渡口".encode(), b"\xff\x00"]], object)
    halves = np.array([[1.5, -2.0]], np.float16)
    brains = halves.astype(ml_dtypes.bfloat16)
    with _client(facts) as client:
        answer = client.infer("text", [_input("t", raw, "BYTES")])
        assert answer.as_numpy("same").tolist() == raw.tolist()
        answer = client.infer("half", [_input("h", halves, "FP16")])
        assert answer.as_numpy("same").tolist() == halves.tolist()
        answer = client.infer("brain", [_input("h", brains, "BF16")])
        assert answer.as_numpy("same").astype(np.float32).tolist() == [[1.5, -2.0]]


@case("infer, asynchronous")
def infer_async(facts: dict[str, Any]) -> None:
    """By a callback."""
    heard: queue.Queue[Any] = queue.Queue()
    with _client(facts) as client:
        client.async_infer("m", _rows(), lambda result, error: heard.put((result, error)))
        result, error = heard.get(timeout=20)
    assert error is None
    close(result.as_numpy("probabilities"), facts["probabilities"])


@case("stream infer")
def stream(facts: dict[str, Any]) -> None:
    """Several requests on one stream, one of them wrong: the stream goes on."""
    heard: queue.Queue[Any] = queue.Queue()
    with _client(facts) as client:
        client.start_stream(lambda result, error: heard.put((result, error)))
        for name in ("m", "nobody", "m"):
            client.async_stream_infer(name, _rows())
        answers = [heard.get(timeout=20) for _ in range(3)]
        client.stop_stream()
    assert [error is None for _, error in answers] == [True, False, True]
    close(answers[2][0].as_numpy("probabilities"), facts["probabilities"])


@case("infer, compressed by gzip and deflate")
def compressed(facts: dict[str, Any]) -> None:
    """Both that the client offers."""
    with _client(facts) as client:
        for coding in ("gzip", "deflate"):
            answer = client.infer("m", _rows(), compression_algorithm=coding)
            close(answer.as_numpy("probabilities"), facts["probabilities"])


@case("infer, priority, timeout and deadline")
def parameters(facts: dict[str, Any]) -> None:
    """What a request may say besides."""
    with _client(facts) as client:
        answer = client.infer(
            "m",
            _rows(),
            priority=1,
            timeout=20_000_000,
            client_timeout=20,
            parameters={"who": "me"},
        )
    close(answer.as_numpy("probabilities"), facts["probabilities"])


@case("errors: unknown model, wrong dtype, wrong shape")
def errors(facts: dict[str, Any]) -> None:
    """A status each."""
    with _client(facts) as client:
        _refused(lambda: client.infer("nobody", _rows()), "NOT_FOUND")
        wrong = [_input("x", ROWS.astype(np.float64), "FP64")]
        _refused(lambda: client.infer("m", wrong), "INVALID_ARGUMENT")
        wide = [_input("x", np.zeros((1, 5), np.float32), "FP32")]
        _refused(lambda: client.infer("m", wide), "INVALID_ARGUMENT")


@case("model config, statistics")
def described(facts: dict[str, Any]) -> None:
    """What perf_analyzer asks."""
    with _client(facts) as client:
        assert client.get_model_config("m").config.name == "m"
        client.infer("m", _rows())
        said = client.get_inference_statistics("m").model_stats
        latest = next(each for each in said if each.version == "2")
        assert latest.inference_stats.success.count >= 1
        assert latest.last_inference > 1_700_000_000_000
        batches = {each.batch_size: each.compute_infer.count for each in latest.batch_stats}
        assert sum(batches.values()) == latest.execution_count


@case("unload_model, load_model, repository index: explicit model control")
def control(facts: dict[str, Any]) -> None:
    """A model goes, is listed as gone, and comes back."""
    pair = [_input(name, ROWS[:1, :2], "FP32") for name in ("a", "b")]
    with _client(facts) as client:
        client.unload_model("spare")
        assert not client.is_model_ready("spare")
        _refused(lambda: client.infer("spare", pair), "NOT_FOUND")
        said = client.get_model_repository_index(as_json=True)["models"]
        (spare,) = (each for each in said if each["name"] == "spare")
        assert (spare["state"], spare["reason"]) == ("UNAVAILABLE", "unloaded")
        client.load_model("spare")
        close(client.infer("spare", pair).as_numpy("sum"), [[2, 4]])
        _refused(lambda: client.load_model("nobody"), "NOT_FOUND")
        _refused(lambda: client.load_model("spare", config="{}"), "UNIMPLEMENTED")


@case("shared memory: the lists of regions are empty, and none is registered")
def regions(facts: dict[str, Any]) -> None:
    """As by a Triton whose clients may not share memory."""
    with _client(facts) as client:
        assert not client.get_system_shared_memory_status().regions
        assert not client.get_cuda_shared_memory_status().regions
        _refused(lambda: client.register_system_shared_memory("r", "/r", 64), "UNIMPLEMENTED")


@case("trace settings, log settings: refused as not supported")
def unsupported(facts: dict[str, Any]) -> None:
    """UNIMPLEMENTED, with a sentence."""
    with _client(facts) as client:
        _refused(lambda: client.get_trace_settings("m"), "UNIMPLEMENTED")
        _refused(client.get_log_settings, "UNIMPLEMENTED")
