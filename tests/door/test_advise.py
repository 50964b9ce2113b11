"""`dukou advise` with the real engine, on two real models; what it writes is what is served then."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from tests.serving import House, write_model

from dukou.deploy.document import PROFILES
from dukou.lifecycle.project import load_project
from dukou.serve.local_api import LocalApi

TRAIN = """\
import os
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

rows = np.loadtxt(os.environ["DUKOU_DATA"], delimiter=",", skiprows=1, dtype=np.float32)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
model.fit(rows[:, :-1], rows[:, -1].astype(np.int64))
joblib.dump(model, Path(os.environ["DUKOU_OUTPUT"]) / "model.joblib")
"""

PROJECT = """\
# A tumour is benign or not.
version = 1
[model]
name = "tumours"
[data]
path = "tumours.csv"
target = "benign"
[train]
command = "python train.py"
files = ["train.py"]
[evaluate]
cross_validation = 0
bootstrap = 100
[optimize]
passes = ["simplify"]
[deploy]
alias = "champion"  # moves
instances = 5       # from before
"""


def advise(house: House, *words: str | Path, wait_s: float = 250) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "dukou", "advise", *map(str, words), "--seconds", "0.2"],
        env=house.environment,
        capture_output=True,
        text=True,
        timeout=wait_s,
        check=False,
    )


@pytest.mark.timeout(300)
def test_digits_as_a_bare_model(house: House, tmp_path: Path) -> None:
    pixels, digits = load_digits(return_X_y=True)
    model = make_pipeline(MinMaxScaler(), LogisticRegression(max_iter=300)).fit(pixels, digits)
    joblib.dump(model, tmp_path / "digits.joblib")
    demand = ["--rps", "5", "--p99", "30s", "--memory", "2g", "--where", "container"]
    done = advise(house, tmp_path / "digits.joblib", "--trust-pickle", *demand, "--json")
    assert done.returncode == 0, done.stderr
    assert "measuring digits" in done.stderr
    found = json.loads(done.stdout)
    assert (found["model"], found["recommended"], found["meets"]) == ("digits", "container", True)
    assert [s["profile"] for s in found["strategies"]] == list(PROFILES)
    measured = found["measured"]
    assert measured["capacity_rps"] == measured["cpus"] * 1e6 / measured["cpu_us"]
    assert 0 < measured["reached_rps"] < measured["capacity_rps"] * 1.5
    assert 10 << 20 < measured["memory_bytes"] < 2 << 30
    assert measured["size_bytes"] > 64 * 10 * 4
    assert measured["first_start_s"] > 0 and measured["start_s"] > 0
    for point in measured["points"]:
        assert point["failed"] == 0
        assert 0 < point["p50_ms"] <= point["p99_ms"]
    forms = {form["name"]: form for form in measured["forms"]}
    assert forms["original"]["served"] and forms["original"]["alone_us"] > 0
    assert "calibrate" in forms["int8-static"]["note"]
    assert found["deploy"] == {
        "profile": "container",
        "replicas": 1,
        "instances": 1,
        "deadline": "300000ms",
        "memory": "2g",
    }
    assert (found["wrote"], found["diff"]) == (None, "")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "clinic"
    folder.mkdir()
    data = load_breast_cancer()
    lines = [",".join([*(f"f{i}" for i in range(30)), "benign"])]
    lines += [
        ",".join([*map(str, row), str(truth)])
        for row, truth in zip(data.data, data.target, strict=True)
    ]
    (folder / "tumours.csv").write_text("\n".join(lines) + "\n")
    (folder / "train.py").write_text(TRAIN)
    (folder / "dukou.toml").write_text(PROJECT)
    return folder


@pytest.mark.timeout(300)
def test_a_project_is_written_shipped_and_served(house: House, project: Path) -> None:
    file = project / "dukou.toml"
    demand = ["--rps", "1", "--p99", "20s", "--memory", "2g"]
    shown = advise(house, project, *demand)
    assert shown.returncode == 0, shown.stderr
    assert file.read_text() == PROJECT, "nothing is written unless it is asked for"
    for words in (
        "strategies",
        "→ centralized",
        "carried out by `dukou serve tumours`",
        "✓ p99:",
        "recommended: centralized, one engine",
        '+deadline = "200000ms"',
        "-instances = 5       # from before",
        "nothing is changed yet: `--write` writes it",
    ):
        assert words in shown.stdout, shown.stdout
    # But for the path, whose length is the user's own.
    lines = [line for line in shown.stdout.splitlines() if "the project in `" not in line]
    assert max(map(len, lines)) <= 120

    wrote = advise(house, project, *demand, "--write")
    assert wrote.returncode == 0, wrote.stderr
    assert "written: `dukou ship` makes it hold" in wrote.stdout
    assert "# A tumour is benign or not." in file.read_text()
    assert tomllib.loads(file.read_text())["deploy"] == {
        "alias": "champion",
        "profile": "centralized",
        "replicas": 1,
        "deadline": "200000ms",
        "memory": "2g",
    }
    assert load_project(project).deploy.deadline_ms == 200_000

    shipped = house.dukou("ship", project)
    assert shipped.returncode == 0, shipped.stderr
    with house.serving(project) as server:
        table = LocalApi(Path(server.facts["socket"])).table()
        assert table is not None
        assert table["models"][0]["limits"]["deadline_ms"] == 200_000
        row = json.dumps([load_breast_cancer().data[0].tolist()])
        asked = house.dukou("predict", "tumours", row, "--url", server.url, "--json")
        assert asked.returncode == 0, asked.stderr
        assert json.loads(asked.stdout)["label"] == 0
        assert "of the 2g allowed" in house.dukou("status").stdout


@pytest.mark.parametrize(
    ("words", "status", "code", "said"),
    [
        (["none.onnx"], 2, "formats.not-found", "none.onnx"),
        (["nobody"], 3, "registry.unknown-model", "nobody"),
        (["a b"], 2, "config.invalid", "a b"),
        (["MODEL", "--rps=-5"], 2, "usage.invalid", "`--rps -5`"),
        (["MODEL", "--p99", "soon"], 2, "usage.invalid", "`--p99 soon`"),
        (["MODEL", "--memory", "lots"], 2, "usage.invalid", "`--memory` is `lots`"),
        (["MODEL", "--where", "moon"], 2, "usage.invalid", "`--where moon`"),
        (["MODEL", "--seconds", "0"], 2, "usage.invalid", "`--seconds 0`"),
        (["MODEL", "--write"], 2, "usage.invalid", "`--write` writes into a project's file"),
        (["FOLDER"], 2, "project.invalid", "dukou.toml"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(
    house: House, tmp_path: Path, words: list[str], status: int, code: str, said: str
) -> None:
    places = {"MODEL": tmp_path / "flowers.onnx", "FOLDER": tmp_path}
    if "MODEL" in words:
        write_model(places["MODEL"])
    (tmp_path / "dukou.toml").write_text("version = 1\n")
    done = house.dukou("advise", *(places.get(word, word) for word in words))
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 2, done.stderr
    assert f"[{code}]" in done.stderr
    assert said in done.stderr
    assert done.stderr.splitlines()[1].startswith("hint: ")
