"""The Open Inference Protocol over gRPC, on a real server: Triton's own client, and what it would never send."""

from __future__ import annotations

import asyncio
import functools
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import ml_dtypes
import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tests import serving
from tests.serving import RunningServer, write_model
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

MODELS = Path(__file__).resolve().parents[2] / "conformance" / "models"
ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]], np.float32)
NUMBERS = {
    "FP32": np.array([1.5, -0.0, np.inf], np.float32),
    "FP64": np.array([1.5, np.nan, 1e300]),
    "FP16": np.array([1.5, -2.0, 65504.0], np.float16),
    "INT8": np.array([-128, 0, 127], np.int8),
    "INT16": np.array([-(2**15), 0, 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 0, 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 0, 2**63 - 1], np.int64),
    "UINT8": np.array([0, 1, 255], np.uint8),
    "UINT16": np.array([0, 1, 2**16 - 1], np.uint16),
    "UINT32": np.array([0, 1, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 1, 2**64 - 1], np.uint64),
    "BOOL": np.array([True, False, True]),
    "BYTES": np.array([b"", "渡口".encode(), b"\x00\xff"], object),
}
TYPED = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


class Place(NamedTuple):
    """A server, and where its linear model lies."""

    server: RunningServer
    model: Path

    @property
    def url(self) -> str:
        return "{}:{}".format(*self.server.address)

    def client(self) -> triton.InferenceServerClient:
        return triton.InferenceServerClient(self.url)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("models")
    model = write_model(folder / "m.onnx")
    identities = [MODELS / f"identity_{name.lower()}.onnx" for name in [*NUMBERS, "BF16"]]
    with serving.house() as house, house.serving(model, *identities) as server:
        yield Place(server, model)


@pytest.fixture
def client(place: Place) -> Iterator[triton.InferenceServerClient]:
    with place.client() as client:
        yield client


@pytest.fixture
def stub(place: Place) -> Iterator[Any]:
    with grpc.insecure_channel(place.url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def _input(name: str, array: np.ndarray[Any, Any], datatype: str) -> triton.InferInput:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def _expected(place: Place, rows: np.ndarray[Any, Any]) -> dict[str, Any]:
    session = onnxruntime.InferenceSession(place.model)
    return dict(
        zip(("label", "probabilities"), session.run(None, {"x": rows}), strict=True),
    )


def test_triton_s_client_asks_how_the_server_is(
    place: Place, client: triton.InferenceServerClient
) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("m")
    assert client.is_model_ready("m", "1")
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("m", "7")
    server = client.get_server_metadata()
    assert server.name == "dukou"
    assert "binary_tensor_data" in server.extensions
    model = client.get_model_metadata("m", as_json=True)
    assert model["name"] == "m"
    assert model["versions"] == ["1"]
    assert model["platform"] == "onnxruntime_onnx"
    assert model["inputs"] == [{"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}]
    assert [output["name"] for output in model["outputs"]] == ["label", "probabilities"]


def test_triton_s_client_infers(place: Place, client: triton.InferenceServerClient) -> None:
    expected = _expected(place, ROWS)
    result = client.infer("m", [_input("x", ROWS, "FP32")], request_id="a1")
    np.testing.assert_array_equal(result.as_numpy("label"), expected["label"])
    np.testing.assert_array_equal(result.as_numpy("probabilities"), expected["probabilities"])
    said = result.get_response()
    assert (said.id, said.model_name, said.model_version) == ("a1", "m", "1")
    wanted = [triton.InferRequestedOutput("probabilities")]
    only = client.infer(
        "m",
        [_input("x", ROWS, "FP32")],
        model_version="1",
        outputs=wanted,
        priority=1,
        timeout=10**6,
    )
    assert only.as_numpy("label") is None
    np.testing.assert_array_equal(only.as_numpy("probabilities"), expected["probabilities"])


@pytest.mark.parametrize("datatype", NUMBERS)
def test_every_dtype_comes_back_to_the_last_bit(
    client: triton.InferenceServerClient, stub: Any, datatype: str
) -> None:
    array, name = NUMBERS[datatype].reshape(1, 3), f"identity_{datatype.lower()}"
    result = client.infer(name, [_input("x", array, datatype)])
    came = result.as_numpy("y")
    assert came.dtype == array.dtype
    np.testing.assert_array_equal(came, array)
    if datatype in TYPED:
        request = service_pb2.ModelInferRequest(model_name=name)
        tensor = request.inputs.add(name="x", datatype=datatype, shape=array.shape)
        getattr(tensor.contents, TYPED[datatype]).extend(array.ravel().tolist())
        answer = stub.ModelInfer(request)
        assert answer.raw_output_contents == [result.get_response().raw_output_contents[0]]


def test_bf16_goes_as_raw_bytes(stub: Any) -> None:
    array = np.array([1.5, -2.0, 3e38], ml_dtypes.bfloat16)
    request = service_pb2.ModelInferRequest(model_name="identity_bf16")
    request.inputs.add(name="x", datatype="BF16", shape=[1, 3])
    request.raw_input_contents.append(array.tobytes())
    answer = stub.ModelInfer(request)
    assert answer.raw_output_contents == [array.tobytes()]


def test_a_large_tensor_travels_both_ways(client: triton.InferenceServerClient) -> None:
    array = np.arange(150_528, dtype=np.float32).reshape(-1, 3)
    came = client.infer("identity_fp32", [_input("x", array, "FP32")]).as_numpy("y")
    np.testing.assert_array_equal(came, array)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_messages_are_compressed_as_the_client_compresses(
    client: triton.InferenceServerClient, algorithm: str
) -> None:
    array = np.zeros((30_000, 3), np.float32)
    came = client.infer(
        "identity_fp32", [_input("x", array, "FP32")], compression_algorithm=algorithm
    )
    np.testing.assert_array_equal(came.as_numpy("y"), array)


def test_an_answer_says_who_answered(stub: Any) -> None:
    request = service_pb2.ModelInferRequest(model_name="m")
    request.inputs.add(name="x", datatype="FP32", shape=[2, 4])
    request.raw_input_contents.append(ROWS.tobytes())
    _, call = stub.ModelInfer.with_call(request)
    said = dict(call.initial_metadata())
    assert said["dukou-version"] == "1"
    assert len(said["dukou-request-id"]) == 16
    assert said["dukou-revision"]


@pytest.mark.parametrize(
    ("change", "status", "code", "words"),
    [
        ({"model_name": "nothing"}, "NOT_FOUND", "request.unknown-model", "no model `nothing`"),
        ({"model_version": "9"}, "NOT_FOUND", "request.unknown-version", "has no version `9`"),
        ({"name": "z"}, "INVALID_ARGUMENT", "request.unknown-input", "`x` FP32 [n, 4]"),
        ({"datatype": "INT32"}, "INVALID_ARGUMENT", "request.wrong-dtype", "INT32 came"),
        ({"shape": [2, 3]}, "INVALID_ARGUMENT", "request.wrong-shape", "[2, 3] came"),
        ({"raw": b"123"}, "INVALID_ARGUMENT", "wire.element-count", "has 3"),
        ({"output": "z"}, "INVALID_ARGUMENT", "request.unknown-output", "`label` INT64 [n]"),
        ({"sequence_id": 7}, "UNIMPLEMENTED", "wire.unsupported", "sequence"),
    ],
)
def test_what_is_refused_says_why(
    stub: Any, change: dict[str, Any], status: str, code: str, words: str
) -> None:
    request = service_pb2.ModelInferRequest(
        model_name=change.get("model_name", "m"), model_version=change.get("model_version", "")
    )
    request.inputs.add(
        name=change.get("name", "x"),
        datatype=change.get("datatype", "FP32"),
        shape=change.get("shape", [2, 4]),
    )
    request.raw_input_contents.append(change.get("raw", ROWS.tobytes()))
    if "output" in change:
        request.outputs.add(name=change["output"])
    if "sequence_id" in change:
        request.parameters["sequence_id"].int64_param = change["sequence_id"]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    error: Any = caught.value
    assert error.code().name == status
    assert words in error.details()
    said = dict(error.trailing_metadata())
    assert said["dukou-code"] == code
    assert said["dukou-remedy"]
    assert len(said["dukou-request-id"]) == 16


def test_triton_s_client_reads_a_refusal(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("nothing", [_input("x", ROWS, "FP32")])
    assert caught.value.status() == "StatusCode.NOT_FOUND"
    assert caught.value.message() == "no model `nothing` is served"


def test_a_deadline_is_kept(place: Place, stub: Any) -> None:
    request = service_pb2.ModelInferRequest(model_name="m")
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request, metadata=[("dukou-timeout-ms", "0")])
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    over = threading.Event()

    def silent() -> Iterator[bytes]:
        over.wait(60)
        yield b""

    with grpc.insecure_channel(place.url) as channel:
        infer = channel.stream_unary("/inference.GRPCInferenceService/ModelInfer", lambda m: m)
        # The server's clock, and then the client's own, which tells the server the same.
        for metadata, timeout in (([("dukou-timeout-ms", "50")], None), ([], 0.05)):
            with pytest.raises(grpc.RpcError) as caught:
                infer(silent(), metadata=metadata, timeout=timeout)
            assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        over.set()


def test_methods_that_are_not_here(place: Place) -> None:
    with grpc.insecure_channel(place.url) as channel:
        for path in ("/inference.GRPCInferenceService/Nothing", "/a.B/C", "/v2/health/live"):
            call = channel.unary_unary(path, lambda _: b"", lambda answer: answer)
            with pytest.raises(grpc.RpcError) as caught:
                call(None)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda m: m)
        for message in (b"\x0a\x05m", b"\xff\xff", b"\x12\x01\xff\x0a\x01m"):
            with pytest.raises(grpc.RpcError) as caught:
                infer(message)
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert dict(caught.value.trailing_metadata())["dukou-code"] == "wire.invalid-message"


@pytest.mark.parametrize("service", ["", "inference.GRPCInferenceService", "anything"])
def test_the_health_service(place: Place, service: str) -> None:
    # HealthCheckRequest and HealthCheckResponse have one field each.
    asked = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
    with grpc.insecure_channel(place.url) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", lambda m: m, lambda m: m)
        assert check(asked) == b"\x08\x01"


def test_a_message_that_is_too_large_is_refused_by_limit_and_setting(place: Place) -> None:
    options = [("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(place.url, options) as channel:
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer", lambda m: m)
        with pytest.raises(grpc.RpcError) as caught:
            infer(bytes(64 * 2**20 + 1))
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "`limits.body_bytes`" in str(caught.value.details())
    assert str(64 * 2**20) in str(caught.value.details())


def test_many_calls_share_one_connection(
    place: Place, client: triton.InferenceServerClient
) -> None:
    asked = [np.array([[n, n + 0.5, -n]], np.float32) for n in range(200)]
    came: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    for number, array in enumerate(asked):
        heard = functools.partial(lambda n, result, error: came.put((n, result, error)), number)
        client.async_infer("identity_fp32", [_input("x", array, "FP32")], callback=heard)
    for _ in asked:
        number, result, error = came.get(timeout=30)
        assert error is None
        np.testing.assert_array_equal(result.as_numpy("y"), asked[number])


def test_a_stream_keeps_its_order_and_goes_on_after_an_error(
    client: triton.InferenceServerClient,
) -> None:
    came: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(callback=lambda result, error: came.put((result, error)))
    arrays = [np.array([[n, n, n]], np.float32) for n in range(60)]
    for number, array in enumerate(arrays):
        name = "nothing" if number % 10 == 3 else "identity_fp32"
        client.async_stream_infer(name, [_input("x", array, "FP32")], request_id=f"r{number}")
    for number, array in enumerate(arrays):
        result, error = came.get(timeout=30)
        if number % 10 == 3:
            assert result is None
            assert "no model `nothing` is served" in error.message()
        else:
            assert error is None
            assert result.get_response().id == f"r{number}"
            np.testing.assert_array_equal(result.as_numpy("y"), array)
    client.stop_stream()


def test_a_stream_says_what_is_final_and_ends_at_an_error_where_asked(stub: Any) -> None:
    good = service_pb2.ModelInferRequest(model_name="m", id="7")
    good.inputs.add(name="x", datatype="FP32", shape=[2, 4])
    good.raw_input_contents.append(ROWS.tobytes())
    bad = service_pb2.ModelInferRequest(model_name="nothing", id="8")
    said = list(stub.ModelStreamInfer(iter([good, bad])))
    assert said[0].infer_response.model_version == "1"
    assert said[0].infer_response.parameters["triton_final_response"].bool_param is True
    assert (said[1].infer_response.id, "`nothing`" in said[1].error_message) == ("8", True)
    good.parameters["triton_enable_empty_final_response"].bool_param = True
    (final,) = stub.ModelStreamInfer(iter([good]))
    assert final.infer_response.parameters["triton_final_response"].bool_param is True
    stream = stub.ModelStreamInfer(iter([good, bad]), metadata=[("triton_grpc_error", "true")])
    assert next(stream).infer_response.id == "7"
    with pytest.raises(grpc.RpcError) as caught:
        next(stream)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_stream_of_large_messages_and_one_that_is_given_up(place: Place, stub: Any) -> None:
    large = service_pb2.ModelInferRequest(model_name="identity_fp32")
    array = np.arange(150_000, dtype=np.float32).reshape(-1, 3)
    large.inputs.add(name="x", datatype="FP32", shape=array.shape)
    large.raw_input_contents.append(array.tobytes())
    answers = list(stub.ModelStreamInfer(iter([large] * 5)))
    assert [a.infer_response.raw_output_contents[0] for a in answers] == [array.tobytes()] * 5
    forever = stub.ModelStreamInfer(itertools.repeat(large))
    next(forever)
    forever.cancel()
    assert stub.ServerLive(service_pb2.ServerLiveRequest()).live


def test_triton_s_extensions(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("m").config
    assert (config.name, config.backend, config.platform) == (
        *("m", "onnxruntime", "onnxruntime_onnx"),
    )
    # Rows ride together: the first dimension is not one of the model's.
    assert config.max_batch_size > 1
    assert config.dynamic_batching.preferred_batch_size == [config.max_batch_size]
    (x,) = config.input
    assert (x.name, model_config_pb2.DataType.Name(x.data_type), x.dims) == ("x", "TYPE_FP32", [4])
    assert config.instance_group[0].kind == model_config_pb2.ModelInstanceGroup.KIND_CPU
    assert not config.model_transaction_policy.decoupled

    def counted() -> Any:
        (stats,) = client.get_inference_statistics("m").model_stats
        assert (stats.name, stats.version) == ("m", "1")
        return stats

    before = counted()
    client.infer("m", [_input("x", ROWS, "FP32")])
    with pytest.raises(InferenceServerException):
        client.infer("m", [_input("x", ROWS, "FP32")], outputs=[triton.InferRequestedOutput("z")])
    after = counted()
    assert after.inference_count - before.inference_count == 2
    assert after.execution_count - before.execution_count == 1
    spent, earlier = after.inference_stats, before.inference_stats
    assert spent.success.count - earlier.success.count == 1
    assert spent.fail.count - earlier.fail.count == 1
    assert spent.compute_infer.ns > earlier.compute_infer.ns
    assert len(client.get_inference_statistics().model_stats) == 15
    assert len(client.get_inference_statistics("m", "1").model_stats) == 1
    assert not client.get_system_shared_memory_status().regions
    assert not client.get_cuda_shared_memory_status().regions
    assert "statistics" in client.get_server_metadata().extensions


def test_triton_s_client_loads_and_unloads(place: Place) -> None:
    def index(client: triton.InferenceServerClient) -> dict[str, tuple[str, str, str]]:
        models = client.get_model_repository_index().models
        return {each.name: (each.version, each.state, each.reason) for each in models}

    # A server of its own: others ask the shared one meanwhile.
    with (
        serving.house() as house,
        house.serving(place.model) as server,
        Place(server, place.model).client() as client,
    ):
        assert index(client) == {"m": ("1", "READY", "")}
        client.unload_model("m", unload_dependents=True)
        assert index(client) == {"m": ("1", "UNAVAILABLE", "unloaded")}
        assert not client.is_model_ready("m")
        client.load_model("m")
        assert client.is_model_ready("m")
        for ask, status, words in (
            (lambda: client.load_model("nothing"), "NOT_FOUND", "failed to load 'nothing'"),
            (lambda: client.load_model("m", config="{}"), "UNIMPLEMENTED", "parameter `config`"),
        ):
            with pytest.raises(InferenceServerException) as caught:
                ask()
            assert caught.value.status() == f"StatusCode.{status}"
            assert words in caught.value.message()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda client: client.register_system_shared_memory("a", "/a", 8), "Client shared memory"),
        (lambda client: client.unregister_cuda_shared_memory(), "Client shared memory"),
        (lambda client: client.get_trace_settings(), "trace extension"),
        (lambda client: client.get_log_settings(), "logging extension"),
    ],
)
def test_what_is_not_here_says_so(
    client: triton.InferenceServerClient, ask: Callable[[Any], Any], words: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        ask(client)
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    assert words in caught.value.message()


def test_a_stream_ends_with_its_server(place: Place) -> None:
    over = threading.Event()
    good = service_pb2.ModelInferRequest(model_name="m")
    good.inputs.add(name="x", datatype="FP32", shape=[2, 4])
    good.raw_input_contents.append(ROWS.tobytes())

    def one_and_no_more() -> Iterator[Any]:
        yield good
        over.wait(60)

    with (
        serving.house() as house,
        house.serving(place.model) as server,
        grpc.insecure_channel("{}:{}".format(*server.address)) as channel,
    ):
        stream = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(
            one_and_no_more()
        )
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", lambda m: m, lambda m: m)(b"")
        assert next(stream).infer_response.model_name == "m"
        assert next(watch) == b"\x08\x01"
        status, _ = server.end()
        assert status == 0
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in caught.value.details()
        assert list(watch) == [b"\x08\x02"]
        over.set()


def test_health_is_watched(place: Place) -> None:
    with grpc.insecure_channel(place.url) as channel:
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch", lambda m: m, lambda m: m)
        watching = watch(b"")
        assert next(watching) == b"\x08\x01"
        watching.cancel()


def test_triton_s_asyncio_client(place: Place) -> None:
    async def ask() -> np.ndarray[Any, Any]:
        async with triton_aio.InferenceServerClient(place.url) as client:
            assert await client.is_server_ready()
            result = await client.infer("m", [_input("x", ROWS, "FP32")])
            return np.asarray(result.as_numpy("label"))

    np.testing.assert_array_equal(asyncio.run(ask()), _expected(place, ROWS)["label"])


def test_rest_is_answered_beside_it(place: Place) -> None:
    status, said, _ = place.server.ask("m")
    assert status == 200
    assert said["model_name"] == "m"
