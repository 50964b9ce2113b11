"""With a key nothing that is called sealed lies in clear: every file of the home is searched for what was planted."""

from __future__ import annotations

import csv
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pytest
from onnx import numpy_helper

from dukou.base.errors import TrustError
from dukou.lifecycle.backup import open_backups, take_backup, verify_backup
from dukou.lifecycle.champion import open_champion
from dukou.lifecycle.encryption import rotate, survey
from dukou.lifecycle.project import load_project
from dukou.lifecycle.results import kept_results
from dukou.lifecycle.retrain import Trigger, retrain
from dukou.lifecycle.runner import ship
from dukou.monitor.store import CaptureStore
from dukou.package.memory import is_in_memory, memory_scope
from dukou.package.package import package_model
from dukou.package.store import Store
from dukou.package.unpack import open_version
from dukou.registry.registry import Registry
from dukou.trust.keyring import EncryptionKey, Keyring, create_key, key_path, write_key_file
from dukou.trust.keys import load_or_create_signing_key, load_trust_store
from tests.artifacts import make_layers, make_model
from tests.registry_house import move_alias
from tests.serving import House, house, wait_until
from tests.unit.monitor.test_store import tapped

KEPT = {"name": "chain", "capture": {}, "privacy": {"fields": {"*": "keep"}}}
DEPLOYMENT = {"version": 1, "name": "chain", "models": [KEPT]}
# Numbers that stand nowhere else, as text and as the bytes of a float.
PLANTED = ["0.7351928", "-3.1928375"]

PROJECT = """\
version = 1

[model]
name = "planted"

[data]
path = "data.csv"
target = "y"

[train]
command = "python train.py"
files = ["train.py"]

[evaluate]
cross_validation = 0
bootstrap = 100

[optimize]
passes = []

[package]
encrypt = true

[privacy]
fields = { "*" = "keep" }
"""
# A linear classifier of two features, its weights found by least squares.
TRAIN = """\
import csv, os
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper

rows = list(csv.DictReader(open(os.environ["DUKOU_DATA"], newline="")))
x = np.array([[float(r["a"]), float(r["b"]), 1.0] for r in rows])
y = np.array([1.0 if r["y"] == "1" else -1.0 for r in rows])
w = np.linalg.lstsq(x, y, rcond=None)[0]
weights = np.zeros((2, 300), np.float32)
weights[:, 0], weights[:, 1] = -w[:2], w[:2]
bias = np.full(300, -100, np.float32)
bias[:2] = -w[2], w[2]
nodes = [
    helper.make_node("Gemm", ["x", "w", "b"], ["all"]),
    helper.make_node("Slice", ["all", "from", "to", "axis"], ["scores"]),
    helper.make_node("ArgMax", ["scores"], ["label"], axis=-1, keepdims=0),
]
constants = {"from": [0], "to": [2], "axis": [1]}
held = [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in constants.items()]
held += [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")]
graph = helper.make_graph(
    nodes, "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
    [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])],
    held,
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, os.path.join(os.environ["DUKOU_OUTPUT"], "model.onnx"))
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    monkeypatch.delenv("DUKOU_ENCRYPTION_KEY", raising=False)
    with house() as made, memory_scope():
        yield made


def found_in(home: Path, planted: dict[str, bytes]) -> list[str]:
    """Which of the planted bytes lie in which files."""
    found = []
    for path in home.rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            found += [f"{name} in {path}" for name, one in planted.items() if one in content]
    return found


def tensor(rows: np.ndarray) -> str:
    return json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": list(rows.shape),
                    "data": [float(value) for value in rows.ravel()],
                }
            ]
        }
    )


def planted_row() -> np.ndarray:
    return np.array([[float(text) for text in PLANTED]], np.float32)


def planted_requests(count: int) -> pa.Table:
    """Requests as the tap gives them, of the planted row."""
    lines = tapped(0, count).to_pylist()
    for line in lines:
        if line["direction"] == "input":
            line["bytes"] = planted_row().tobytes()
    return pa.Table.from_pylist(lines)


def test_a_served_version_and_what_callers_send_lie_nowhere_in_clear(
    place: House, tmp_path: Path
) -> None:
    key, _ = create_key(place.home)
    # Large enough that its weights would be shared through the compiled cache.
    layers = make_layers(64, 8192, 64)
    packaged = package_model(
        make_model(tmp_path / "m", *layers),
        Store(place.home / "store"),
        name="chain",
        signer=load_or_create_signing_key(place.home),
        keyring=Keyring.of(key),
    )
    with Registry.open(place.home) as registry:
        registry.register_version("chain", packaged.digest)
        registry.put_deployment("chain", DEPLOYMENT, expected=0)
    move_alias(place, 1)
    row = np.zeros((1, 64), np.float32)
    row[:, :2] = planted_row()
    planted = {f"weights {i}": layer.tobytes()[4096:4160] for i, layer in enumerate(layers)}
    planted |= {"a row": row[0, :2].tobytes(), "a label": b"planted-label"}
    planted |= {text: text.encode() for text in PLANTED}
    with place.serving("chain") as server:
        status, answer, headers = server.ask("chain", tensor(row))
        assert status == 200, answer
        expected = row @ layers[0] @ layers[1]
        np.testing.assert_allclose(answer["outputs"][0]["data"], expected[0], rtol=1e-3, atol=1e-2)
        store = CaptureStore(place.home, "chain")
        wait_until(lambda: store.read().rows == 1, "the captured row")
        assert store.read().inputs["x"][0, :2].tolist() == row[0, :2].tolist()
        labels = tmp_path / "labels.csv"
        labels.write_text(f"request_id,label\n{headers['dukou-request-id']},planted-label\n")
        assert place.dukou("labels", "add", labels, "--model", "chain").returncode == 0
        engine = server.status()["engine"]["pid"]
        limits = Path("/proc", str(engine), "limits").read_text()
        assert "Max core file size        0                    0" in limits
        assert found_in(place.home, planted) == []
        # The engine is killed: it comes back with its last table, alone, and with the key.
        os.kill(engine, signal.SIGKILL)
        wait_until(lambda: server.ask("chain", tensor(row))[0] == 200, "the engine again")
        assert server.status()["engine"]["pid"] != engine
        assert found_in(place.home, planted) == []
    assert found_in(place.home, planted) == []
    clear = {holding.place: holding.clear for holding in survey(place.home)}
    assert clear == dict.fromkeys(clear, 0)
    # A retraining starts from it, and a backup of it is proved, without a disk.
    champion = open_champion(place.home, "chain", 1, packaged.digest)
    assert is_in_memory(champion.warm_start)
    backups = open_backups(place.home, tmp_path / "backups")
    take_backup(place.home, backups)
    assert verify_backup(place.home, backups).found["versions"] == {"chain:1": 1}
    assert found_in(place.home, planted) == []
    assert found_in(tmp_path / "backups", planted) == []
    # Without the key it is not served, and says what is missing.
    key_path(place.home).rename(place.home / "keys" / "aside")
    done = place.dukou("serve", "chain", "--json", "--port", "0")
    assert done.returncode == 4
    assert "trust.no-encryption-key" in done.stdout + done.stderr
    write_key_file(key_path(place.home), Keyring.of(EncryptionKey.generate()), replace=False)
    done = place.dukou("serve", "chain", "--json", "--port", "0")
    assert done.returncode == 4
    assert "trust.wrong-encryption-key" in done.stdout + done.stderr


def test_a_whole_run_of_a_project_leaves_rows_and_weights_nowhere_in_clear(
    place: House, tmp_path: Path
) -> None:
    home, folder = place.home, tmp_path / "project"
    folder.mkdir()
    (folder / "dukou.toml").write_text(PROJECT)
    (folder / "train.py").write_text(TRAIN)
    chance = np.random.default_rng(5)
    points = chance.normal(size=(120, 2)).round(6)
    points[:40, 0], points[:40, 1] = float(PLANTED[0]), float(PLANTED[1])
    points[:40] += chance.normal(size=(40, 2)).round(3) * [[0, 1]]
    with (folder / "data.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "y"])
        writer.writerows([a, b, int(a + b > 0)] for a, b in points.tolist())
    project = load_project(folder)
    with pytest.raises(TrustError) as caught:
        ship(project, home)
    assert caught.value.code == "trust.no-encryption-key"
    assert not list(kept_results(home)), "said before anything was trained"
    create_key(home)
    searched: list[str] = []

    def search(_said: str) -> None:
        searched.extend(found_in(home, {text: text.encode() for text in PLANTED}))

    digest = ship(project, home, say=search).digest
    assert digest is not None

    model = open_version(Store(home / "store"), digest, load_trust_store(home))
    weights = {
        one.name: numpy_helper.to_array(one)
        for one in onnx.load(str(model.graph)).graph.initializer
    }
    planted = {"weights": weights["w"].tobytes()[:8], "a row": PLANTED[0].encode()}
    assert weights["w"][0, 0] != 0
    assert found_in(home, planted) == []
    # A second run takes what the first has kept, sealed as it is.
    again = ship(project, home)
    assert again.digest == digest
    assert sum(result.cached for result in again.results.values()) >= 4
    assert found_in(home, planted) == []
    clear = {holding.place: holding.clear for holding in survey(home)}
    assert {name for name, count in clear.items() if count} == {"run records"}
    # After a rotation everything opens by the new key, and the version is the same.
    assert rotate(home).turned >= 5
    last = ship(project, home)
    assert last.digest == digest
    assert sum(result.cached for result in last.results.values()) >= 4
    # Labelled requests join the rows of a retraining, which starts from the champion.
    captures = CaptureStore(home, "planted")
    captures.append(planted_requests(30))
    captures.add_labels({f"{number:016x}:0": "0" for number in range(30)})
    done = retrain(project, home, trigger=Trigger("asked for", "person"), say=search)
    assert (done.refused, done.labelled) == ("", 30)
    assert done.version == 2
    planted["a captured row"] = planted_row().tobytes()
    assert found_in(home, planted) == []
    assert searched == [], "nor while it went on"
