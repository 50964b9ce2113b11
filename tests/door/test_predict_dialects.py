"""`dukou predict --dialect`: the same rows in every protocol get the same answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save
from tests import serving
from tests.secure import make_key
from tests.serving import RunningServer, write_model

from dukou.serve.dialects.table import DIALECTS

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    for version, scale in (("1", 0.2), ("2", 1.0)):
        (folder / "m" / version).mkdir(parents=True)
        write_model(folder / "m" / version / "model.onnx", scale=scale)
    same = helper.make_node("Identity", ["t"], ["same"])
    text = [
        helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 1]) for name in ("t", "same")
    ]
    graph = helper.make_graph([same], "g", text[:1], text[1:])
    opsets = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "text.onnx")
    with serving.house() as house, house.serving(folder, "--versions", "all") as running:
        yield running


@pytest.fixture(scope="module")
def numbers() -> Iterator[RunningServer]:
    models = Path(__file__).resolve().parents[2] / "conformance" / "models"
    kinds = ("bool", "int8", "uint16", "int64", "fp16", "bf16", "fp64")
    with (
        serving.house() as house,
        house.serving(*(models / f"identity_{kind}.onnx" for kind in kinds)) as running,
    ):
        yield running


def _predict(server: RunningServer, *words: str | Path) -> list[dict[str, object]]:
    done = server.house.dukou("predict", *words, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _same(found: list[dict[str, object]], expected: list[dict[str, object]]) -> None:
    assert [sorted(row) for row in found] == [sorted(row) for row in expected]
    for left, right in zip(found, expected, strict=True):
        for name, value in left.items():
            np.testing.assert_allclose(value, right[name], rtol=1e-6)


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "v2"])
@pytest.mark.parametrize("kind", ["json", "csv", "npy"])
def test_the_same_answers(server: RunningServer, tmp_path: Path, dialect: str, kind: str) -> None:
    file = tmp_path / f"rows.{kind}"
    if kind == "npy":
        np.save(file, np.array(ROWS, np.float32))
    elif kind == "csv":
        file.write_text("\n".join(",".join(map(str, row)) for row in ROWS))
    else:
        file.write_text(json.dumps(ROWS))
    expected = _predict(server, "m", file)
    found = _predict(server, "m", file, "--dialect", dialect, "--url", server.url, "--batch", "2")
    if dialect == "keras":  # it answers with labels and classes beside; the numbers are the same
        assert len(found) == 3
    _same(found, expected)


@pytest.mark.parametrize(
    "dialect", ["tensorflow", "torchserve", "v2-grpc", "tensorflow-grpc", "torchserve-grpc"]
)
def test_a_version_by_its_number(server: RunningServer, dialect: str) -> None:
    expected = _predict(server, "m:1", json.dumps(ROWS))
    assert expected != _predict(server, "m", json.dumps(ROWS))
    _same(_predict(server, "m:1", json.dumps(ROWS), "--dialect", dialect), expected)


@pytest.mark.parametrize("dialect", ["tensorflow", "v2-grpc", "tensorflow-grpc"])
def test_text_and_one_output_whose_name_is_left_out(server: RunningServer, dialect: str) -> None:
    found = _predict(server, "text", '[["渡"], ["口"]]', "--dialect", dialect)
    assert found == [{"same": ["渡"]}, {"same": ["口"]}]


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "fp16", "bf16", "fp64"])
@pytest.mark.parametrize("dialect", ["v2-grpc", "tensorflow-grpc"])
def test_every_kind_of_number_over_grpc(numbers: RunningServer, dialect: str, dtype: str) -> None:
    rows = [[True, False, True]] if dtype == "bool" else [[1, 0, 3]]
    found = _predict(numbers, f"identity_{dtype}", json.dumps(rows), "--dialect", dialect)
    assert found == [{"y": rows[0]}]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nobody", "[[1]]", "--dialect", "tensorflow"), "request.unknown-model"),
        (("m", "[[1, 2]]", "--dialect", "tensorflow"), "data.mismatch"),
        (("m:1", "[[1]]", "--dialect", "keras"), "usage.invalid"),
        (("m@champion", "[[1]]", "--dialect", "torchserve"), "usage.invalid"),
        (("m", "[]", "--dialect", "keras"), "data.empty"),
        (("m", "gone.csv", "--dialect", "keras"), "formats.not-found"),
        (("m", "{", "--dialect", "keras"), "data.unreadable"),
        (("m", "[[1]]", "--dialect", "seldon"), "usage.invalid"),
        (("nobody", "[[1]]", "--dialect", "v2-grpc"), "request.unknown-model"),
        (("m", "[[1, 2]]", "--dialect", "tensorflow-grpc"), "data.mismatch"),
        (("nobody", "[[1]]", "--dialect", "torchserve-grpc"), "request.unknown-model"),
        (("m:7", "[[1]]", "--dialect", "tensorflow-grpc"), "request.unknown-version"),
        (("m:1", "[[1]]", "--dialect", "kserve-v1"), "usage.invalid"),
    ],
)
def test_what_is_refused(server: RunningServer, words: tuple[str, ...], code: str) -> None:
    done = server.house.dukou("predict", *words, "--url", server.url)
    assert done.returncode != 0
    assert f"[{code}]" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_nobody_listens_there(server: RunningServer) -> None:
    words = ("predict", "m", "[[1]]", "--dialect", "v2-grpc", "--url", "grpc://127.0.0.1:1")
    done = server.house.dukou(*words)
    assert done.returncode == 3
    assert "[server.not-running]" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_over_tls_with_a_key(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    with serving.house() as house:
        key = make_key(house, "caller", "--role", "predict")
        with house.serving("--secure", model) as server:
            words = ("predict", "m", json.dumps(ROWS), "--json", "--dialect", "v2-grpc")
            found = []
            for url in (server.url, server.url.replace("https", "grpcs")):
                done = house.dukou(*words, "--url", url, "--key", key)
                assert done.returncode == 0, done.stderr
                found.append(done.stdout)
            assert found[0] == found[1]
            certificate = str(server.facts["certificate"])
            named = house.dukou(*words, "--url", server.url, "--key", key, "--cacert", certificate)
            assert (named.returncode, named.stdout) == (0, found[0])
            refused = house.dukou(*words, "--url", server.url)
            assert "[access." in refused.stderr


@pytest.mark.parametrize("dialect", ["v2-grpc", "tensorflow-grpc"])
@pytest.mark.parametrize(
    ("model", "request_", "code"),
    [
        ("m", {"inputs": [{"name": "x", "shape": [1, 4], "data": [1, 2, 3, 4]}]}, "data.mismatch"),
        ("m", {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["a"], "data": []}]}, "data."),
        (
            "m",
            {"inputs": [{"name": "x", "datatype": "INT32", "shape": [1], "data": [1.7]}]},
            "data.",
        ),
        ("m", {"inputs": [{"name": "x", "datatype": "BYTES", "shape": [1], "data": [3]}]}, "data."),
        (
            "m",
            {"inputs": [{"name": "x", "datatype": "COMPLEX", "shape": [1], "data": [3]}]},
            "data.",
        ),
        ("m:99999999999999999999", [[1, 2, 3, 4]], "request.unknown-version"),
    ],
)
def test_what_cannot_be_sent_is_said(
    server: RunningServer, dialect: str, model: str, request_: object, code: str
) -> None:
    words = ("predict", model, json.dumps(request_), "--dialect", dialect, "--url", server.url)
    done = server.house.dukou(*words)
    assert done.returncode != 0
    assert f"[{code}" in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 2
