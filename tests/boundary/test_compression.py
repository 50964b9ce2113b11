"""Bodies that are compressed, both ways, on a real server; and the classes of the classification extension."""

from __future__ import annotations

import gzip
import http.client
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests import serving
from tests.serving import RunningServer, write_model

LENGTH = "Inference-Header-Content-Length"
PACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress}
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    model = write_model(tmp_path_factory.mktemp("model") / "m.onnx")
    with serving.house() as house, house.serving(model) as running:
        yield running


def ask(
    server: RunningServer, path: str, body: bytes, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(*server.address, timeout=20)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, named)
        answer = connection.getresponse()
        return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
    finally:
        connection.close()


def infer_body(rows: int, **more: Any) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 4], "data": [1.5] * (4 * rows)}
    return json.dumps({"inputs": [tensor], **more}).encode()


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("dialect", ["v2", "tensorflow", "keras"])
def test_a_compressed_body_is_read(server: RunningServer, dialect: str, coding: str) -> None:
    path, body = {
        "v2": ("/v2/models/m/infer", infer_body(2)),
        "tensorflow": ("/v1/models/m:predict", json.dumps({"instances": [[1.5] * 4] * 2}).encode()),
        "keras": ("/m/predict", json.dumps([[1.5] * 4] * 2).encode()),
    }[dialect]
    plain = ask(server, path, body)
    packed = ask(server, path, PACK[coding](body), Content_Encoding=coding)
    assert plain[0] == packed[0] == 200, packed
    assert packed[1] == plain[1]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_large_answer_is_compressed_for_whoever_asks(server: RunningServer, coding: str) -> None:
    body = infer_body(400)
    plain = ask(server, "/v2/models/m/infer", body)
    status, packed, headers = ask(server, "/v2/models/m/infer", body, Accept_Encoding=coding)
    assert (status, headers["content-encoding"]) == (200, coding)
    assert len(packed) < len(plain[1]) / 2
    assert UNPACK[coding](packed) == plain[1]
    assert "content-encoding" not in plain[2]
    small = ask(server, "/v2/models/m/infer", infer_body(1), Accept_Encoding=coding)
    assert "content-encoding" not in small[2], "not worth it"


def test_the_length_of_the_json_is_that_of_the_plain_one(server: RunningServer) -> None:
    rows = 300
    parameters = {"binary_data_size": rows * 16}
    tensor = {"name": "x", "datatype": "FP32", "shape": [rows, 4], "parameters": parameters}
    said = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = json.dumps(said).encode()
    body = gzip.compress(head + struct.pack(f"<{rows * 4}f", *([2.0] * rows * 4)))
    headers = {LENGTH: str(len(head)), "Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    status, packed, came = ask(server, "/v2/models/m/infer", body, **headers)
    assert status == 200, packed
    answer = gzip.decompress(packed)
    length = int(came[LENGTH.lower()])
    outputs = json.loads(answer[:length])["outputs"]
    sizes = [output["parameters"]["binary_data_size"] for output in outputs]
    assert sum(sizes) == len(answer) - length


@pytest.mark.parametrize(
    ("coding", "body", "status", "code", "words"),
    [
        ("gzip", b"{}", 400, "wire.invalid-request", "the body is not gzip"),
        ("deflate", gzip.compress(b"{}"), 400, "wire.invalid-request", "the body is not deflate"),
        ("br", b"{}", 501, "wire.unsupported", "`br`; gzip and deflate are read"),
        (
            "gzip",
            gzip.compress(bytes(80 << 20), 1),
            413,
            "request.body-too-large",
            "`limits.body_bytes`",
        ),
    ],
    ids=["no gzip", "another coding", "an unknown one", "a bomb"],
)
def test_a_body_that_lies_is_refused(
    server: RunningServer, coding: str, body: bytes, status: int, code: str, words: str
) -> None:
    came, text, _ = ask(server, "/v2/models/m/infer", body, Content_Encoding=coding)
    said = json.loads(text)
    assert (came, said["code"]) == (status, code)
    assert words in said["error"]


def test_the_highest_scores_come_as_classes(server: RunningServer) -> None:
    wanted = {"name": "probabilities", "parameters": {"classification": 2}}
    status, text, _ = ask(server, "/v2/models/m/infer", infer_body(2, outputs=[wanted]))
    assert status == 200, text
    _, plain, _ = ask(server, "/v2/models/m/infer", infer_body(2))
    outputs = json.loads(plain)["outputs"]
    scores = next(output for output in outputs if output["name"] == "probabilities")
    output = json.loads(text)["outputs"][0]
    assert output["datatype"] == "BYTES"
    width = scores["shape"][1]
    assert output["shape"] == [2, min(2, width)]
    first = scores["data"][:width]
    best = max(range(width), key=lambda index: first[index])
    assert output["data"][0] == f"{first[best]:.6f}:{best}"
    wrong = {"name": "probabilities", "parameters": {"classification": -1}}
    status, text, _ = ask(server, "/v2/models/m/infer", infer_body(1, outputs=[wrong]))
    assert (status, json.loads(text)["code"]) == (400, "wire.invalid-field")


def test_tensorflow_servings_metrics_are_at_their_place(server: RunningServer) -> None:
    ask(server, "/v1/models/m:predict", json.dumps({"instances": [[1.5] * 4]}).encode())
    connection = http.client.HTTPConnection(*server.address, timeout=20)
    try:
        connection.request("GET", "/monitoring/prometheus/metrics")
        page = connection.getresponse().read().decode()
    finally:
        connection.close()
    counts = [
        line for line in page.splitlines() if line.startswith(":tensorflow:serving:request_c")
    ]
    assert any('{model_name="m",status="OK"}' in line for line in counts), counts
    assert "\ndukou_requests_total{" in page
