"""`dukou serve`: what it says when it starts, and every way in which it may not."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.registry_house import publish
from tests.serving import House, exchange, write_model


@pytest.fixture
def shell(house: House, tmp_path: Path) -> dict[str, str]:
    """An environment in which `dukou` is a command."""
    programs = tmp_path / "bin"
    programs.mkdir()
    command = programs / "dukou"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m dukou "$@"\n')
    command.chmod(0o755)
    return {**house.environment, "PATH": f"{programs}:{os.environ['PATH']}"}


def _start(house: House, *words: str | Path) -> tuple[subprocess.Popen[str], str]:
    """Starts a server for people; the process and all that it says until it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dukou", "serve", "--port", "0", *map(str, words)],
        env=house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    while "  stop " not in said:
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        said += line
    return process, said


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    stdout, stderr = process.communicate(timeout=40)
    assert (process.returncode, stdout, stderr) == (0, "", "")


def _paste(line: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _lines_to_paste(said: str) -> tuple[list[str], list[str]]:
    curls = re.findall(r"^  (curl .*)$", said, re.MULTILINE)
    predicts = re.findall(r"^  (dukou predict .*)$", said, re.MULTILINE)
    return curls, predicts


def test_a_bare_file(house: House, tmp_path: Path, shell: dict[str, str]) -> None:
    process, said = _start(house, write_model(tmp_path / "flowers.onnx"))
    url = re.match(r"serving flowers at (http://127\.0\.0\.1:\d+) \(ready in \d", said)
    assert url
    assert "flowers:1  x FP32 [n, 4] → label INT64 [n], probabilities FP32 [n, 3]" in said
    assert f"{url[1]}/metrics" in said
    assert f"kill {process.pid}" in said
    (curl,), (predict,) = _lines_to_paste(said)
    answer = json.loads(_paste(curl, shell))
    assert [output["name"] for output in answer["outputs"]] == ["label", "probabilities"]
    header, row = _paste(predict, shell).splitlines()
    assert header.split() == ["row", "label", "probabilities"]
    assert row.split()[:2] == ["1", str(answer["outputs"][0]["data"][0])]
    log = re.search(r"^  log +(.*)$", said, re.MULTILINE)
    assert log
    assert Path(log[1]).is_file()
    _stop(process)


def test_a_version_shows_its_golden_sample(
    house: House, tmp_path: Path, shell: dict[str, str]
) -> None:
    publish(house, tmp_path, seed=3)
    process, said = _start(house, "chain")
    (curl,), (predict,) = _lines_to_paste(said)
    assert '"data":[1,1,1,1]' in curl  # the golden sample is ones; a made-up one would be zeros
    assert json.loads(_paste(curl, shell))["outputs"][0]["shape"] == [1, 3]
    assert _paste(predict, shell).splitlines()[0].split() == ["row", "y"]
    _stop(process)


def _wide_model(path: Path) -> Path:
    """Every dtype that an input may have, and one too wide for a line."""
    names = {
        "i64": TensorProto.INT64,
        "u8": TensorProto.UINT8,
        "f64": TensorProto.DOUBLE,
        "flag": TensorProto.BOOL,
        "text": TensorProto.STRING,
        "wide": TensorProto.FLOAT,
    }
    shapes: dict[str, list[str | int | None]] = {name: ["n", 3] for name in names}
    shapes["wide"] = ["n", 3, 30, 30]
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in names]
    graph = helper.make_graph(
        nodes,
        "everything",
        [helper.make_tensor_value_info(n, t, shapes[n]) for n, t in names.items()],
        [helper.make_tensor_value_info(f"{n}_out", t, shapes[n]) for n, t in names.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_request_too_long_for_a_line_is_a_file(
    house: House, tmp_path: Path, shell: dict[str, str]
) -> None:
    process, said = _start(house, _wide_model(tmp_path / "wide model.onnx"))
    assert "serving wide-model at" in said
    (curl,), (predict,) = _lines_to_paste(said)
    assert len(curl) < 300
    answer = json.loads(_paste(curl, shell))
    assert len(answer["outputs"]) == 6
    assert "wide_out" in _paste(predict + " --json", shell)
    _stop(process)


def test_several_models_with_names_and_a_ready_file(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=3)
    model = write_model(tmp_path / "a.onnx")
    ready = tmp_path / "ready.json"
    words: list[str | Path] = [
        model,
        "chain:1",
        model,
        "--name",
        "one",
        "--name",
        "two",
        "--ready-file",
        ready,
    ]
    with house.serving(*words) as server:
        assert server.facts["models"] == ["one", "a", "two"]
        assert json.loads(ready.read_text()) == server.facts
        for name in ("one", "two", "a"):
            assert server.ask(name)[0] == 200
        status, listed, _ = exchange(server.address, "GET", "/")
        assert status == 200
        assert [m["name"] for m in listed["models"]] == ["one", "a", "two"]
        shown = house.dukou("status").stdout
        assert server.url in shown
        assert "chain" not in shown


def test_a_pickle_is_vouched_for_and_converted(house: House, tmp_path: Path) -> None:
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    features, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(features, target)
    path = tmp_path / "iris.joblib"
    joblib.dump(model, path)
    refused = house.dukou("serve", path, "--port", "0")
    assert refused.returncode == 2
    assert "[formats.untrusted-pickle]" in refused.stderr
    assert "--trust-pickle" in refused.stderr
    with house.serving(path, "--trust-pickle") as server:
        rows = json.dumps(features[::30].tolist())
        done = house.dukou("predict", "iris", rows, "--json", "--url", server.url)
        assert done.returncode == 0, done.stderr
        labels = [json.loads(line)["label"] for line in done.stdout.splitlines()]
        assert labels == model.predict(features[::30]).tolist()


def _external(folder: Path, location: str) -> Path:
    path = folder / "external.onnx"
    write_model(path)
    model = onnx.load(str(path))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    path.write_bytes(model.SerializeToString())
    return path


def _unknown_operator(folder: Path) -> Path:
    path = folder / "strange.onnx"
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["x"], ["y"], domain="example.org")],
        "strange",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("example.org", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _cut(folder: Path) -> Path:
    whole = write_model(folder / "whole.onnx").read_bytes()
    return _written(folder / "cut.onnx", whole[: len(whole) // 2])


BAD_FILES: dict[str, tuple[Any, str, str]] = {
    "nothing there": (lambda f: f / "none.onnx", "formats.not-found", "none.onnx"),
    "text": (lambda f: _written(f / "t.onnx", b"hello\n"), "formats.not-a-model", "t.onnx"),
    "text of another name": (
        lambda f: _written(f / "t.xyz", b"hello\n"),
        "formats.not-a-model",
        "t.xyz",
    ),
    "empty": (lambda f: _written(f / "e.onnx", b""), "formats.not-a-model", "empty"),
    "cut": (_cut, "formats.corrupt", "cut.onnx"),
    "weights outside": (
        lambda f: _external(f, "../w.bin"),
        "formats.external-data-outside",
        "../w.bin",
    ),
    "weights missing": (lambda f: _external(f, "w.bin"), "formats.external-data-missing", "w.bin"),
    "operator": (_unknown_operator, "formats.unsupported-operator", "Frobnicate"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_files_that_cannot_be_served(house: House, tmp_path: Path, case: str) -> None:
    make, code, word = BAD_FILES[case]
    done = house.dukou("serve", make(tmp_path), "--port", "0")
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    errors = [line for line in done.stderr.splitlines() if not line.startswith("converting")]
    assert len(errors) == 2, done.stderr
    assert errors[0].startswith("error: ")
    assert errors[0].endswith(f"[{code}]")
    assert word in errors[0]
    assert errors[1].startswith("hint: ")
    # Nothing is left behind.
    assert not list((house.home / "servers").glob("*"))


def test_a_taken_port(house: House, tmp_path: Path) -> None:
    model = write_model(tmp_path / "m.onnx")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = house.dukou("serve", model, "--port", str(port))
    assert done.returncode == 3
    assert f"`127.0.0.1:{port}` is taken by process {os.getpid()}" in done.stderr
    assert "[server.port-in-use]" in done.stderr


@pytest.mark.parametrize(
    ("words", "status", "code", "word"),
    [
        (["--secure", "--insecure"], 2, "usage.invalid", "contradict"),
        (["--tls-key", "/nowhere.key"], 2, "usage.invalid", "--tls-certificate"),
        (["--allow", "localhost"], 2, "usage.invalid", "localhost"),
        (["--host", "nowhere.invalid"], 2, "usage.invalid", "nowhere.invalid"),
        (["--port", "70000"], 2, "usage.invalid", "70000"),
        (["--name", "a/b"], 2, "config.invalid", "a/b"),
        (["--name", "a", "--name", "b"], 2, "usage.invalid", "2 `--name` for 1 models"),
        (["--threads", "0"], 2, "usage.invalid", "between 1 and 256"),
        (["--engine", "/nowhere/engine"], 6, "engine.not-found", "/nowhere/engine"),
        (["--engine", "/bin/false"], 6, "engine.no-start", "ended with status 1"),
        (["--runtime", "/nowhere/lib.so"], 6, "engine.runtime-missing", "/nowhere/lib.so"),
        (["--runtime", "/etc/passwd"], 6, "engine.runtime-missing", "/etc/passwd"),
    ],
)
def test_what_a_server_cannot_be_told(
    house: House, tmp_path: Path, words: list[str], status: int, code: str, word: str
) -> None:
    model = write_model(tmp_path / "m.onnx")
    done = house.dukou("serve", model, *(["--port", "0"] if "--port" not in words else []), *words)
    assert done.returncode == status, done.stderr
    first, second = done.stderr.splitlines()
    assert first.endswith(f"[{code}]")
    assert word in first
    assert second.startswith("hint: ")


def test_errors_as_json(house: House) -> None:
    done = house.dukou("serve", "none.onnx", "--json")
    assert done.returncode == 2
    assert done.stderr == ""
    said = json.loads(done.stdout)
    assert (said["event"], said["code"]) == ("error", "formats.not-found")


def test_what_it_keeps_is_private(house: House, tmp_path: Path) -> None:
    with house.serving(write_model(tmp_path / "m.onnx")) as server:
        engine_socket = Path(server.facts["socket"])
        for path, mode in [
            (house.home, 0o700),
            (engine_socket.parent, 0o700),
            (engine_socket, 0o600),
            (Path(server.facts["log"]), 0o600),
        ]:
            assert stat.S_IMODE(path.stat().st_mode) == mode, path


def test_weights_beside_the_model(house: House, tmp_path: Path) -> None:
    path = _external(tmp_path, "w.bin")
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    (tmp_path / "w.bin").write_bytes(weights.tobytes())
    model = onnx.load(str(path))
    assert np.array_equal(numpy_helper.to_array(model.graph.initializer[0]), weights)
    with house.serving(path) as server:
        status, answer, _ = server.ask("external")
        assert status == 200
        assert answer["outputs"][0]["data"] == [2]


def test_a_folder_of_another_framework(house: House, tmp_path: Path, monkeypatch) -> None:
    """Its plain name is a reference first; where that leads nowhere the way to the folder is said."""
    folder = tmp_path / "saved model"
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    (tmp_path / "saved").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    done = house.dukou("serve", "saved", "--port", "0")
    assert done.returncode == 3
    error, hint = done.stderr.splitlines()
    assert "`saved`" in error and error.endswith("[registry.unknown-model]")
    assert "`dukou serve ./saved` reads what is in it" in hint
    done = house.dukou("serve", "./saved", "--port", "0")
    assert done.returncode == 2
    assert "TensorFlow SavedModel" in done.stderr
