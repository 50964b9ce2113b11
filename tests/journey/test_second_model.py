"""The round of a second real model, quickly: breast cancer, measured by a machine that is calibrated anew.

Shipped, served, watched, judged by labels that come later, found to have drifted, trained again and
promoted by canary under live traffic, with no request that fails.
"""

from __future__ import annotations

import http.client
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from dukou.registry.registry import Registry
from tests import serving
from tests.serving import House, wait_until
from tests.unit.monitor.test_alerts import Receiver

PROJECT = """\
version = 1

[model]
name = "cancer"

[data]
path = "cancer.csv"
target = "benign"

[train]
command = "python train.py"
files = ["train.py"]

[evaluate]
cross_validation = 0
bootstrap = 200
gates = ["accuracy >= 0.8"]

[optimize]
passes = []

[deploy]
strategy = "canary"

[deploy.canary]
steps = [50, 100]
min_seconds = 2
min_requests = 30

[monitor]
capture = true
window_rows = 120
webhook = "@webhook@"

[privacy]
fields = { "*" = "keep" }

[retrain]
min_labels = 100
"""
TRAIN = """\
import os
import pathlib

import joblib
import pandas
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rows = pandas.read_csv(os.environ["DUKOU_DATA"])
target = rows.pop(os.environ["DUKOU_TARGET"])
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
model.fit(rows.to_numpy("float32"), target)
joblib.dump(model, pathlib.Path(os.environ["DUKOU_OUTPUT"]) / "model.joblib")
"""


class Clinic:
    """Sends rows as its machine measures them, and the truth when it is known."""

    def __init__(self, house: House, address: tuple[str, int], folder: Path) -> None:
        found = load_breast_cancer()
        self.rows, self.truth = found.data.astype(np.float32), found.target
        self.house, self.folder = house, folder
        self.connection = http.client.HTTPConnection(*address, timeout=20)
        self.chance = np.random.default_rng(5)
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self.files = 0

    def measure(self, index: int, scale: float) -> list[float]:
        """Lengths and areas (the first of three groups of ten, and the last) come out larger."""
        row = self.rows[index].copy()
        row[[0, 2, 3, 20, 22, 23]] *= scale
        return row.tolist()

    def ask_all(self, scale: float) -> float:
        """Gives the accuracy over every row once, so that two models are asked the same."""
        return self.ask(scale, range(len(self.rows)))[0]

    def send(self, scale: float, rows: int, *, label: bool = True) -> None:
        """Sends rows drawn by chance, and their labels."""
        _, lines = self.ask(scale, self.chance.integers(len(self.rows), size=rows))
        if label:
            self.files += 1
            file = self.folder / f"labels-{self.files}.csv"
            file.write_text("\n".join(lines) + "\n", encoding="utf-8")
            done = self.house.dukou("labels", "add", file, "--model", "cancer")
            assert done.returncode == 0, done.stderr
            assert f"{rows} labels of `cancer` added" in done.stdout

    def ask(self, scale: float, indices: Iterable[int]) -> tuple[float, list[str]]:
        """Gives the accuracy of what was answered, and the lines of a file of labels."""
        lines, right = ["request_id,label"], 0
        for index in indices:
            row = self.measure(index, scale)
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 30], "data": row}
            body = json.dumps({"inputs": [tensor]})
            self.connection.request("POST", "/v2/models/cancer/infer", body)
            answer = self.connection.getresponse()
            document = json.loads(answer.read())
            self.statuses[answer.status] += 1
            self.versions[answer.headers["dukou-version"]] += 1
            said = next(o for o in document["outputs"] if o["name"] == "label")["data"][0]
            right += int(said) == self.truth[index]
            lines.append(f"{answer.headers['dukou-request-id']},{self.truth[index]}")
        return right / (len(lines) - 1), lines


def windows(house: House) -> list:
    with Registry.open(house.home) as registry:
        return registry.windows.list("cancer", "drift")


@pytest.mark.timeout(400)
def test_a_second_model_goes_all_the_way_round(tmp_path: Path) -> None:
    with serving.house() as house, Receiver() as receiver:
        folder = tmp_path / "cancer"
        folder.mkdir()
        found = load_breast_cancer()
        names = [name.replace(" ", "_") for name in found.feature_names]
        lines = [",".join([*names, "benign"])]
        lines += [
            ",".join([*map(str, row), str(truth)])
            for row, truth in zip(found.data, found.target, strict=True)
        ]
        (folder / "cancer.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / "train.py").write_text(TRAIN, encoding="utf-8")
        project = PROJECT.replace("@webhook@", receiver.url)
        (folder / "dukou.toml").write_text(project, encoding="utf-8")
        shipped = house.dukou("ship", folder, timeout_s=150)
        assert shipped.returncode == 0, shipped.stderr
        with house.serving("cancer") as server:
            clinic = Clinic(house, server.address, tmp_path)
            clinic.send(1.0, 130)
            wait_until(lambda: len(windows(house)) >= 1, "a quiet window", 60)
            assert not windows(house)[0].alarm
            assert house.dukou("retrain", folder, "--if-due").stdout == "nothing is due\n"
            clinic.send(1.35, 260)
            wait_until(lambda: any(w.alarm for w in windows(house)), "the drift", 60)
            wait_until(lambda: bool(receiver.got), "the alert", 60)
            assert receiver.got[0]["model"] == "cancer"
            assert receiver.got[0]["found"]["moved"] >= 4
            status = ""

            def judged() -> bool:
                nonlocal status
                status = house.dukou("status").stdout
                return "quality of cancer: accuracy" in status

            wait_until(judged, "the quality", 60)
            assert "drift of cancer:1: ALARM" in status
            worse = clinic.ask_all(1.35)
            again = house.dukou("retrain", folder, "--if-due", timeout_s=150)
            assert again.returncode == 0, again.stderr
            assert again.stdout.startswith("version 2, from 390 labelled requests")
            rollout = None

            def over() -> bool:
                nonlocal rollout
                clinic.send(1.35, 20, label=False)
                with Registry.open(house.home) as registry:
                    rollout = registry.rollouts.list("cancer", limit=1)[0]
                return rollout.status != "running"

            wait_until(over, "the rollout's end", 60)
            assert rollout is not None
            assert rollout.status == "promoted", rollout.evidence
            after = clinic.ask_all(1.35)
            clinic.connection.close()
            print(f"machine set anew {worse:.3f}, retrained {after:.3f}")
            assert after >= worse + 0.02
            assert set(clinic.statuses) == {200}, "no request fails meanwhile"
            assert clinic.versions["2"] >= 200
            advice = house.dukou("logs", "cancer", "--since", "all").stdout.splitlines()[-1]
            assert advice.startswith("advice: ")
