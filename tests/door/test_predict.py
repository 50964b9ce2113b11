"""`dukou predict` and `dukou status` against a real server."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests import serving
from tests.registry_house import move_alias, publish
from tests.serving import House, RunningServer, write_model

import dukou
from dukou.base.errors import DukouError, InputError, StateError
from dukou.serve.server import serve

ROWS = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving.house() as house:
        publish(house, tmp_path_factory.mktemp("versions"), seed=5)
        move_alias(house, 1)
        model = write_model(tmp_path_factory.mktemp("model") / "flowers.onnx")
        with house.serving(model, "chain") as running:
            yield running


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("rows")
    np.save(folder / "rows.npy", np.array(ROWS, np.float32))
    np.savez(folder / "rows.npz", x=np.array(ROWS))
    (folder / "rows.json").write_text(json.dumps(ROWS))
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows(ROWS)
    return [str(path) for path in sorted(folder.iterdir())]


def _expected(server: RunningServer) -> list[dict[str, object]]:
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": [3, 4],
        "data": [v for row in ROWS for v in row],
    }
    status, answer, _ = server.ask("flowers", json.dumps({"inputs": [tensor]}))
    assert status == 200
    label, probabilities = (output["data"] for output in answer["outputs"])
    return [
        {"label": label[i], "probabilities": probabilities[3 * i : 3 * i + 3]} for i in range(3)
    ]


def test_every_kind_of_file_gets_the_same_answer(server: RunningServer, files: list[str]) -> None:
    expected = _expected(server)
    assert len(files) == 4
    for file in files:
        done = server.house.dukou("predict", "flowers", file, "--json", "--batch", "2")
        assert (done.returncode, done.stderr) == (0, ""), file
        assert [json.loads(line) for line in done.stdout.splitlines()] == expected


def test_stdin_table_and_csv(server: RunningServer) -> None:
    text = "\n".join(",".join(map(str, row)) for row in ROWS)
    table = server.house.dukou("predict", "flowers", "-", stdin=text).stdout.splitlines()
    assert table[0].split() == ["row", "label", "probabilities"]
    assert len(table) == 4
    lines = server.house.dukou("predict", "flowers", "-", "--csv", stdin=text).stdout.splitlines()
    assert lines[0] == "label,probabilities_0,probabilities_1,probabilities_2"
    assert len(lines) == 4


@pytest.mark.parametrize("model", ["chain", "chain:1", "chain@champion"])
def test_versions_and_aliases(server: RunningServer, model: str) -> None:
    done = server.house.dukou("predict", model, json.dumps(ROWS), "--json")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    ("words", "status", "code", "expected"),
    [
        (["flowers", "[[1, 2]]"], 2, "data.mismatch", "FP32 [?, 4], and [1, 2] came"),
        (["roses", "[[1]]"], 3, "server.not-running", "`flowers`"),
        (["flowers:9", "[[1]]"], 2, "request.unknown-version", "`9`"),
        (["chain@nobody", "[[1]]"], 2, "request.unknown-version", "nobody"),
        (["flowers", "none.csv"], 2, "formats.not-found", "none.csv"),
        (["flowers", '{"inputs": [{"name": "z"}]}'], 2, "", "z"),
        (["a/b", "[[1]]"], 2, "config.invalid", "a/b"),
    ],
)
def test_what_is_wrong_is_said(
    server: RunningServer, words: list[str], status: int, code: str, expected: str
) -> None:
    done = server.house.dukou("predict", *words)
    assert done.returncode == status, done.stderr
    first = done.stderr.splitlines()[0]
    assert f"[{code}" in first
    assert expected in first


def test_servers_that_are_none(server: RunningServer) -> None:
    for url, status, code in [
        ("http://127.0.0.1:1", 3, "server.not-running"),
        ("https://127.0.0.1:1", 3, "server.not-running"),
        ("ftp://127.0.0.1:1", 2, "usage.invalid"),
        ("http://127.0.0.1:port", 2, "usage.invalid"),
    ]:
        done = server.house.dukou("predict", "flowers", "[[1]]", "--url", url)
        assert done.returncode == status
        assert f"[{code}]" in done.stderr
    done = server.house.dukou("predict", "roses", "[[1]]", "--url", server.url)
    assert done.returncode == 2
    assert "[request.unknown-model]" in done.stderr


def test_status_counts_exactly(server: RunningServer) -> None:
    def counted() -> tuple[int, int]:
        arms = server.status()["state"]["arms"]
        arm = next(a for a in arms if a["model"] == "flowers" and a["arm"] == "main")
        return arm["requests"], arm["requests"] - arm["codes"].get("ok", 0)

    requests, errors = counted()
    for _ in range(3):
        assert server.ask("flowers")[0] == 200
    wrong = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    assert server.ask("flowers", json.dumps({"inputs": [wrong]}))[0] == 400
    assert counted() == (requests + 4, errors + 1)
    shown = server.house.dukou("status").stdout
    line = next(line for line in shown.splitlines() if "flowers:1" in line)
    assert re.split(r"\s{2,}", line.strip())[:4] == [
        "flowers:1",
        "main",
        str(requests + 4),
        str(errors + 1),
    ]
    assert server.url in shown


def test_status_without_a_server() -> None:
    with serving.house() as house:
        done = house.dukou("status")
        assert (done.returncode, done.stderr) == (0, "")
        assert "no dukou server runs here" in done.stdout
        assert json.loads(house.dukou("status", "--json").stdout) == {
            "servers": [],
            "backup": None,
        }


def test_models_of_the_registry(house: House, tmp_path: Path) -> None:
    assert "the registry is empty" in house.dukou("models").stdout
    for seed in (1, 2):
        publish(house, tmp_path, seed=seed)
    move_alias(house, 1)
    shown = house.dukou("models").stdout.splitlines()
    assert shown[1].split()[:4] == ["chain", "2", "2", "champion→1"]
    versions = json.loads(house.dukou("models", "chain", "--json").stdout)["versions"]
    assert [(v["version"], v["aliases"]) for v in versions] == [(1, ["champion"]), (2, [])]
    text = house.dukou("models", "chain").stdout
    assert "chain:2" in text
    assert "champion" in text
    done = house.dukou("models", "chian")
    assert done.returncode == 3
    assert "did you mean `chain`?" in done.stderr


def test_from_python(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in house.environment.items():
        monkeypatch.setenv(name, value)
    model = write_model(tmp_path / "flowers.onnx")
    with serve(model) as server:
        assert server.models == ["flowers"]
        lists = server.predict(ROWS)
        arrays = server.predict(np.array(ROWS, np.float32))
        by_name = server.predict({"x": ROWS}, model="flowers", version="1")
        assert lists == by_name
        assert arrays["label"].dtype == np.int64
        assert arrays["probabilities"].shape == (3, 3)
        assert np.allclose(arrays["probabilities"], lists["probabilities"])
        with pytest.raises(InputError) as refused:
            server.predict([[1.0]])
        assert refused.value.code == "request.wrong-shape"
        with pytest.raises(DukouError):
            server.predict(ROWS, version="9")
        with pytest.raises(InputError, match="`x` is missing"):
            server.predict({"y": ROWS})
    with pytest.raises(StateError):
        server.predict(ROWS)
    with pytest.raises(InputError) as refused:
        serve(tmp_path / "none.onnx")
    assert refused.value.code == "formats.not-found"
    assert callable(dukou.serve)
