"""A model that is too sure of itself goes the whole line, and the engine serves what was proved of it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from dukou.base.errors import InputError
from dukou.evaluate.data import load_table
from dukou.evaluate.predict import run_model
from dukou.evaluate.scaling import Scaling
from dukou.lifecycle.keep import load_model
from dukou.lifecycle.project import load_project
from dukou.lifecycle.runner import ship
from dukou.registry.registry import Registry
from tests import serving
from tests.serving import House

PROJECT = """\
version = 1

[model]
name = "tissue"

[data]
path = "data.csv"
target = "finding"
test_fraction = 0.4

[train]
command = "python train.py"
files = ["train.py"]

[evaluate]
cross_validation = 0
bootstrap = 200

[improve]
objective = "recall[malignant]"
accuracy_budget = 0.1

[optimize]
passes = []
"""
TRAIN = """\
import csv, os
from pathlib import Path
import joblib
import numpy as np
from sklearn.naive_bayes import GaussianNB

with open(os.environ["DUKOU_DATA"]) as file:
    rows = list(csv.DictReader(file))
truth = [row.pop(os.environ["DUKOU_TARGET"]) for row in rows]
features = np.array([list(map(float, row.values())) for row in rows], dtype=np.float32)
joblib.dump(GaussianNB().fit(features, truth), Path(os.environ["DUKOU_OUTPUT"]) / "model.joblib")
"""


def _write_project(folder: Path) -> None:
    folder.mkdir()
    data = load_breast_cancer()
    with (folder / "data.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"m{i}" for i in range(data.data.shape[1])), "finding"])
        for row, kind in zip(data.data, data.target, strict=True):
            writer.writerow([*map(repr, row.tolist()), data.target_names[kind]])
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    (folder / "dukou.toml").write_text(PROJECT, encoding="utf-8")


def _change(folder: Path, old: str, new: str) -> None:
    text = (folder / "dukou.toml").read_text(encoding="utf-8")
    assert old in text
    (folder / "dukou.toml").write_text(text.replace(old, new), encoding="utf-8")


def _ask(house: House, rows: np.ndarray) -> dict[str, np.ndarray]:
    with house.serving("tissue") as server:
        tensor = {
            "name": "x",
            "datatype": "FP32",
            "shape": list(rows.shape),
            "data": rows.reshape(-1).tolist(),
        }
        status, document, _ = server.ask("tissue", json.dumps({"inputs": [tensor]}))
    assert status == 200, document
    return {
        output["name"]: np.array(output["data"]).reshape(output["shape"])
        for output in document["outputs"]
    }


@pytest.mark.timeout(240)
def test_what_is_proved_is_served(tmp_path: Path) -> None:
    with serving.house() as house:
        folder = tmp_path / "tissue"
        _write_project(folder)
        said: list[str] = []
        shipped = ship(load_project(folder), house.home, say=said.append)
        [line] = [text for text in said if text.startswith("improve ")]
        assert line.startswith("improve   log_loss 0.") and line.count(", kept") == 2
        results = shipped.results
        improve, before = results["improve"].facts, results["evaluate"].facts
        assert [c["kept"] for c in improve["candidates"]] == [True, True]
        # Every later stage has the improved model and its evaluation.
        after = improve["evaluation"]
        assert after["metrics"]["log_loss"]["value"] < before["metrics"]["log_loss"]["value"] - 0.2
        assert (
            after["per_class"]["malignant"]["recall"]["value"]
            > before["per_class"]["malignant"]["recall"]["value"]
        )
        with Registry.open(house.home) as registry:
            [version] = registry.versions("tissue")
        assert version.metrics["log_loss"] == after["metrics"]["log_loss"]["value"]
        chosen = load_model(results["optimize"].folder / "chosen")
        assert "calibrate scale" in chosen.lineage.steps[-1]
        report = shipped.report.read_text(encoding="utf-8")
        assert "Improvement after the evaluation" in report and "Kept: log loss" in report
        # The engine says what NumPy makes of the model's own answers.
        held_out = load_table(results["data"].folder / "test.csv").split_target("finding")
        converted = load_model(results["convert"].folder / "model")
        own = run_model(converted, held_out.features)["probabilities"]
        wanted = Scaling.from_json(improve["scaling"]).apply(own, "probabilities")
        rows = np.stack(list(held_out.features.values()), axis=1).astype(np.float32)
        served = _ask(house, rows)
        np.testing.assert_allclose(served["probabilities"], wanted, atol=1e-6)
        sure = np.abs(wanted[:, 1] - improve["threshold"]) > 1e-5
        assert improve["labels"] == ["benign", "malignant"] and sure.sum() > 200
        labels = np.where(wanted[:, 1] >= improve["threshold"], "malignant", "benign")
        assert (served["label"] == labels)[sure].all()
        # A gate holds for what would be served: the recall was bought with accuracy.
        accuracy = after["metrics"]["accuracy"]["value"]
        middle = (accuracy + before["metrics"]["accuracy"]["value"]) / 2
        assert accuracy < middle
        _change(folder, "bootstrap = 200", f'bootstrap = 200\ngates = ["accuracy >= {middle:.4f}"]')
        with pytest.raises(InputError, match=f"fails: {accuracy:.4f}"):
            ship(load_project(folder), house.home, until="gates")
        # What makes no sense for this model is one sentence.
        _change(folder, "recall[malignant]", "recall[sick]")
        done = house.dukou("ship", folder, "--until", "improve")
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert "about the class `sick`, the model's are `benign`, `malignant`" in done.stderr
        assert "[improve.cannot-apply]" in done.stderr
