"""The deploy stage: at once, or by canary with the disagreement that the held-out rows showed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dukou.base.errors import InputError, StateError
from dukou.lifecycle.project import FILE_NAME, DeploySection, Project, load_project
from dukou.lifecycle.stage import Line, StageResult
from dukou.lifecycle.stages.deploy import DeployStage
from dukou.registry.registry import Registry

CANARY = 'strategy = "canary"\n[deploy.canary]\nsteps = [20, 100]\ndeadline = "2h"\n'


def make_project(folder: Path, deploy: str) -> Project:
    (folder / "rows.csv").write_text("a,b\n1,2\n")
    (folder / FILE_NAME).write_text(
        'version = 1\n[model]\nname = "m"\n[data]\npath = "rows.csv"\ntarget = "b"\n'
        f'[train]\ncommand = "true"\n[deploy]\n{deploy}'
    )
    return load_project(folder)


def deploy(
    folder: Path, project: Project, number: int, comparison: dict[str, Any] | None = None
) -> dict[str, Any]:
    line = Line(project, folder / "home")
    facts = {
        "publish": {"version": number},
        "improve": {"evaluation": {"comparison": comparison}},
    }
    for name, found in facts.items():
        line.results[name] = StageResult(name, folder, found, 0.0, cached=False)
    stage = DeployStage()
    done = dict(stage.run(line, folder))
    assert stage.summary(done)
    return done


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    found = Registry.open(tmp_path / "home")
    for number in (1, 2, 3):
        found.register_version("m", f"sha256:{number:064x}")
    return found


def test_at_once_moves_the_alias(tmp_path: Path, registry: Registry) -> None:
    project = make_project(tmp_path, "")
    for number in (1, 2):
        deploy(tmp_path, project, number)
        assert registry.resolve("m@champion").number == number
    registry.close()


def test_by_canary_the_first_version_is_deployed_and_later_ones_roll_out(
    tmp_path: Path, registry: Registry
) -> None:
    project = make_project(tmp_path, CANARY)
    assert deploy(tmp_path, project, 1)["rollout"] is None
    assert deploy(tmp_path, project, 1)["rollout"] is None
    compared = {"rows": 400, "disagree": 8}
    started = deploy(tmp_path, project, 2, compared)
    assert started["previous"] == 1
    assert registry.resolve("m@champion").number == 1
    assert registry.resolve("m@challenger").number == 2
    running = registry.rollouts.running("m")
    assert running is not None
    assert running.policy["deadline_s"] == 7200
    # 8 of 400 is 2 %; the interval ends at 3.9 %, and two points more are allowed.
    assert running.policy["max_disagreement"] == pytest.approx(0.0590, abs=0.0005)
    # Shipped again it is the same rollout; another version must wait.
    assert deploy(tmp_path, project, 2, compared)["rollout"] == running.id
    with pytest.raises(StateError) as refused:
        deploy(tmp_path, project, 3)
    assert refused.value.code == "rollout.running"
    registry.close()


def test_what_the_project_says_of_disagreement_holds(tmp_path: Path) -> None:
    for said, kept in (("0.01", 0.01), ('"none"', None)):
        project = make_project(tmp_path, CANARY + f"max_disagreement = {said}\n")
        assert project.deploy.canary.policy().max_disagreement == kept


@pytest.mark.parametrize(
    ("deploy_text", "said"),
    [
        ('strategy = "canary"\n[deploy.canary]\nsteps = [50, 20, 100]\n', "percentages that grow"),
        (
            'strategy = "canary"\n[deploy.canary]\nstep = [50]\n',
            "`deploy.canary.step` is not a key",
        ),
        ('[deploy.canary]\ndeadline = "soon"\n', "must be a duration"),
        ('strategy = "blue"\n', "deploy.strategy"),
        ('strategy = "canary"\nalias = "staging"\n', "a canary ends with the alias `champion`"),
    ],
)
def test_what_makes_no_rollout_is_refused_in_one_sentence(
    tmp_path: Path, deploy_text: str, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        make_project(tmp_path, deploy_text)
    assert refused.value.code == "project.invalid"
    assert said in refused.value.message


def test_nothing_said_is_the_default_policy() -> None:
    from dukou.rollout.policy import Policy

    assert DeploySection().canary.policy() == Policy()
