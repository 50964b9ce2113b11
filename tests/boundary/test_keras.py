"""The dialect of a small Keras server, on real servers; numbers are ONNX Runtime's own."""

from __future__ import annotations

import http.client
import io
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tests import serving
from tests.boundary.test_tensorflow import Client
from tests.serving import write_model

from dukou.serve.local_api import LocalApi

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0], [-3.0, 0.0, 1.0, 2.0]]
NAMES = ["ant", "bee", "cat"]


def _write_number(path: Path) -> Path:
    """`x` FP32 [n, 2] → `y` FP32 [n, 1]: a sum."""
    value = helper.make_tensor_value_info
    ones = numpy_helper.from_array(np.ones((2, 1), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "sum",
        [value("x", TensorProto.FLOAT, ["n", 2])],
        [value("y", TensorProto.FLOAT, ["n", 1])],
        [ones],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Client, dict[str, Any]]]:
    """A server of two models, one of them with names for its classes; and what that one answers."""
    folder = tmp_path_factory.mktemp("models")
    files = [write_model(folder / "m.onnx"), _write_number(folder / "sum.onnx")]
    session = onnxruntime.InferenceSession(files[0])
    found = session.run(None, {"x": np.array(ROWS, np.float32)})
    with serving.house() as house, house.serving(*files) as server:
        local = LocalApi(Path(server.facts["socket"]))
        table = local.table()
        assert table is not None
        table["models"][0]["labels"] = NAMES
        table["sequence"] += 1
        local.put_table(table)
        yield Client(server), {"label": found[0], "probabilities": found[1]}


def _npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _write_mean(path: Path) -> Path:
    """`x` FP32 [n, 4, 5, 3] → `y` FP32 [n, 3]: the mean of each colour."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[1, 2], keepdims=0)],
        "mean",
        [value("x", TensorProto.FLOAT, ["n", 4, 5, 3])],
        [value("y", TensorProto.FLOAT, ["n", 3])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


def _form(*parts: tuple[str, bytes]) -> tuple[bytes, str]:
    """A body and its content type."""
    made = [
        f'--XX\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in parts
    ]
    return b"".join(made) + b"--XX--\r\n", "multipart/form-data; boundary=XX"


def test_pictures_are_rows(tmp_path: Path) -> None:
    model = _write_mean(tmp_path / "mean.onnx")
    random = np.random.default_rng(7)
    small = [random.integers(0, 256, (4, 5, 3), np.uint8) for _ in range(2)]
    large = random.integers(0, 256, (40, 37, 3), np.uint8)
    with serving.house() as house, house.serving(model) as server:

        def post(body: bytes, kind: str) -> tuple[int, Any]:
            connection = http.client.HTTPConnection(*server.address, timeout=20)
            connection.request("POST", "/mean/predict", body, {"content-type": kind})
            answer = connection.getresponse()
            said = json.loads(answer.read())
            connection.close()
            return answer.status, said

        def ask(*parts: tuple[str, bytes]) -> tuple[int, Any]:
            return post(*_form(*parts))

        def answers(
            answer: tuple[int, Any], pictures: list[np.ndarray[Any, Any]], scale: float = 1
        ) -> None:
            wanted = [scale * picture.astype(float).mean((0, 1)) for picture in pictures]
            assert answer[0] == 200, answer
            np.testing.assert_allclose(answer[1]["predictions"], wanted, rtol=1e-4)

        answers(post(_png(small[0]), "image/png"), small[:1])
        answers(ask(("image", _png(small[0])), ("more", _png(small[1]))), small)
        answers(ask(("scale", b"0.5"), ("image", _png(small[0]))), small[:1], 0.5)
        # What is resized is what Pillow makes of it, to a level.
        resized = Image.fromarray(large).resize((5, 4), Image.Resampling.BILINEAR)
        answer = ask(("resize", b"true"), ("image", _png(large)))
        wanted = np.asarray(resized, float).mean((0, 1))
        np.testing.assert_allclose(answer[1]["predictions"][0], wanted, atol=1)
        array = ask(("file", _npy(small[0][None].astype(np.float32))))
        answers(array, small[:1])
        for parts, words in (
            ((("image", _png(large)),), "the picture is 40 high and 37 wide"),
            ((("image", b"GIF89a"),), "the form's part `image` is no picture that is read here"),
            ((("scale", b"1"),), "the form holds no picture"),
            ((("resize", b"maybe"), ("image", _png(large))), "`resize` must be `true` or `false`"),
        ):
            status, said = ask(*parts)
            assert (status, said["error"][: len(words)]) == (400, words)


def test_every_form_of_a_body_is_answered_alike(place: tuple[Client, dict[str, Any]]) -> None:
    client, expected = place
    named = [{"x": row} for row in ROWS]
    bodies = [
        {"instances": ROWS},
        {"data": named},
        {"inputs": ROWS},
        {"inputs": {"x": ROWS}},
        ROWS,
        named,
        _npy(np.array(ROWS)),
        _npy(np.array(ROWS, np.float32)),
        _npy(np.array(ROWS, np.float16)),
    ]
    answers = [client.ask("POST", "/m/predict", body) for body in bodies]
    assert {answer.status for answer in answers} == {200}
    said = answers[0].said
    assert all(answer.said == said for answer in answers)
    assert (said["model"], said["version"]) == ("m", "1")
    given = np.array([row["probabilities"] for row in said["predictions"]], np.float32)
    np.testing.assert_array_equal(given, expected["probabilities"])
    assert said["classes"] == [NAMES[label] for label in expected["label"]]


def test_answers_are_scored_by_the_labels_that_come_with_them(
    place: tuple[Client, dict[str, Any]],
) -> None:
    client, expected = place
    right = expected["label"].tolist()
    loss = float(
        np.mean([-math.log(p[k]) for p, k in zip(expected["probabilities"], right, strict=True)])
    )
    for labels in (right, [NAMES[k] for k in right], np.eye(3)[right].tolist()):
        answer = client.ask("POST", "/m/evaluate", {"instances": ROWS, "labels": labels})
        assert answer.status == 200
        assert answer.said["rows"] == 3
        assert answer.said["metrics"]["accuracy"] == 1.0
        assert answer.said["metrics"]["loss"] == pytest.approx(loss, rel=1e-5)
    wrong = [right[0], (right[1] + 1) % 3, (right[2] + 1) % 3]
    answer = client.ask("POST", "/m/evaluate", {"targets": wrong, "data": ROWS})
    assert answer.said["metrics"]["accuracy"] == pytest.approx(1 / 3)
    numbers = client.ask("POST", "/sum/evaluate", {"instances": [[1, 2], [3, 4]], "labels": [3, 9]})
    assert numbers.said["metrics"] == {"mse": 2.0, "mae": 1.0}


WRONG: dict[str, tuple[str, Any, int, str]] = {
    "of two models": (
        "/predict",
        {"instances": ROWS},
        404,
        "this path is for a server of one model, and this one has 2",
    ),
    "unknown model": ("/nothing/predict", {"instances": ROWS}, 404, "no model `nothing` is served"),
    "nothing": ("/m/predict", {}, 400, "the body lacks `instances`"),
    "two of them": ("/m/predict", {"instances": ROWS, "data": ROWS}, 400, "a body has one of"),
    "no object": ("/m/predict", '"a"', 400, "the body must be an object or a list of rows"),
    "no labels": ("/m/evaluate", {"instances": ROWS}, 400, "the body lacks `labels`"),
    "labels of other rows": (
        "/m/evaluate",
        {"instances": ROWS, "labels": [1]},
        400,
        "1 labels came for 3 rows",
    ),
    "labels are none": (
        "/m/evaluate",
        {"instances": ROWS, "labels": {}},
        400,
        "`labels` must be a list of",
    ),
    "text for numbers": (
        "/sum/evaluate",
        {"instances": [[1, 2]], "labels": ["a"]},
        400,
        "the model answers numbers",
    ),
    "array of another shape": (
        "/m/predict",
        _npy(np.zeros((2, 3))),
        400,
        "input `x` has shape [2, 3], and the model takes [n, 4]",
    ),
    "array in Fortran order": (
        "/m/predict",
        _npy(np.asfortranarray(np.zeros((2, 4)))),
        400,
        "the body is no NPY array that is read here: it is in Fortran order",
    ),
    "array of complex": (
        "/m/predict",
        _npy(np.zeros((2, 4), complex)),
        400,
        "the body is no NPY array that is read here: its dtype is",
    ),
    "array cut off": (
        "/m/predict",
        _npy(np.zeros((2, 4)))[:-1],
        400,
        "the NPY array has shape [2, 4] of '<f8', and 63 bytes",
    ),
    "header cut off": (
        "/m/predict",
        _npy(np.zeros((2, 4)))[:9],
        400,
        "the body is no NPY array that is read here: its header",
    ),
    "array to be scored": (
        "/m/evaluate",
        _npy(np.zeros((2, 4))),
        400,
        "neither an NPY array nor a picture holds labels",
    ),
    "picture of another size": (
        "/m/predict",
        _png(np.zeros((2, 3), np.uint8)),
        400,
        "the picture is 2 high and 3 wide, and input `x` takes [n, 4]",
    ),
    "picture cut off": (
        "/m/predict",
        _png(np.zeros((2, 2), np.uint8))[:40],
        400,
        "the picture cannot be read",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_one_sentence(place: tuple[Client, dict[str, Any]], name: str) -> None:
    path, body, status, words = WRONG[name]
    answer = place[0].ask("POST", path, body)
    assert (answer.status, answer.error[: len(words)]) == (status, words)
    assert answer.said["code"]


def test_a_server_of_one_model_needs_no_name(tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    with serving.house() as house, house.serving(model) as server:
        client = Client(server)
        answer = client.ask("POST", "/predict", json.dumps(ROWS))
        assert answer.said == client.ask("POST", "/m/predict", {"instances": ROWS}).said
        # Class names are not known of a bare file.
        assert "classes" not in answer.said
        assert client.ask("GET", "/predict").status == 405
