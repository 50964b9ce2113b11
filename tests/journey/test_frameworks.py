"""A Keras and a PyTorch model go the whole line: trained by the page's scripts, shipped, served, asked.

What the endpoint says is what the framework itself says on the same rows.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests import serving
from tests.frameworks import require
from tests.journey.docs_runner import ROOT, read_blocks
from tests.serving import House, exchange

PROJECT = """\
version = 1

[model]
name = "@name@"

[data]
path = "digits.csv"
target = "digit"

[train]
command = "python train.py"
files = ["train.py"]
seed = 7

[evaluate]
cross_validation = 0
bootstrap = 100
gates = ["accuracy >= 0.9"]

# What the endpoint says is compared with the framework's own numbers: nothing may make them better.
[improve]
calibrate = false

[optimize]
passes = ["simplify"]
"""
# Framework → how it is asked, in a process of its own: rows in, answers out.
ASK = {
    "keras": """
import os, sys, warnings
os.environ["KERAS_BACKEND"] = "torch"
warnings.simplefilter("ignore")
import keras, numpy
model = keras.saving.load_model(sys.argv[1], compile=False)
numpy.save(sys.argv[3], model.predict(numpy.load(sys.argv[2]), verbose=0))
""",
    "torch": """
import sys, warnings
warnings.simplefilter("ignore")
import numpy, torch
model = torch.export.load(sys.argv[1]).module()
numpy.save(sys.argv[3], model(torch.from_numpy(numpy.load(sys.argv[2]))).detach().numpy())
""",
}
SUFFIXES = {"keras": "keras", "torch": "pt2"}
ROWS = load_digits().data[::90].astype(np.float32)


@pytest.fixture
def house() -> Iterator[House]:
    with serving.house() as made:
        yield made


def train_script(framework: str) -> str:
    """As docs/frameworks.md has it."""
    scripts = [b.body for b in read_blocks(ROOT / "docs" / "frameworks.md") if b.elsewhere]
    return next(body for body in scripts if f"import {framework}" in body)


def ship(house: House, folder: Path, framework: str) -> np.ndarray[Any, Any]:
    """Ships the project; what the framework itself says of `ROWS`."""
    folder.mkdir()
    (folder / "dukou.toml").write_text(PROJECT.replace("@name@", framework), encoding="utf-8")
    (folder / "train.py").write_text(train_script(framework), encoding="utf-8")
    digits = load_digits()
    header = ",".join([*(f"p{i}" for i in range(64)), "digit"])
    table = np.column_stack([digits.data, digits.target])
    np.savetxt(folder / "digits.csv", table, delimiter=",", header=header, comments="", fmt="%g")
    shipped = house.dukou("ship", folder, timeout_s=280)
    assert shipped.returncode == 0, shipped.stderr
    assert "to ONNX" in shipped.stderr
    left = next((house.home / "cache" / "stages").rglob(f"model.{SUFFIXES[framework]}"))
    np.save(folder / "rows.npy", ROWS)
    command = [sys.executable, "-c", ASK[framework]]
    places = [left, folder / "rows.npy", folder / "said.npy"]
    subprocess.run([*command, *places], check=True, timeout=120)
    said: np.ndarray[Any, Any] = np.load(folder / "said.npy")
    return said


@pytest.mark.timeout(600)
def test_networks_through_the_whole_line(house: House, tmp_path: Path) -> None:
    require("keras", "torch", "onnxscript")
    expected = {name: ship(house, tmp_path / name, name) for name in ASK}
    with house.serving("keras", "torch") as server:
        for name, theirs in expected.items():
            _, signature, _ = exchange(server.address, "GET", f"/v2/models/{name}")
            assert [i["shape"] for i in signature["inputs"]] == [[-1, 64]]
            tensor = {
                "name": signature["inputs"][0]["name"],
                "datatype": "FP32",
                "shape": list(ROWS.shape),
                "data": ROWS.reshape(-1).tolist(),
            }
            status, answer, _ = server.ask(name, json.dumps({"inputs": [tensor]}))
            assert status == 200, answer
            ours = np.reshape(answer["outputs"][0]["data"], theirs.shape)
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)
            assert (ours.argmax(1) == load_digits().target[::90]).mean() > 0.9
