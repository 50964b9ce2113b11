"""Unattended: digits that slowly turn, a server, a watcher. What is served keeps up, the first does not."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import rotate
from sklearn.datasets import load_digits

from dukou.registry.registry import Registry
from tests import serving
from tests.serving import House

PROJECT = """\
version = 1

[model]
name = "digits"

[data]
path = "data/digits.csv"
target = "digit"

[train]
command = "python train.py"
files = ["train.py"]

[evaluate]
cross_validation = 0
bootstrap = 200
gates = ["accuracy >= 0.7"]

[optimize]
passes = []

[deploy]
strategy = "canary"

[deploy.canary]
steps = [50, 100]
min_seconds = 2
min_requests = 40

[monitor]
capture = true
window_rows = 150

[privacy]
fields = { "*" = "keep" }

[retrain]
min_labels = 150
recent_rows = 600
"""
# Degrees, phase by phase: slowly enough that each is learnt from before the next is there.
ANGLES = [0, 15, 30, 45]
ROWS_A_PHASE = 240


class Stream:
    """Callers that send turned digits and tell the truth a little later, as a team's labels come."""

    def __init__(self, house: House, address: tuple[str, int], folder: Path) -> None:
        self.house, self.address, self.folder = house, address, folder
        digits = load_digits()
        self.images, self.truth = digits.images, digits.target
        self.chance = np.random.default_rng(3)
        self.statuses: Counter[int] = Counter()
        self.versions: Counter[str] = Counter()
        self.files = 0
        self.connection = http.client.HTTPConnection(*address, timeout=20)

    def turned(self, index: int, angle: float) -> np.ndarray:
        image = rotate(self.images[index], angle, reshape=False, order=1)
        return np.clip(image.ravel().round(), 0, 16)

    def send(self, angle: float, rows: int) -> float:
        """So many requests of a row each, then their labels; gives the served accuracy."""
        lines, right = ["request_id,label"], 0
        for index in self.chance.integers(len(self.images), size=rows):
            row = self.turned(index, angle)
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 64], "data": row.tolist()}
            body = json.dumps({"inputs": [tensor]})
            self.connection.request("POST", "/v2/models/digits/infer", body)
            answer = self.connection.getresponse()
            document = json.loads(answer.read())
            self.statuses[answer.status] += 1
            self.versions[answer.headers["dukou-version"]] += 1
            outputs = {output["name"]: output["data"] for output in document["outputs"]}
            right += int(outputs["label"][0]) == self.truth[index]
            lines.append(f"{answer.headers['dukou-request-id']},{self.truth[index]}")
            time.sleep(0.002)
        self.files += 1
        file = self.folder / f"labels-{self.files}.csv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        done = self.house.dukou("labels", "add", file, "--model", "digits")
        assert done.returncode == 0, done.stderr
        return right / rows


@pytest.mark.timeout(900)
def test_what_is_served_keeps_up_with_a_stream_that_turns(tmp_path: Path) -> None:
    with serving.house() as house:
        folder = tmp_path / "digits"
        assert house.dukou("init", folder, "--example", "digits").returncode == 0
        (folder / "dukou.toml").write_text(PROJECT, encoding="utf-8")
        # A small network: minutes are not what this shows.
        train = (folder / "train.py").read_text(encoding="utf-8")
        train = train.replace("(512, 256)", "(64,)").replace("max_iter=60", "max_iter=40")
        (folder / "train.py").write_text(train, encoding="utf-8")
        shipped = house.dukou("ship", folder, timeout_s=150)
        assert shipped.returncode == 0, shipped.stderr
        log_file = (tmp_path / "watcher.log").open("w")
        watcher = subprocess.Popen(
            [sys.executable, "-m", "dukou", "retrain", str(folder), "--watch", "--poll", "1s"],
            env=house.environment,
            stderr=log_file,
        )
        try:
            with house.serving("digits") as server, contextlib.ExitStack() as stack:
                stream = Stream(house, server.address, tmp_path)
                stack.callback(stream.connection.close)
                for angle in ANGLES:
                    print(f"{angle}°: served {stream.send(angle, ROWS_A_PHASE):.3f}")
                    _settle(house, stream, angle)
                served = np.mean([stream.send(ANGLES[-1], 150) for _ in range(2)])
                frozen = _frozen(house, stream, ANGLES[-1])
                status = house.dukou("status")
                drift = house.dukou("drift", "digits", "--windows", "1000")
        finally:
            watcher.send_signal(signal.SIGTERM)
            watcher.wait(30)
            log_file.close()
        log = (tmp_path / "watcher.log").read_text(encoding="utf-8")
        print(log)
        with Registry.open(house.home) as registry:
            done = registry.chores.list("digits", "retrain")
            versions = registry.versions("digits")
        print(
            f"served {served:.3f}, frozen {frozen:.3f}, {len(versions)} versions, {stream.versions}"
        )
        assert set(stream.statuses) == {200}, "no request fails meanwhile"
        assert served >= frozen + 0.05
        assert {entry.document["kind"] for entry in done} == {"drift"}
        published = [entry for entry in done if entry.document["version"]]
        assert len(published) >= 2
        report = Path(published[-1].document["record"]) / "report.html"
        page = report.read_text(encoding="utf-8")
        assert "had nobody retrained it" in page
        assert "ALARM" in drift.stdout
        assert "accuracy" in status.stdout


def _settle(house: House, stream: Stream, angle: float) -> None:
    """Goes on asking until no retraining is due and no rollout runs: the stream turns slowly."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        with Registry.open(house.home) as registry:
            alarms = [w for w in registry.windows.list("digits", "drift") if w.alarm]
            done = registry.chores.list("digits", "retrain")
            seen = done[-1].document["window"] if done else 0
            running = registry.rollouts.running("digits")
        if running is None and all(alarm.id <= seen for alarm in alarms):
            return
        stream.send(angle, 60)


def _frozen(house: House, stream: Stream, angle: float) -> float:
    """How right the first version is on what comes now."""
    from dukou.evaluate.predict import predict_classes
    from dukou.lifecycle.champion import open_champion

    with Registry.open(house.home) as registry:
        first = registry.versions("digits")[0]
    model = open_champion(house.home, "digits", first.number, first.digest).model
    rows = np.arange(0, len(stream.images), 3)
    images = np.stack([stream.turned(index, angle) for index in rows]).astype(np.float32)
    said = predict_classes(model, {f"p{i}": images[:, i] for i in range(64)}).names()
    return float((said == stream.truth[rows].astype(str)).mean())
