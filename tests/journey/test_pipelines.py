"""Generated pipelines, run as they stand: their steps are taken from the files and typed one by one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.datasets import load_iris

from dukou.lifecycle.pipelines import SYSTEMS, list_steps
from dukou.registry.registry import Registry
from tests.serving import House, house, wait_until

TRAIN = """\
import os
from pathlib import Path
import joblib
import pandas
from sklearn.linear_model import LogisticRegression
rows = pandas.read_csv(os.environ["DUKOU_DATA"])
target = os.environ["DUKOU_TARGET"]
model = LogisticRegression(max_iter=500).fit(rows.drop(columns=target).to_numpy(), rows[target])
joblib.dump(model, Path(os.environ["DUKOU_OUTPUT"]) / "model.joblib")
"""


def steps_of(system: str, text: str) -> list[tuple[str, str, bool]]:
    """Name, command, and whether it is for the main branch alone: as the system reads its file."""
    if system == "github":
        document = yaml.safe_load(text)
        steps = document["jobs"]["model"]["steps"][1:]
        return [(s["name"], s["run"], "refs/heads/main" in s.get("if", "")) for s in steps]
    if system == "gitlab":
        document = yaml.safe_load(text)
        return [
            (name, "\n".join(document[name]["script"]), "rules" in document[name])
            for name in document["stages"]
        ]
    found = re.findall(
        r"stage\('(\w+)'\) \{\n(\s+when \{ branch 'main' \}\n)?\s+steps \{ sh '([^']+)' \}", text
    )
    return [(name, command, bool(when)) for name, when, command in found]


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_has_the_same_steps(tmp_path: Path, system: str) -> None:
    with house() as place:
        done = place.dukou("init", tmp_path / "model", "--name", "flowers", "--ci", system)
        assert done.returncode == 0, done.stderr
        file = tmp_path / "model" / SYSTEMS[system][0]
        assert f"wrote {file}" in done.stdout
        steps = steps_of(system, file.read_text(encoding="utf-8"))
    assert steps == [(s.name, s.command, s.releases) for s in list_steps("flowers")]
    assert 'strategy = "canary"' in (tmp_path / "model" / "dukou.toml").read_text(encoding="utf-8")
    assert (tmp_path / "model" / "requirements.txt").is_file()


class Repository:
    """A git repository with a project, and a machine that runs its pipeline."""

    def __init__(self, place: House, folder: Path, system: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.environment = {
            **place.environment,
            # The pipeline's `python` and `dukou` are those of the environment that runs the tests.
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "GIT_AUTHOR_NAME": "t",
            "GIT_AUTHOR_EMAIL": "t@example.com",
            "GIT_COMMITTER_NAME": "t",
            "GIT_COMMITTER_EMAIL": "t@example.com",
        }
        self.shell("git init --quiet --initial-branch main .")
        self.shell(f"dukou init . --name flowers --ci {system}")
        text = (folder / SYSTEMS[system][0]).read_text(encoding="utf-8")
        self.steps = steps_of(system, text)

    def shell(self, command: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        if command.startswith(("git", "dukou init")):
            assert done.returncode == 0, done.stderr
        return done

    def commit(self) -> None:
        self.shell("git add --all && git commit --quiet --message change")

    def run_pipeline(self) -> tuple[str, str]:
        """The step that stopped it, and what that said; or two empty texts."""
        for name, command, _ in self.steps:
            done = self.shell(command)
            if done.returncode:
                return name, done.stderr
        return "", ""


def write_data(folder: Path, *, rows: int, shuffled: bool = False) -> None:
    iris = load_iris()
    chance = np.random.default_rng(rows)
    chosen = chance.integers(len(iris.data), size=rows)
    # A little noise: rows that are the same on both sides of the split would be a leak.
    values = iris.data[chosen] + chance.normal(0, 0.05, (rows, 4))
    target = chance.permutation(iris.target[chosen]) if shuffled else iris.target[chosen]
    lines = ["a,b,c,d,kind"]
    lines += [
        ",".join([*(f"{v:.4f}" for v in row), str(k)])
        for row, k in zip(values, target, strict=True)
    ]
    (folder / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.timeout(180)
def test_from_an_empty_repository_to_a_served_version_and_on_to_the_next(tmp_path: Path) -> None:
    with house() as place:
        began = time.monotonic()
        repository = Repository(place, tmp_path / "repository", "github")
        folder = repository.folder
        text = (folder / "dukou.toml").read_text(encoding="utf-8")
        text = text.replace('target = "target"', 'target = "kind"').replace(
            "cross_validation = 5", "cross_validation = 2"
        )
        text = re.sub(r"passes = .*", "passes = []", text)
        text += "\n[deploy.canary]\nsteps = [50, 100]\nmin_seconds = 2\nmin_requests = 20\n"
        (folder / "dukou.toml").write_text(text, encoding="utf-8")
        (folder / "train.py").write_text(TRAIN, encoding="utf-8")
        write_data(folder, rows=300)
        repository.commit()
        assert repository.run_pipeline() == ("", "")
        with place.serving("flowers") as server, Asking(server, "flowers") as asking:
            wait_until(lambda: asking.answers > 5, "an answer of the first version")
            seconds = time.monotonic() - began
            print(f"from an empty repository to a served version in {seconds:.0f} s")

            write_data(folder, rows=360)
            repository.commit()
            assert repository.run_pipeline() == ("", "")
            wait_until(lambda: server.ask("flowers", asking.body)[2]["dukou-version"] == "2", "2")

            write_data(folder, rows=400, shuffled=True)
            repository.commit()
            stopped, said = repository.run_pipeline()
            assert stopped == "evaluate"
            assert "evaluate.gate-failed" in said
        with Registry.open(place.home) as registry:
            assert [v.number for v in registry.versions("flowers")] == [1, 2]
            actions = [e.action for e in registry.audit_events(limit=10_000)]
            assert "rollout.promoted" in actions
        assert asking.failures == []


class Asking:
    """A caller who never stops."""

    def __init__(self, server, model: str) -> None:
        self.server, self.model = server, model
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [5.0, 3.4, 1.5, 0.2]}
        described = server_signature(server, model)
        tensor["name"], tensor["datatype"] = described["name"], described["datatype"]
        self.body = json.dumps({"inputs": [tensor]})
        self.answers = 0
        self.failures: list[object] = []
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Asking:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def _ask(self) -> None:
        while not self.ended.wait(0.01):
            status, document, _ = self.server.ask(self.model, self.body)
            self.answers += 1
            if status != 200:
                self.failures.append(document)


def server_signature(server, model: str) -> dict:
    from tests.serving import exchange

    return exchange(server.address, "GET", f"/v2/models/{model}")[1]["inputs"][0]
