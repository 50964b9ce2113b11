"""A model in stages, served both ways: the answers are the whole's, and no process holds more than its part."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests import serving
from tests.graphs import make_model
from tests.serving import House, RunningServer

WIDTH, LAYERS = 1024, 16  # 64 MiB of weights
ROWS = np.random.default_rng(3).standard_normal((3, WIDTH)).astype(np.float32)


@pytest.fixture
def house() -> Iterator[House]:
    with serving.house() as made:
        yield made


def write_model(path: Path) -> None:
    """Layers with a skip from the first to the last, so that one tensor goes past a stage."""
    rng, nodes, weights, at = np.random.default_rng(0), [], {}, "x"
    for layer in range(LAYERS):
        weights[f"w{layer}"] = rng.standard_normal((WIDTH, WIDTH), np.float32) / np.float32(32)
        nodes.append(helper.make_node("MatMul", [at, f"w{layer}"], [f"s{layer}"]))
        nodes.append(helper.make_node("Tanh", [f"s{layer}"], [f"h{layer}"]))
        at = f"h{layer}"
    nodes.append(helper.make_node("Add", [at, "h0"], ["y"]))
    proto = make_model(
        nodes,
        [("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [("y", TensorProto.FLOAT, ["batch", WIDTH])],
        weights=weights,
    )
    onnx.save(proto, str(path), save_as_external_data=True, location="deep.weights")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(server: RunningServer) -> np.ndarray[Any, Any]:
    tensor = {
        "name": "x",
        "datatype": "FP32",
        "shape": list(ROWS.shape),
        "data": ROWS.reshape(-1).tolist(),
    }
    status, document, _ = server.ask("deep", json.dumps({"inputs": [tensor]}))
    assert status == 200, document
    assert [output["name"] for output in document["outputs"]] == ["y"]
    return np.reshape(document["outputs"][0]["data"], ROWS.shape)


def resident_bytes(server: RunningServer) -> int:
    """Of the engine, a child of the supervisor."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text(encoding="utf-8")
        except OSError:
            continue
        lines = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        if int(lines["PPid"]) == server.process.pid and lines["Name"].startswith("dukou-engine"):
            parents[int(lines["Pid"])] = int(lines["VmRSS"].split()[0]) * 1024
    assert len(parents) == 1
    return next(iter(parents.values()))


@pytest.mark.timeout(240)
def test_stages_in_one_engine_and_in_engines_of_their_own(house: House, tmp_path: Path) -> None:
    write_model(tmp_path / "deep.onnx")
    with house.serving(tmp_path / "deep.onnx") as whole:
        expected = ask(whole)
        whole_bytes = resident_bytes(whole)

    ports = [free_port(), free_port()]
    engines = [word for port in ports for word in ("--engine", f"http://127.0.0.1:{port}")]
    folder = tmp_path / "split"
    done = house.dukou(
        "split", tmp_path / "deep.onnx", "--stages", "2", "--output", folder, *engines, "--json"
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["largest_difference"] <= 1e-5
    assert 0.5 <= told["share"] <= 0.6
    assert all(stage["golden"] for stage in told["stages"])

    with house.serving(folder / "one-engine.toml") as server:
        np.testing.assert_allclose(ask(server), expected, rtol=1e-5, atol=1e-5)

    first = folder / "stage-1" / "graph.onnx"
    second = folder / "stage-2" / "graph.onnx"
    with (
        house.serving(first, "--name", "deep-stage-1", port=ports[0]) as one,
        house.serving(second, "--name", "deep-stage-2", port=ports[1]) as two,
        house.serving(folder / "front.toml") as front,
    ):
        np.testing.assert_allclose(ask(front), expected, rtol=1e-5, atol=1e-5)
        # What every engine has, whatever it serves, is what the front has.
        bare = resident_bytes(front)
        assert bare < 0.65 * whole_bytes
        for stage in (one, two):
            assert resident_bytes(stage) - bare <= 0.65 * (whole_bytes - bare) + 8e6


def test_what_is_refused(house: House, tmp_path: Path) -> None:
    path = serving.write_model(tmp_path / "m.onnx")
    for words, code in (
        (("--stages", "1"), "split.impossible"),
        (("--stages", "90"), "split.impossible"),
        (("--stages", "2", "--engine", "http://127.0.0.1:1"), "usage.invalid"),
    ):
        done = house.dukou("split", path, "--output", tmp_path / "split", *words)
        assert done.returncode == 2
        assert f"[{code}]" in done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "split").exists()
