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

from dukou.lifecycle.create import create_project
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


Job = tuple[str, str, str]


def jobs_of(system: str, text: str) -> list[list[Job]]:
    """What shares a checkout: name, command, and when it runs; as the system reads its file."""
    if system == "github":
        job = yaml.safe_load(text)["jobs"]["model"]
        assert job["runs-on"] == ["self-hosted", "dukou"]
        assert job["steps"][0] == {"uses": "actions/checkout@v4"}
        return [[(s["name"], s["run"], _when(s.get("if", ""))) for s in job["steps"][1:]]]
    if system == "gitlab":
        document = yaml.safe_load(text)
        assert document["default"]["tags"] == ["dukou"]
        jobs = []
        for name in document["stages"]:
            job = document[name]
            assert job["stage"] == name and job["resource_group"] == "dukou-flowers"
            when = _when(str(job.get("rules", "")))
            jobs.append([(name, command, when) for command in job["script"]])
        return jobs
    for one, other in ("()", "{}"):
        assert text.count(one) == text.count(other)
    assert text.count("'") % 2 == 0
    found = re.findall(
        r"stage\('(\w+)'\) \{\n(?:\s+when \{ (.+) \}\n)?\s+steps \{ sh '([^'\n]+)' \}\n\s+\}", text
    )
    assert len(found) == text.count("stage(") == text.count("sh '")
    return [[(name, command, _when(when)) for name, when, command in found]]


def _when(condition: str) -> str:
    if not condition:
        return "always"
    night = re.search(r"schedule|TimerTrigger", condition)
    return "night" if night else "main" if "main" in condition else condition


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_has_the_same_steps(tmp_path: Path, system: str) -> None:
    folder = tmp_path / "model"
    create_project(folder, name="flowers", ci=system)
    text = (folder / SYSTEMS[system][0]).read_text(encoding="utf-8")
    jobs = jobs_of(system, text)
    assert [(command, when) for job in jobs for _, command, when in job] == [
        (step.command, step.when) for step in list_steps("flowers")
    ]
    if system == "gitlab":  # Another commit's jobs must not come between those of a release.
        assert [name for job in jobs for name, _, _ in job][-3:] == [
            "release",
            "release",
            "maintain",
        ]
    else:
        assert [name for [job] in [jobs] for name, _, _ in job] == [
            step.name for step in list_steps("flowers")
        ]
    assert 'strategy = "canary"' in (folder / "dukou.toml").read_text(encoding="utf-8")
    assert (folder / "requirements.txt").is_file()


def test_one_of_several_projects_in_a_repository(tmp_path: Path) -> None:
    """The systems look in the repository's folder, and the steps run in the project's."""
    (tmp_path / ".git").mkdir()
    below = "models/it's 花"
    for system in SYSTEMS:
        create_project(tmp_path / below, name="flowers", ci=system, force=True)
    github = yaml.safe_load((tmp_path / ".github/workflows/dukou-flowers.yml").read_text("utf-8"))
    assert github["jobs"]["model"]["defaults"]["run"]["working-directory"] == below
    gitlab = yaml.safe_load((tmp_path / ".gitlab-ci.yml").read_text("utf-8"))
    [change] = gitlab["default"]["before_script"]
    done = subprocess.run(
        ["bash", "-euc", f"{change}; pwd"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / below)
    jenkins = (tmp_path / below / "Jenkinsfile").read_text("utf-8")
    assert jenkins.count("dir('models/it\\'s 花') { sh '") == len(list_steps("flowers"))


class Repository:
    """A git repository with a project, and a machine that runs its pipelines."""

    def __init__(self, place: House, folder: Path) -> None:
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
        self.runs = 0
        self.shell("git init --quiet --initial-branch main .")
        self.shell("dukou init . --name flowers --ci github")
        for system in ("gitlab", "jenkins"):
            self.shell(f"dukou init . --ci {system}")

    def shell(self, command: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-euc", command],
            cwd=folder or self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if command.startswith(("git", "dukou init")):
            assert done.returncode == 0, done.stderr
        return done

    def commit(self, branch: str = "main") -> None:
        self.shell(f"git checkout --quiet -B {branch} && git add --all")
        self.shell("git commit --quiet --message change")

    def run_pipeline(self, system: str, branch: str = "main") -> tuple[str, str]:
        """The step that stopped it, and what that said; or two empty texts. Each job has a new clone."""
        text = (self.folder / SYSTEMS[system][0]).read_text(encoding="utf-8")
        for job in jobs_of(system, text):
            self.runs += 1
            clone = self.folder.with_name(f"clone-{self.runs}")
            self.shell(f"git clone --quiet --branch {branch} . {clone}")
            for name, command, when in job:
                if when == "night" or (when == "main" and branch != "main"):
                    continue
                done = self.shell(command, clone)
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


# From an empty repository to a served version in under three minutes is what was asked for.
@pytest.mark.timeout(400)
def test_from_an_empty_repository_to_a_served_version_and_on_to_the_next(tmp_path: Path) -> None:
    with house() as place:
        began = time.monotonic()
        repository = Repository(place, tmp_path / "repository")
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
        assert repository.run_pipeline("github") == ("", "")
        with place.serving("flowers") as server, Asking(server, "flowers") as asking:
            wait_until(lambda: asking.answers > 5, "an answer of the first version")
            seconds = time.monotonic() - began
            print(f"from an empty repository to a served version in {seconds:.0f} s")

            write_data(folder, rows=360)
            repository.commit()
            assert repository.run_pipeline("gitlab") == ("", "")
            wait_until(lambda: server.ask("flowers", asking.body)[2]["dukou-version"] == "2", "2")

            write_data(folder, rows=400, shuffled=True)
            repository.commit(branch="attempt")
            stopped, said = repository.run_pipeline("jenkins", branch="attempt")
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
