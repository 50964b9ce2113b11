"""A number is predicted: the whole line on diabetes patients, and what is refused on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas
import pytest
from tests import serving
from tests.serving import House, wait_until

import dukou
from dukou.cli.main import main
from dukou.monitor.store import CaptureStore

pytestmark = pytest.mark.timeout(600)

SLICES = """
slices = ["sex", "age > 60", "bmi > 30 and age <= 60"]
bootstrap = 300
"""
MONITOR = """
[monitor]
capture = true
window_rows = 60

[privacy]
fields = { "*" = "keep" }
"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Path]]:
    """A home with the example shipped, its requests kept; and the project's folder."""
    with serving.house() as house, pytest.MonkeyPatch.context() as patch:
        # In this process: a line imports much, and once is enough.
        patch.setenv("DUKOU_HOME", house.environment["DUKOU_HOME"])
        patch.setenv("XDG_RUNTIME_DIR", house.environment["XDG_RUNTIME_DIR"])
        folder = tmp_path_factory.mktemp("regression") / "diabetes"
        assert main(["init", str(folder), "--example", "diabetes"]) == 0
        file = folder / "dukou.toml"
        text = file.read_text(encoding="utf-8")
        text = text.replace("cross_validation = 5", "cross_validation = 2" + SLICES)
        file.write_text(text + MONITOR, encoding="utf-8")
        assert main(["ship", str(folder)]) == 0
        yield house, folder


def test_the_line_judges_numbers_as_numbers(shipped: tuple[House, Path]) -> None:
    house, _ = shipped
    record = json.loads(
        (min((house.home / "runs" / "diabetes").iterdir()) / "run.json").read_text("utf-8")
    )
    stages = record["stages"]
    found = stages["evaluate"]["facts"]
    assert list(found["metrics"]) == ["r2", "rmse", "mae"] and not found["confusion"]
    assert found["metrics"]["r2"]["value"] > 0.3
    assert stages["crossval"]["facts"]["metric"] == "r2"
    assert sum(stages["data"]["facts"]["target"]["counts"]) == stages["data"]["facts"]["train_rows"]
    assert stages["optimize"]["facts"]["metric"] == "rmse"
    assert [gate["held"] for gate in stages["gates"]["facts"]["gates"]] == [True] * 3
    true = np.array(found["answers"])
    assert np.abs(true[:, 0] - true[:, 1]).mean() == pytest.approx(
        found["metrics"]["mae"]["value"], rel=1e-3
    )
    names = {part["name"] for part in found["slices"]["slices"] if part["origin"] == "named"}
    assert names == {"sex = 1", "sex = 2", "age > 60", "bmi > 30 and age ≤ 60"}


def test_the_report_and_the_card_say_the_limits(shipped: tuple[House, Path]) -> None:
    house, _ = shipped
    first = min((house.home / "runs" / "diabetes").iterdir())
    page = (first / "report.html").read_text(encoding="utf-8")
    for title in ("Data", "Evaluation on the held-out rows", "Slices", "Limitations", "Gates"):
        assert f"<h2>{title}</h2>" in page
    assert "Confusion" not in page and page.count("<svg") >= 4
    shown = house.dukou("models", "diabetes:1")
    assert shown.returncode == 0, shown.stderr
    assert "limitations" in shown.stdout and "rmse" in shown.stdout
    document = json.loads(house.dukou("models", "diabetes@champion", "--json").stdout)
    kinds = {entry["kind"] for entry in document["limitations"]}
    assert {"slice", "input-range", "few-rows"} <= kinds
    for entry in document["limitations"]:
        assert entry["sentence"] in shown.stdout
    inputs = next(e for e in document["limitations"] if e["kind"] == "input-range")
    assert inputs["features"]["age"]["low"] >= 19 and 0 < inputs["outside"] < 0.5
    missing = house.dukou("models", "diabetes:9")
    assert missing.returncode == 3 and "registry.unknown-version" in missing.stderr


def test_a_table_in_and_a_table_out_as_in_a_notebook(shipped: tuple[House, Path]) -> None:
    house, folder = shipped
    trained = next(house.home.glob("cache/stages/train/*/model.joblib"))
    table = pandas.read_csv(folder / "data" / "diabetes.csv").drop(columns="progression").head(7)
    with dukou.serve("diabetes", home=house.home) as server:
        said = server.predict(table)
    assert list(said.index) == list(table.index) and said.shape == (7, 1)
    expected = joblib.load(trained).predict(table.to_numpy(np.float32))
    assert said.iloc[:, 0].to_numpy() == pytest.approx(expected, rel=1e-4)


def test_labels_that_come_later_give_errors_and_a_retraining(
    shipped: tuple[House, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    house, folder = shipped
    table = pandas.read_csv(folder / "data" / "diabetes.csv").sample(120, random_state=0)
    features = table.drop(columns="progression").to_numpy(np.float32)
    # Not the rows of the project: the same patients a little older.
    features[:, 0] += 0.5
    body = json.dumps(
        {
            "id": "visit",
            "inputs": [
                {
                    "name": "x",
                    "datatype": "FP32",
                    "shape": list(features.shape),
                    "data": features.ravel().tolist(),
                }
            ],
        }
    )
    lines = [f"visit,{row},{value:g}" for row, value in enumerate(table["progression"])]
    file = folder / "labels.csv"
    file.write_text("\n".join(["request_id,row,label", *lines]) + "\n", encoding="utf-8")
    with house.serving("diabetes") as server:
        assert server.ask("diabetes", body)[0] == 200
        wait_until(lambda: bool(CaptureStore(house.home, "diabetes").parts()), "the request kept")
        wrong = folder / "wrong.csv"
        wrong.write_text("request_id,label\nvisit,high\n", encoding="utf-8")
        refused = house.dukou("labels", "add", wrong, "--model", "diabetes")
        assert refused.returncode == 2 and "labels.invalid" in refused.stderr
        assert "`visit:0` is `high`, the model answers numbers" in refused.stderr
        done = house.dukou("labels", "add", file, "--model", "diabetes")
        assert "120 join captured requests" in done.stdout, done.stderr
        wait_until(
            lambda: "quality" in server.status()["monitor"].get("diabetes", {}), "the quality", 60
        )
        status = house.dukou("status").stdout
        assert "quality of diabetes: r2 " in status and ", mae " in status
        quality = server.status()["monitor"]["diabetes"]["quality"]
        assert 20 < quality["metrics"]["mae"]["value"] < 70
    # The folds are the line's, and have been tested: here they would only take time.
    project = folder / "dukou.toml"
    text = project.read_text(encoding="utf-8").replace(
        "cross_validation = 2", "cross_validation = 0"
    )
    project.write_text(text.replace(', "cv.r2 >= 0.4"', ""), encoding="utf-8")
    capsys.readouterr()
    main(["retrain", str(folder), "--json"])
    again = capsys.readouterr()
    document = json.loads(again.out)
    record = json.loads((Path(document["record"]) / "run.json").read_text("utf-8"))
    comparison = record["stages"]["evaluate"]["facts"]["comparison"]
    # Either it is as near to the truth as what serves, or it is refused with the difference.
    assert comparison["kind"] == "numbers"
    assert (document["version"] is None) == (comparison["difference"]["value"] > 0), again.err
    page = (Path(document["record"]) / "report.html").read_text("utf-8")
    assert "Mean absolute error on labelled requests" in page


def _project(folder: Path, **changes: str) -> Path:
    """A small project with a mistake in it."""
    ages = np.random.default_rng(0).normal(size=80)
    lines = [f"{age:.3f},{1 + i % 2},{age + i % 2:.3f}" for i, age in enumerate(ages)]
    text = "\n".join(["age,sex,score", *lines]) + "\n"
    folder.mkdir()
    (folder / "data.csv").write_text(changes.get("data", text), encoding="utf-8")
    (folder / "train.py").write_text("raise SystemExit(1)\n", encoding="utf-8")
    (folder / "dukou.toml").write_text(
        f'version = 1\n[model]\nname = "m"\ntask = "{changes.get("task", "regression")}"\n'
        '[data]\npath = "data.csv"\ntarget = "score"\n[train]\ncommand = "python train.py"\n'
        f"[evaluate]\n{changes.get('evaluate', '')}\n",
        encoding="utf-8",
    )
    return folder


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"evaluate": 'gates = ["accuracy >= 0.9"]'}, "evaluate.unknown-metric", "only r2, rmse"),
        ({"evaluate": 'slices = ["wage > 3"]'}, "evaluate.unknown-slice", "has `age`, `sex`"),
        ({"evaluate": 'slices = ["sex > 5"]'}, "evaluate.empty-slice", "`sex` goes from 1 to 2"),
        (
            {"data": "age,score\n" + "".join(f"{i},{i}.5\n" for i in range(70)) + "3,high\n"},
            "data.text-target",
            "column `score` holds `high` (line 72)",
        ),
        ({"task": "clustering"}, "project.invalid", "'classification' or 'regression'"),
    ],
)
def test_mistakes_are_said_in_a_sentence_before_anything_is_trained(
    changes: dict[str, str],
    code: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DUKOU_HOME", str(tmp_path / "home"))
    assert main(["ship", str(_project(tmp_path / "p", **changes))]) == 2
    said = capsys.readouterr().err.splitlines()
    assert f"[{code}]" in said[-2] and words in said[-2]
    assert said[-1].startswith("hint: ")
    assert not (tmp_path / "home" / "cache" / "stages" / "train").exists()


def test_a_run_that_the_data_stops_has_a_report_with_the_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUKOU_HOME", str(tmp_path / "home"))
    rows = [f"{i},{i % 7},{i}.5" for i in range(90)]
    rows[41] = "41,,41.5"
    folder = _project(tmp_path / "p", data="\n".join(["age,sex,score", *rows]) + "\n")
    assert main(["ship", str(folder)]) == 2
    assert "column `sex` lacks 1 of" in (said := capsys.readouterr().err) and "(line 43)" in said
    record = next((tmp_path / "home" / "runs" / "m").iterdir())
    page = (record / "report.html").read_text(encoding="utf-8")
    assert "The line stopped." in page and "line 43" in page and ">error<" in page
    noted = json.loads((record / "run.json").read_text("utf-8"))["noted"]["data"]
    finding = next(f for f in noted["findings"] if f["severity"] == "error")
    assert (finding["rows"], finding["counted"]) == ([43], "line")
