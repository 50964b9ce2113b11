"""TorchServe's inference interface, as curl and its other clients use it; numbers are ONNX Runtime's own."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import requests
from onnx import TensorProto, helper
from tests import serving
from tests.boundary.torchserve import Answer, Client
from tests.serving import write_model

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]]
M = "/predictions/m"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, Path]]:
    folder = tmp_path_factory.mktemp("models")
    value = helper.make_tensor_value_info
    two = _write(
        folder / "two.onnx",
        [helper.make_node("Mul", ["a", "b"], ["product"])],
        [value(name, TensorProto.FLOAT, ["n", 2]) for name in "ab"],
        [value("product", TensorProto.FLOAT, ["n", 2])],
    )
    text = _write(
        folder / "text.onnx",
        [helper.make_node("Identity", ["t"], ["same"])],
        [value("t", TensorProto.STRING, ["n"])],
        [value("same", TensorProto.STRING, ["n"])],
    )
    pixels = _write(
        folder / "pixels.onnx",
        [helper.make_node("Cast", ["image"], ["numbers"], to=TensorProto.FLOAT)],
        [value("image", TensorProto.UINT8, ["n", 2, 2])],
        [value("numbers", TensorProto.FLOAT, ["n", 2, 2])],
    )
    files = [write_model(folder / "m.onnx"), two, text, pixels]
    with serving.house() as house, house.serving(*files) as server:
        yield Client(server.address), folder


def _write(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def _expected(folder: Path, rows: list[list[float]]) -> list[dict[str, Any]]:
    """What the model says, a row each, with its outputs by name."""
    session = onnxruntime.InferenceSession(folder / "m.onnx")
    label, probabilities = session.run(None, {"x": np.array(rows, np.float32)})
    return [
        {"label": int(one), "probabilities": [float(x) for x in row]}
        for one, row in zip(label, probabilities, strict=True)
    ]


def _same(said: Any, expected: Any) -> None:
    if isinstance(expected, list) and expected and isinstance(expected[0], dict):
        for one, other in zip(said, expected, strict=True):
            _same(one, other)
    elif isinstance(expected, dict):
        assert said.keys() == expected.keys()
        assert said["label"] == expected["label"]
        assert said["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    else:
        assert said == pytest.approx(expected)


def _npy(rows: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(rows))
    return file.getvalue()


def test_ping_is_healthy_by_any_method(place: tuple[Client, Path]) -> None:
    client, _ = place
    for method in ("GET", "POST", "PUT"):
        answer = client.ask(method, "/ping")
        assert (answer.status, answer.said) == (200, {"status": "Healthy"})


def test_one_row_is_answered_bare_and_rows_as_a_list(place: tuple[Client, Path]) -> None:
    client, folder = place
    expected = _expected(folder, ROWS)
    row, rows = json.dumps(ROWS[0]), json.dumps(ROWS)
    raw = np.array(ROWS, np.float32).tobytes()
    for name, answer, wanted in (
        ("JSON row", client.json(M, ROWS[0]), expected[0]),
        ("JSON rows", client.json(M, ROWS), expected),
        ("data", client.json(M, {"data": ROWS[0]}), expected[0]),
        ("body", client.json(M, {"body": ROWS}), expected),
        ("by name", client.json(M, {"x": ROWS, "target": 0}), expected),
        ("inputs", client.json(M, {"inputs": {"x": ROWS}}), expected),
        ("-d row", client.data(M, row), expected[0]),
        ("-d form", client.data(M, f"data={row}"), expected[0]),
        ("-T JSON", client.upload(M, rows.encode()), expected),
        ("-T raw", client.upload(M, raw), expected),
        ("-T one raw row", client.upload(M, raw[:16]), expected[0]),
        ("-T NPY", client.upload(M, _npy(ROWS)), expected),
        ("-F JSON", client.form(M, {"data": ("a.json", rows.encode(), "application/json")}), expected),
        ("-F octets", client.form(M, {"data": ("a", row.encode(), "application/octet-stream")}), expected[0]),
        ("-F raw", client.form(M, {"x": ("a.bin", raw, "application/octet-stream")}), expected),
        ("GET", client.ask("GET", M, row), expected[0]),
        ("version", client.json(f"{M}/1", ROWS[0]), expected[0]),
        ("extra path", client.json(f"{M}/1/more", ROWS[0]), expected[0]),
        ("invoke", client.json("/models/m/invoke", ROWS[0]), expected[0]),
        ("invocations", client.json("/invocations?model_name=m", ROWS[0]), expected[0]),
    ):  # fmt: skip
        assert answer.status == 200, (name, answer)
        _same(answer.said, wanted)
    instances = client.json(M, {"instances": ROWS})
    _same(instances.said["predictions"], expected)
    assert instances.headers["content-type"] == "application/json"
    assert instances.headers["dukou-version"] == "1"


def test_requests_sends_files_and_documents(place: tuple[Client, Path]) -> None:
    client, folder = place
    url = f"http://127.0.0.1:{client.address[1]}{M}"
    path = folder / "row.json"
    path.write_text(json.dumps(ROWS[0]))
    (expected,) = _expected(folder, ROWS[:1])
    with path.open("rb") as file:
        _same(requests.post(url, files={"data": file}, timeout=20).json(), expected)
    with path.open("rb") as file:
        _same(requests.post(url, data=file, timeout=20).json(), expected)
    _same(requests.post(url, json=ROWS[0], timeout=20).json(), expected)


def test_several_inputs_are_parts_of_a_form(place: tuple[Client, Path]) -> None:
    client, _ = place
    path = "/predictions/two"
    raw = np.array([[3, 4]], np.float32).tobytes()
    mixed = {"a": ("a.json", b"[1, 2]", "application/json"), "b": ("b", raw, "image/raw")}
    assert client.form(path, mixed).said == [3.0, 8.0]
    rows = dict.fromkeys("ab", ("", b"[[1, 2], [3, 4]]", "text/plain"))
    assert client.form(path, rows).said == [[1.0, 4.0], [9.0, 16.0]]
    assert client.data(path, "a=%5B1%2C2%5D&b=%5B3%2C4%5D&c=x").said == [3.0, 8.0]
    named = [{"a": [1, 2], "b": [3, 4]}]
    assert client.json(path, {"instances": named}).said == {"predictions": [[3.0, 8.0]]}
    assert client.json(path, named).said == [[3.0, 8.0]]


def test_texts_and_bytes(place: tuple[Client, Path]) -> None:
    client, _ = place
    path = "/predictions/text"
    plain = {"Content-Type": "text/plain"}
    assert client.ask("POST", path, "渡口 [1]".encode(), plain).said == "渡口 [1]"
    assert client.upload(path, b"hello").said == "hello"
    assert client.data(path, "data=hello+world").said == "hello world"
    assert client.form(path, {"data": ("a.txt", b"hello", "text/plain")}).said == "hello"
    assert client.json(path, ["a", "b"]).said == ["a", "b"]
    assert client.upload("/predictions/pixels", bytes([1, 2, 3, 4])).said == [
        [1.0, 2.0],
        [3.0, 4.0],
    ]


def _refused(answer: Answer) -> tuple[int, str, str]:
    """Status, type and sentence."""
    assert answer.said["code"] == answer.status
    assert answer.said["error"] and answer.said["remedy"] and answer.said["request_id"]
    return answer.status, answer.said["type"], answer.said["message"]


def test_failures_are_in_torchserves_words(place: tuple[Client, Path]) -> None:
    client, _ = place
    jpeg = b"\xff\xd8\xff\xe0" + bytes(60)
    for name, answer, expected in (
        ("no model", client.json("/predictions/none", ROWS),
         (404, "ModelNotFoundException", "Model not found: none")),
        ("no version", client.json(f"{M}/2.0", ROWS),
         (404, "ModelVersionNotFoundException", "Model version: 2.0 does not exist for model: m")),
        ("no path", client.json("/predictions", ROWS),
         (404, "ResourceNotFoundException", "Requested resource is not found, please refer to API document.")),
        ("no explanation", client.json("/explanations/m", ROWS),
         (503, "InternalServerException", "Prediction failed")),
        ("nobody to explain", client.json("/explanations/none", ROWS),
         (404, "ModelNotFoundException", "Model not found: none")),
        ("method", client.ask("PATCH", "/models/m"),
         (405, "MethodNotAllowedException", "Requested method is not allowed, please refer to API document.")),
        ("empty", client.ask("POST", M),
         (400, "BadRequestException", "the body is empty; the model takes `x` FP32 [n, 4]")),
        ("shape", client.json(M, [1, 2]),
         (400, "BadRequestException", "input `x` has shape [2], and the model takes [n, 4]")),
    ):  # fmt: skip
        assert _refused(answer) == expected, name
    for name, answer, words in (
        ("no JSON", client.ask("POST", M, "[1,", {"Content-Type": "application/json"}), "the body is not JSON"),
        ("text", client.json(M, [["a", 2, 3, 4]]), "JSON Value: `"),
        ("an image", client.upload(M, jpeg[:15]), "input `x`: 15 bytes came (a JPEG image"),
        ("half of it", client.json("/predictions/two", {"a": [1, 2]}), "input `b` is missing"),
        ("one of two", client.upload("/predictions/two", b"1234"), "the body is one value"),
        ("twice", client.json(M, {"x": ROWS, "data": ROWS}), "input `x` came twice"),
        ("no form", client.ask("POST", M, "x", {"Content-Type": "multipart/form-data; boundary=X"}),
         "the body is no multipart form"),
    ):  # fmt: skip
        status, kind, message = _refused(answer)
        assert (status, kind, message[: len(words)]) == (400, "BadRequestException", words), name
    answer = client.ask("PATCH", "/models/m")
    assert answer.headers["allow"] == "GET, HEAD, PUT, DELETE"
    assert client.ask("GET", "/token?type=inference").status == 501
    assert client.ask("POST", "/wfpredict/w").status == 501


def test_what_can_be_asked_is_described(place: tuple[Client, Path]) -> None:
    client, _ = place
    for method, path in (("OPTIONS", "/"), ("GET", "/api-description")):
        said = client.ask(method, path).said
        assert said["openapi"] == "3.0.1"
        assert said["paths"]["/predictions/{model_name}"]["post"]["operationId"] == "predictions"
    for path in (M, "/models/m"):
        (described,) = client.ask("OPTIONS", path).said["paths"].values()
        assert "`x` FP32 [n, 4]" in described["post"]["description"]


def test_models_are_listed_and_described(place: tuple[Client, Path]) -> None:
    client, _ = place
    models = [
        {"modelName": name, "modelUrl": f"{name}.onnx"} for name in ("m", "two", "text", "pixels")
    ]
    assert client.ask("GET", "/models").said == {"models": models}
    assert client.ask("GET", "/models?limit=3").said == {"nextPageToken": "3", "models": models[:3]}
    page = client.ask("GET", "/models?limit=3&next_page_token=3").said
    assert page == {"models": models[3:]}
    (said,) = client.ask("GET", "/models/m").said
    assert (said["modelName"], said["modelVersion"], said["modelUrl"]) == ("m", "1", "m.onnx")
    assert said["minWorkers"] == said["maxWorkers"] == len(said["workers"]) >= 1
    assert {worker["status"] for worker in said["workers"]} == {"READY"}
    assert said["jobQueueStatus"]["pendingRequests"] == 0
    assert (
        client.ask("GET", "/models/m/all").said
        == client.ask("GET", "/models/m/1?customized=true").said
    )
    assert (
        client.ask("GET", "/models/m/9").said["message"]
        == "Model version: 9 does not exist for model: m"
    )
    assert client.ask("GET", "/models/none").status == 404
