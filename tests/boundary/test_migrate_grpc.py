"""A migration in front of a server's gRPC: what goes through, what is compared, and that a flip loses nothing."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tests import serving
from tests.boundary.tensorflow_stubs import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    make_ndarray,
    make_tensor_proto,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tests.migration import Migration, Servers, migrating, two_servers
from tests.secure import make_key
from tests.serving import House, write_model

ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]], np.float32)
PREDICTIONS = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Predictions"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with two_servers(tmp_path_factory.mktemp("models")) as found:
        yield found


def _grpc(url: str) -> str:
    return url.replace("http://", "grpc://")


def _authority(migration: Migration) -> str:
    return f"127.0.0.1:{migration.port}"


def _infer(client: Any, model: str, rows: Any = ROWS, **more: Any) -> Any:
    x = triton.InferInput("x", list(rows.shape), "FP32")
    x.set_data_from_numpy(rows)
    return client.infer(model, [x], client_timeout=20, **more)


def _predict_request(model: str, *, content: bool = True) -> Any:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.inputs["x"].CopyFrom(make_tensor_proto(ROWS, content=content))
    return request


def test_equal_answers_then_a_flip_and_back(servers: Servers) -> None:
    house, old, new = servers
    with migrating(house, _grpc(old.url), new.url) as migration:
        assert migration.facts["server"] == "dukou"
        assert migration.facts["url"] == f"grpc://127.0.0.1:{migration.port}"
        with triton.InferenceServerClient(_authority(migration)) as client:
            direct = triton.InferenceServerClient(old.url.partition("//")[2])
            for _ in range(5):
                through = _infer(client, "m", request_id="7")
                there = _infer(direct, "m", request_id="7")
                assert through.get_response() == there.get_response()
            direct.close()
            assert client.is_model_ready("m")
            with pytest.raises(triton.InferenceServerException) as caught:
                _infer(client, "nobody")
            assert caught.value.status() == "StatusCode.NOT_FOUND"
            assert "nobody" in str(caught.value.message())
            report = migration.report()
            assert report["forwarded"] == {"old": 7, "new": 0}
            assert (report["compared"], report["equal"], report["different"]) == (6, 6, 0)
            assert report["times"]["old"]["count"] == report["times"]["new"]["count"] == 6
            flipped = migration.say("--flip")
            assert flipped.returncode == 0, flipped.stderr
            _infer(client, "m")
            assert migration.say("--back").returncode == 0
            _infer(client, "m")
        last = migration.end()
    assert last["forwarded"] == {"old": 8, "new": 1}
    assert (last["failed"], last["different"], last["unanswered"]) == (0, 0, 0)


def test_differences_are_told_and_hold_the_flip_up(servers: Servers) -> None:
    house, old, new = servers
    with migrating(house, _grpc(old.url), new.url) as migration:
        with triton.InferenceServerClient(_authority(migration)) as client:
            _infer(client, "other")
        report = migration.report()
        assert report["different"] == 1
        (example,) = report["differences"]
        assert example["request"] == "/inference.GRPCInferenceService/ModelInfer"
        assert example["difference"].startswith("`outputs.probabilities.data[")
        shown = json.loads(example["body"])
        assert shown["model"] == "other"
        assert shown["inputs"]["x"] == {
            "datatype": "FP32",
            "shape": [2, 4],
            "data": ROWS.ravel().tolist(),
        }
        refused = migration.say("--flip")
        assert refused.returncode == 3
        assert "of 1 compared answers 1 differ" in refused.stderr


def test_tensorflow_serving_s_calls(servers: Servers) -> None:
    house, old, new = servers
    with migrating(house, _grpc(old.url), new.url) as migration:
        with grpc.insecure_channel(_authority(migration)) as channel:
            predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            for content in (True, False):
                answer = predictions.Predict(_predict_request("m", content=content), timeout=20)
                assert make_ndarray(answer.outputs["probabilities"]).shape == (2, 3)
            metadata = get_model_metadata_pb2.GetModelMetadataRequest()
            metadata.model_spec.name = "m"
            metadata.metadata_field.append("signature_def")
            assert "signature_def" in predictions.GetModelMetadata(metadata, timeout=20).metadata
            for call, request in (
                (predictions.Classify, classification_pb2.ClassificationRequest()),
                (predictions.MultiInference, inference_pb2.MultiInferenceRequest()),
            ):
                with pytest.raises(grpc.RpcError):
                    call(request, timeout=20)
            predictions.Predict(_predict_request("other"), timeout=20)
        report = migration.report()
    assert (report["compared"], report["equal"], report["different"]) == (5, 4, 1)
    (example,) = report["differences"]
    assert example["request"] == "/tensorflow.serving.PredictionService/Predict"
    assert json.loads(example["body"])["inputs"]["x"]["shape"] == [2, 4]


def test_a_stream_goes_through_as_it_comes_and_is_compared(servers: Servers) -> None:
    house, old, new = servers
    with (
        migrating(house, _grpc(old.url), new.url) as migration,
        triton.InferenceServerClient(_authority(migration)) as client,
    ):
        for model in ("m", "other"):
            answers: queue.Queue[Any] = queue.Queue()
            client.start_stream(lambda result, error, to=answers: to.put((result, error)))
            for index in range(3):
                x = triton.InferInput("x", [1, 4], "FP32")
                x.set_data_from_numpy(ROWS[:1] + index)
                client.async_stream_infer(model, [x], request_id=str(index))
                # Before the next one is sent: nothing waits for the stream's end.
                result, error = answers.get(timeout=20)
                assert error is None
                assert result.get_response().id == str(index)
            client.stop_stream()
        until = time.monotonic() + 20
        while (report := migration.report())["compared"] < 2 and time.monotonic() < until:
            time.sleep(0.05)
    assert (report["equal"], report["different"]) == (1, 1), report
    (example,) = report["differences"]
    assert example["request"] == "/inference.GRPCInferenceService/ModelStreamInfer"
    assert example["difference"].startswith("`[0].outputs.probabilities.data[")
    assert example["body"].endswith("and 2 more messages")


def test_a_large_tensor_passes_unchanged(servers: Servers) -> None:
    house, old, new = servers
    # 6.4 MB: more than gRPC's own limit of a message.
    rows = np.random.default_rng(5).standard_normal((400_000, 4)).astype(np.float32)
    with (
        migrating(house, _grpc(old.url), new.url) as migration,
        triton.InferenceServerClient(_authority(migration)) as client,
    ):
        answer = _infer(client, "m", rows)
        with triton.InferenceServerClient(old.url.partition("//")[2]) as direct:
            assert answer.get_response() == _infer(direct, "m", rows).get_response()
        report = migration.report()
    assert (report["compared"], report["equal"]) == (1, 1), report["differences"]


class _Calls:
    """Clients that call without a pause, each on a channel of its own."""

    def __init__(self, authority: str, clients: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._ended = threading.Event()
        self._authority = authority
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]

    def _run(self) -> None:
        with triton.InferenceServerClient(self._authority) as client:
            while not self._ended.is_set():
                try:
                    _infer(client, "m")
                    self.outcomes["ok"] += 1
                except triton.InferenceServerException as error:
                    self.outcomes[str(error)] += 1

    def more(self, count: int) -> None:
        """Waits for so many more."""
        until, there = time.monotonic() + 30, self.outcomes["ok"] + count
        while self.outcomes["ok"] < there and time.monotonic() < until:
            time.sleep(0.01)
        assert self.outcomes["ok"] >= there, self.outcomes

    def __enter__(self) -> _Calls:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)


def test_a_flip_under_load_loses_nothing(servers: Servers) -> None:
    house, old, new = servers
    with migrating(house, _grpc(old.url), new.url, "--share", "0.2") as migration:
        with _Calls(_authority(migration), 4) as calls:
            calls.more(100)
            for word in ("--flip", "--back", "--flip"):
                assert migration.say(word, "--force").returncode == 0
                calls.more(100)
        last = migration.end()
    assert set(calls.outcomes) == {"ok"}
    assert sum(last["forwarded"].values()) == calls.outcomes["ok"]
    assert min(last["forwarded"].values()) >= 100
    assert last["failed"] == 0
    assert last["not_copied"]["by the share"] > 0


def test_the_new_side_gone_the_old_takes_over(servers: Servers, tmp_path: Path) -> None:
    house, old, _ = servers
    model = write_model(tmp_path / "m.onnx")
    with house.serving(model) as new, migrating(house, _grpc(old.url), new.url) as migration:
        with triton.InferenceServerClient(_authority(migration)) as client:
            _infer(client, "m")
            assert migration.say("--flip").returncode == 0
            _infer(client, "m")
            new.end()
            _infer(client, "m")
        report = migration.report()
        assert (report["forwarded"], report["taken_over"]) == ({"old": 2, "new": 1}, 1)
        again = migration.say("--flip", "--force")
        assert again.returncode == 3
        assert "[server.not-running]" in again.stderr


def test_ours_over_tls_with_a_key(servers: Servers, tmp_path: Path) -> None:
    _, old, _ = servers
    model = write_model(tmp_path / "m.onnx")
    with serving.house() as house:
        key = make_key(house, "migration", "--role", "predict")
        with (
            house.serving("--secure", model) as new,
            migrating(house, _grpc(old.url), new.url, "--key", key) as migration,
            triton.InferenceServerClient(_authority(migration)) as client,
        ):
            _infer(client, "m")
            report = migration.report()
            assert (report["compared"], report["equal"]) == (1, 1), report["differences"]
            assert migration.say("--flip").returncode == 0
            _infer(client, "m")


# --- servers that behave as servers may ---


@contextlib.contextmanager
def scripted(
    answers: dict[str, Callable[[Iterator[bytes], Any], Iterator[bytes]]],
) -> Iterator[str]:
    """A server of gRPC that answers these calls, message by message as bytes."""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            found = answers.get(details.method)
            return None if found is None else grpc.stream_stream_rpc_method_handler(found)

    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers((Handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(None).wait(20)


def _healthy(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
    list(requests)
    # TorchServeHealthResponse: its health is a text of JSON.
    said = b'{"status": "Healthy"}'
    yield b"\x0a" + bytes([len(said)]) + said


PING = "/org.pytorch.serve.grpc.inference.InferenceAPIsService/Ping"


def test_metadata_deadlines_and_errors_pass_both_ways(servers: Servers) -> None:
    house, _, new = servers
    heard: dict[str, Any] = {}

    def answer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        heard["metadata"] = dict(context.invocation_metadata())
        heard["left"] = context.time_remaining()
        heard["messages"] = list(requests)
        context.send_initial_metadata((("x-begin", "here"),))
        details = ("grpc-status-details-bin", b"\x08\x08")
        context.set_trailing_metadata((("x-end", "there"), ("facts-bin", b"\x00\xff"), details))
        yield b"first"
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more of it")

    calls = {PING: _healthy, "/a.B/C": answer}
    with scripted(calls) as old, migrating(house, old, new.url) as migration:
        assert migration.facts["server"] == "TorchServe"
        with grpc.insecure_channel(_authority(migration)) as channel:
            call = channel.stream_stream("/a.B/C")(
                iter([b"one", b"", b"three"]),
                timeout=15,
                metadata=(("x-own", "kept"), ("trace-bin", b"\x01\x02")),
            )
            assert dict(call.initial_metadata())["x-begin"] == "here"
            assert next(call) == b"first"
            with pytest.raises(grpc.RpcError):
                next(call)
            assert call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert call.details() == "no more of it"
            trailing = dict(call.trailing_metadata())
            assert (trailing["x-end"], trailing["facts-bin"]) == ("there", b"\x00\xff")
            assert trailing["grpc-status-details-bin"] == b"\x08\x08"
        report = migration.report()
    assert heard["messages"] == [b"one", b"", b"three"]
    assert (heard["metadata"]["x-own"], heard["metadata"]["trace-bin"]) == ("kept", b"\x01\x02")
    assert 0 < heard["left"] <= 15
    assert report["forwarded"] == {"old": 1, "new": 0}
    assert report["compared"] == 0


def test_a_client_that_leaves_ends_the_call_at_the_old_server(servers: Servers) -> None:
    house, _, new = servers
    ended = threading.Event()

    def answer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        context.add_callback(ended.set)
        yield b"first"
        ended.wait(20)

    calls = {PING: _healthy, "/a.B/C": answer}
    with scripted(calls) as old, migrating(house, old, new.url) as migration:
        with grpc.insecure_channel(_authority(migration)) as channel:
            call = channel.stream_stream("/a.B/C")(iter([b"one"]), timeout=20)
            assert next(call) == b"first"
            call.cancel()
        assert ended.wait(20)
        assert migration.report()["failed"] == 0


def test_torchserve_s_calls_are_compared_as_json(servers: Servers) -> None:
    house, _, new = servers

    def answer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        list(requests)
        said = b"[1, 2]"
        yield b"\x0a" + bytes([len(said)]) + said

    calls = {PING: _healthy, PREDICTIONS: answer}
    with scripted(calls) as old, migrating(house, old, new.url) as migration:
        with grpc.insecure_channel(_authority(migration)) as channel:
            predict = channel.unary_unary(PREDICTIONS)
            # model_name = "m", input = {"data": "[[1, 2, 3, 4]]"}
            entry = b"\x0a\x04data\x12\x0e[[1, 2, 3, 4]]"
            request = b"\x0a\x01m\x1a" + bytes([len(entry)]) + entry
            assert predict(request, timeout=20).endswith(b"[1, 2]")
        report = migration.report()
    assert report["different"] == 1
    (example,) = report["differences"]
    assert json.loads(example["body"]) == {"model": "m", "input": {"data": "[[1, 2, 3, 4]]"}}


def test_an_old_server_that_is_gone_is_unavailable(servers: Servers, tmp_path: Path) -> None:
    house, _, new = servers
    with (
        house.serving(write_model(tmp_path / "m.onnx")) as old,
        migrating(house, _grpc(old.url), new.url) as migration,
        triton.InferenceServerClient(_authority(migration)) as client,
    ):
        old.end()
        with pytest.raises(triton.InferenceServerException) as caught:
            _infer(client, "m")
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
        report = migration.report()
    assert (report["failed"], report["forwarded"]) == (1, {"old": 0, "new": 0})


def test_an_answer_that_cannot_be_compared_keeps_no_other_from_it(servers: Servers) -> None:
    house, _, new = servers

    def answer(requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        list(requests)
        # Deeper than Python reads.
        said = b"[" * 100_000
        yield b"\x0a" + b"\xa0\x8d\x06" + said

    calls = {PING: _healthy, PREDICTIONS: answer}
    with scripted(calls) as old, migrating(house, old, new.url) as migration:
        with grpc.insecure_channel(_authority(migration)) as channel:
            predict = channel.unary_unary(PREDICTIONS)
            entry = b"\x0a\x04data\x12\x0e[[1, 2, 3, 4]]"
            request = b"\x0a\x01m\x1a" + bytes([len(entry)]) + entry
            for _ in range(12):
                predict(request, timeout=20)
        report = migration.report()
    assert report["compared"] + report["unanswered"] == 12, report


@pytest.mark.parametrize(
    ("words", "code", "status"),
    [
        (("--from", "grpc://127.0.0.1:1", "--to", "http://127.0.0.1:2"), "server.not-running", 3),
        (("--from", "grpc://old"), "usage.invalid", 2),
        (("--from", "grpc://h:1", "--to", "http://h:1"), "usage.invalid", 2),
        (("--from", "http://h:1", "--to", "grpc://h:2"), "usage.invalid", 2),
    ],
)
def test_what_is_refused(house: House, words: tuple[str, ...], code: str, status: int) -> None:
    done = house.dukou("migrate", *words)
    assert done.returncode == status, done.stderr
    assert f"[{code}]" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_server_of_no_kind_and_a_port_of_http_are_refused(house: House) -> None:
    with scripted({}) as old:
        done = house.dukou("migrate", "--from", old, "--to", "http://127.0.0.1:2")
    assert done.returncode == 6
    assert "[migrate.unknown-server]" in done.stderr
    assert "UNIMPLEMENTED to `/inference.GRPCInferenceService/ServerMetadata`" in done.stderr


def test_a_taken_port_is_named(servers: Servers) -> None:
    house, old, new = servers
    words = ("migrate", "--from", _grpc(old.url), "--to", new.url, "--port", str(new.address[1]))
    done = house.dukou(*words)
    assert done.returncode == 3
    assert "[server.port-in-use]" in done.stderr
