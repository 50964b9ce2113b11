"""`dukou predict --dialect`: the same rows in every protocol get the same answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save
from tests import serving
from tests.serving import RunningServer, write_model

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


def _predict(server: RunningServer, *words: str | Path) -> list[dict[str, object]]:
    done = server.house.dukou("predict", *words, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _same(found: list[dict[str, object]], expected: list[dict[str, object]]) -> None:
    assert [sorted(row) for row in found] == [sorted(row) for row in expected]
    for left, right in zip(found, expected, strict=True):
        for name, value in left.items():
            np.testing.assert_allclose(value, right[name], rtol=1e-6)


@pytest.mark.parametrize("dialect", ["tensorflow", "keras", "torchserve"])
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


def test_a_version_by_its_number(server: RunningServer) -> None:
    expected = _predict(server, "m:1", json.dumps(ROWS))
    assert expected != _predict(server, "m", json.dumps(ROWS))
    _same(_predict(server, "m:1", json.dumps(ROWS), "--dialect", "tensorflow"), expected)


def test_text_and_one_output_whose_name_is_left_out(server: RunningServer) -> None:
    found = _predict(server, "text", '[["渡"], ["口"]]', "--dialect", "tensorflow")
    assert found == [{"same": ["渡"]}, {"same": ["口"]}]


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
    ],
)
def test_what_is_refused(server: RunningServer, words: tuple[str, ...], code: str) -> None:
    done = server.house.dukou("predict", *words, "--url", server.url)
    assert done.returncode != 0
    assert f"[{code}]" in done.stderr
    assert len(done.stderr.splitlines()) == 2
