"""Every case of `conformance/wire/v2` through the HTTP door of a real server.

A model a signature: it gives every input back as `echo_NAME`, and the signature's own outputs, so that
what the codec understood is seen in what the model was given.
"""

from __future__ import annotations

import http.client
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper
from tests import serving
from tests.graphs import make_model
from tests.registry_house import move_alias, publish
from tests.serving import RunningServer

from dukou.deploy.defaults import JSON_DEPTH

CASES = Path(__file__).parents[2] / "conformance" / "wire" / "v2"
DTYPES: dict[str, tuple[int, Any]] = {
    "BOOL": (TensorProto.BOOL, np.bool_),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "BF16": (TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
    "BYTES": (TensorProto.STRING, np.object_),
}


def _cases(name: str, at_least: int) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((CASES / f"{name}.json").read_text("utf-8"))["cases"]
    assert len(cases) >= at_least
    return cases


ACCEPTED, REFUSED = _cases("accepted", 20), _cases("refused", 40)
ADDRESSES = _cases("addresses", 20)
SIGNATURES = sorted({json.dumps(case["signature"]["inputs"]) for case in ACCEPTED + REFUSED})


def _write_model(folder: Path, number: int) -> Path:
    """The model of a signature's inputs."""
    inputs = [
        (tensor["name"], DTYPES[tensor["dtype"]][0], tensor["shape"])
        for tensor in json.loads(SIGNATURES[number])
    ]
    nodes = [helper.make_node("Identity", [name], [f"echo_{name}"]) for name, _, _ in inputs]
    outputs = [(f"echo_{name}", dtype, shape) for name, dtype, shape in inputs]
    if inputs[0] == ("x", TensorProto.FLOAT, ["batch", 2]):
        nodes += [
            helper.make_node("Neg", ["x"], ["y"]),
            helper.make_node("ArgMax", ["x"], ["label"], axis=-1, keepdims=0),
        ]
        outputs += [("y", TensorProto.FLOAT, ["batch", 2]), ("label", TensorProto.INT64, ["batch"])]
    path = folder / f"m{number}.onnx"
    path.write_bytes(make_model(nodes, inputs, outputs).SerializeToString())
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    paths = [_write_model(folder, number) for number in range(len(SIGNATURES))]
    with serving.house() as house, house.serving(*paths) as running:
        yield running


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A model `m` with a version 2 and an alias `champion`."""
    from dukou.registry.registry import Registry

    with serving.house() as house:
        for seed in (1, 2):
            publish(house, tmp_path_factory.mktemp("versions"), seed=seed, name="m")
        move_alias(house, 1, name="m")
        arms = [
            {"arm": "main", "version": "champion"},
            {"arm": "other", "version": 2, "weight": 0},
        ]
        with Registry.open(house.home) as registry:
            document = {"name": "shop", "models": [{"name": "m", "traffic": arms}]}
            registry.put_deployment("shop", document, expected=0)
        with house.serving("shop") as running:
            yield running


def _body(part: Any) -> bytes:
    """A body, put together from its parts."""
    if isinstance(part, str):
        return part.encode()
    if isinstance(part, list):
        return b"".join(_body(inner) for inner in part)
    if "hex" in part:
        return bytes.fromhex(part["hex"])
    return (part["repeat"] * part["times"]).encode()


class Asking:
    """A connection that is kept for as long as the server says so, and no longer."""

    def __init__(self, server: RunningServer) -> None:
        self._connection = http.client.HTTPConnection(*server.address, timeout=20)

    def __enter__(self) -> Asking:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[http.client.HTTPResponse, bytes]:
        self._connection.request(method, path, body, headers or {})
        response = self._connection.getresponse()
        content = response.read()
        if response.will_close:
            self._connection.close()
        return response, content


def _path(case: dict[str, Any]) -> str:
    return f"/v2/models/m{SIGNATURES.index(json.dumps(case['signature']['inputs']))}/infer"


def _given_back(
    response: http.client.HTTPResponse, content: bytes
) -> tuple[dict[str, Any], dict[str, tuple[dict[str, Any], Any]]]:
    """The document of an answer, and its tensors by name with what they hold: bytes or a list."""
    length = response.getheader("inference-header-content-length")
    head, raw = (
        (content, b"") if length is None else (content[: int(length)], content[int(length) :])
    )
    document = json.loads(head)
    tensors = {}
    for tensor in document["outputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size")
        dtype = DTYPES[tensor["datatype"]][1]
        if size is not None:
            data, raw = raw[:size], raw[size:]
            if tensor["datatype"] == "BYTES":
                data = _elements(data)
        elif tensor["datatype"] == "BYTES":
            data = [element.encode() for element in tensor["data"]]
        else:
            data = np.array(tensor["data"], dtype).tobytes()
        tensors[tensor["name"]] = (tensor, data)
    assert raw == b""
    return document, tensors


def _elements(raw: bytes) -> list[bytes]:
    elements = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        elements.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return elements


def _binary_answer(case: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """The case's request, asking for raw tensors where JSON cannot say what it holds."""
    body, headers = _body(case["body"]), dict(case.get("headers", {}))
    length = headers.get("Inference-Header-Content-Length")
    if length in (None, "0"):
        return body, headers
    document = json.loads(body[: int(length)])
    document.setdefault("parameters", {})["binary_data_output"] = True
    head = json.dumps(document).encode()
    headers["Inference-Header-Content-Length"] = str(len(head))
    return head + body[int(length) :], headers


@pytest.mark.parametrize("case", ACCEPTED, ids=lambda case: case["name"])
def test_what_is_taken_reaches_the_model(server: RunningServer, case: dict[str, Any]) -> None:
    expected = case["expect"]
    with Asking(server) as asking:
        body, headers = _binary_answer(case)
        response, content = asking.ask("POST", _path(case), body, headers)
    assert response.status == 200, content
    document, tensors = _given_back(response, content)
    assert document.get("id") == expected.get("id")
    if expected.get("outputs") is not None:
        assert [output["name"] for output in document["outputs"]] == expected["outputs"]
        return
    for tensor in expected["inputs"]:
        described, data = tensors[f"echo_{tensor['name']}"]
        assert described["datatype"] == tensor["datatype"]
        assert described["shape"] == tensor["shape"]
        if "hex" in tensor:
            assert data == bytes.fromhex(tensor["hex"])
        else:
            assert data == [bytes.fromhex(element) for element in tensor["elements_hex"]]


GOOD = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [0.5, -2]}
USUAL = '[{"name": "x", "dtype": "FP32", "shape": ["batch", 2]}]'


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case["name"])
def test_what_is_refused_is_said_and_costs_nothing_else(
    server: RunningServer, case: dict[str, Any]
) -> None:
    expected = case["expect"]
    with Asking(server) as asking:
        response, content = asking.ask(
            "POST", _path(case), _body(case["body"]), case.get("headers")
        )
        said = _check_error(response, content)
        assert (said["code"], response.status) == (expected["code"], expected["status"])
        for part in expected["message"]:
            # The codec's own test is given 100 levels; a server has the table's limit.
            assert part.replace("100 levels", f"{JSON_DEPTH} levels") in said["error"]
        # The next one, on the same connection where the server keeps it, is answered.
        good = json.dumps({"inputs": [GOOD]}).encode()
        path = f"/v2/models/m{SIGNATURES.index(USUAL)}/infer"
        response, content = asking.ask("POST", path, good)
    assert response.status == 200
    assert json.loads(content)["outputs"][0]["data"] == [0.5, -2]


def _check_error(response: http.client.HTTPResponse, content: bytes) -> dict[str, str]:
    """The shape of an error: one sentence, a stable code, what to do, the request's id."""
    assert response.getheader("content-type") == "application/json"
    said = json.loads(content)
    assert list(said) == ["error", "code", "remedy", "request_id"]
    assert all(isinstance(text, str) and text for text in said.values())
    assert len(said["error"]) < 500
    assert "\n" not in said["error"]
    assert said["request_id"] == response.getheader("dukou-request-id")
    return said


@pytest.mark.parametrize("case", ADDRESSES, ids=lambda case: f"{case['method']} {case['path']}")
def test_every_address(named: RunningServer, case: dict[str, Any]) -> None:
    expected = case["expect"]
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
    content = json.dumps(body).encode() if case["method"] == "POST" else b""
    with Asking(named) as asking:
        response, answer = asking.ask(case["method"], case["path"], content)
        if "code" in expected:
            said = _check_error(response, answer)
            assert (said["code"], response.status) == (expected["code"], expected["status"])
            for part in expected["message"]:
                assert part in said["error"]
        else:
            assert response.status == 200, answer
            _check_operation(expected, response, answer)
        assert asking.ask("GET", "/v2/health/ready")[0].status == 200


def _check_operation(
    expected: dict[str, str], response: http.client.HTTPResponse, content: bytes
) -> None:
    match expected["operation"]:
        case "infer":
            document = json.loads(content)
            assert document["model_name"] == "m"
            version = expected.get("version", "1")
            assert document["model_version"] == response.getheader("dukou-version") == version
        case "model-metadata":
            document = json.loads(content)
            assert (document["name"], document["inputs"][0]["name"]) == ("m", "x")
        case "model-config":
            document = json.loads(content)
            assert (document["name"], document["input"][0]["name"]) == ("m", "x")
        case "model-list":
            assert b'"m"' in content
        case "server-metadata":
            assert json.loads(content)["name"] == "dukou"
        case "repository-index":
            assert json.loads(content)[0]["state"] == "READY"
        case "load":
            assert json.loads(content) == {"name": "m", "load": True}
        case "metrics":
            assert b"dukou_requests_total" in content
        case operation:
            assert operation in ("live", "ready", "model-ready")
