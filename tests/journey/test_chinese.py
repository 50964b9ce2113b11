"""The whole line in Chinese: folders, columns, labels, title and home; GBK files; a bare C locale."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests import serving

CLASSES = ("山鸢尾", "变色鸢尾", "维吉尼亚鸢尾")
COLUMNS = ("花萼 长度", "花萼宽度", "花瓣长度（厘米）", "花瓣宽度")

TRAIN = """
import csv, os
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LogisticRegression

with open(os.environ["DUKOU_DATA"], encoding="utf-8", newline="") as file:
    header, *rows = csv.reader(file)
target = header.index(os.environ["DUKOU_TARGET"])
x = np.array([[float(v) for i, v in enumerate(row) if i != target] for row in rows], np.float32)
model = LogisticRegression(max_iter=500).fit(x, [row[target] for row in rows])
joblib.dump(model, Path(os.environ["DUKOU_OUTPUT"]) / "model.joblib")
print("学到了", len(rows), "行")
"""

PROJECT = """
version = 1
[model]
name = "yuanwei"
title = "鸢尾花识别"
description = "按花萼和花瓣的尺寸分辨三种鸢尾花。"
[data]
path = "数据/鸢尾花.csv"
target = "品种"
[train]
command = "python 训练.py"
files = ["训练.py"]
[evaluate]
cross_validation = 0
bootstrap = 100
gates = ["accuracy >= 0.8"]
[optimize]
passes = []
"""


def _write_rows(path: Path, count: int, encoding: str) -> list[str]:
    """Well separated flowers; gives the labels."""
    rng = np.random.default_rng(7)
    labels = [CLASSES[row % 3] for row in range(count)]
    lines = [",".join((*COLUMNS, "品种"))]
    for row, label in enumerate(labels):
        kind = row % 3
        values = rng.normal([5 + kind, 3, 1.5 + 2 * kind, 0.3 + 0.8 * kind], 0.2)
        lines.append(",".join([*(f"{value:.4f}" for value in values), label]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return labels


@pytest.mark.timeout(120)
def test_from_a_gbk_file_to_answers_in_chinese(tmp_path: Path) -> None:
    project = tmp_path / "鸢尾花 识别"
    _write_rows(project / "数据" / "鸢尾花.csv", 120, "gbk")
    (project / "训练.py").write_text(TRAIN, encoding="utf-8")
    (project / "dukou.toml").write_text(PROJECT, encoding="utf-8")
    with serving.house(("家",)) as house:
        # As a cron job or a bare container has it: no language at all.
        for name in ("LANG", "LANGUAGE", "LC_CTYPE", "PYTHONUTF8", "PYTHONIOENCODING"):
            house.environment.pop(name, None)
        house.environment["LC_ALL"] = "C"
        done = house.dukou("ship", project)
        assert done.returncode == 0, done.stderr
        assert "python 训练.py" in done.stderr
        [report] = (house.home / "runs" / "yuanwei").glob("*/report.html")
        page = report.read_text(encoding="utf-8")
        assert "鸢尾花识别" in page and all(label in page for label in CLASSES)
        # In the plots too, as words: the reader's browser has the fonts, this machine need not.
        assert all(page.count(f">{label}</text>") >= 3 for label in CLASSES)
        assert "Warning" not in done.stderr

        asked = {}
        for encoding in ("utf-8", "gbk"):
            asked[encoding] = tmp_path / f"几行-{encoding}.csv"
            labels = _write_rows(asked[encoding], 6, encoding)
        with house.serving("yuanwei"):
            for path in asked.values():
                answer = house.dukou("predict", "yuanwei", path, "--drop", "品种", "--json")
                assert answer.returncode == 0, answer.stderr
                lines = [json.loads(line) for line in answer.stdout.splitlines()]
                assert [line["label"] for line in lines] == labels
            table = house.dukou("predict", "yuanwei", asked["gbk"], "--drop", "品种").stdout
            assert "变色鸢尾" in table
            # A column too many: named in Chinese, the code as anywhere.
            wrong = house.dukou("predict", "yuanwei", asked["gbk"])
            assert wrong.returncode == 2 and "[data.mismatch]" in wrong.stderr
            wrong = house.dukou("predict", "yuanwei", asked["gbk"], "--drop", "产地")
            assert wrong.returncode == 2 and "产地" in wrong.stderr
        checked = house.dukou("doctor")
        assert checked.returncode == 0 and str(house.home) in checked.stdout


def test_a_terminal_that_speaks_gbk(tmp_path: Path) -> None:
    """Signs that GBK lacks (`µ`, `²`) are replaced; nothing ends in a traceback."""
    with serving.house() as house:
        house.environment["PYTHONIOENCODING"] = "ascii"
        for words in (
            ["--help"],
            ["help", "--codes"],
            ["doctor"],
            ["init", str(tmp_path / "数字")],
        ):
            done = house.dukou(*words)
            assert done.returncode in (0, 2)
            assert "Traceback" not in done.stderr and "bug.internal" not in done.stderr


@pytest.mark.parametrize("name", ["数字识别", "café", "数字v2"])
def test_a_folder_whose_name_is_no_models(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    with serving.house() as house:
        done = house.dukou("init", folder, "--example", "digits")
        assert done.returncode == 2
        sentence, hint = done.stderr.splitlines()
        assert f"`{name}`" in sentence and sentence.endswith("[config.invalid]")
        assert "--name digits" in hint
        assert not folder.exists()
        # The hint, followed.
        done = house.dukou("init", folder, "--example", "digits", "--name", "digits")
        assert done.returncode == 0, done.stderr
        assert 'name = "digits"' in (folder / "dukou.toml").read_text(encoding="utf-8")


def test_a_model_cannot_be_called_in_chinese(tmp_path: Path) -> None:
    with serving.house() as house:
        done = house.dukou("init", tmp_path / "digits", "--name", "数字")
        assert done.returncode == 2
        assert "`数字` cannot be a model's name [config.invalid]" in done.stderr
        assert "a to z" in done.stderr and "title" in done.stderr
        (tmp_path / "数字.onnx").write_bytes(b"x")
        done = house.dukou("serve", tmp_path / "数字.onnx", "--port", "0")
        assert done.returncode == 2
        assert "[config.invalid]" in done.stderr and "`--name`" in done.stderr
