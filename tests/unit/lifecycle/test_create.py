"""A new project, and a pipeline for one that is there: what a person has is never overwritten unasked."""

from __future__ import annotations

from pathlib import Path

import pytest

from dukou.base.errors import InputError
from dukou.cli.main import main
from dukou.lifecycle.create import create_project
from dukou.lifecycle.pipelines import SYSTEMS
from dukou.lifecycle.runner import find_shipped_rollout

OWN = "print('mine')\n"


def test_a_training_script_that_is_there_stays(tmp_path: Path, capsys) -> None:
    (tmp_path / "train.py").write_text(OWN)
    assert main(["init", str(tmp_path), "--name", "m"]) == 0
    assert (tmp_path / "train.py").read_text() == OWN
    assert f"left  {tmp_path / 'train.py'} as it is" in capsys.readouterr().out


def test_an_example_takes_nothing_from_anybody(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(OWN)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "digits.csv").write_text("x\n")
    with pytest.raises(InputError, match=r"train.py`, `.*digits.csv` are there already") as refused:
        create_project(tmp_path, name="m", example="digits")
    assert refused.value.code == "project.exists"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "train.py"]
    create_project(tmp_path, name="m", example="digits", force=True)
    assert (tmp_path / "train.py").read_text() != OWN


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_pipeline_of_another_program_stays(tmp_path: Path, system: str) -> None:
    file = tmp_path / SYSTEMS[system][0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(OWN)
    with pytest.raises(InputError, match="is there already"):
        create_project(tmp_path, name="m", ci=system)
    assert file.read_text() == OWN and not (tmp_path / "dukou.toml").exists()
    create_project(tmp_path, name="m", ci=system, force=True)
    assert "dukou ship" in file.read_text()


def test_a_pipeline_for_a_project_that_is_there(tmp_path: Path, capsys, monkeypatch) -> None:
    """Nothing else is touched, and it need not have its data yet."""
    create_project(tmp_path, name="m")
    project, script = tmp_path / "dukou.toml", tmp_path / "train.py"
    project.write_text(project.read_text() + "\n[maintain]\nretention = '30d'\n")
    script.write_text(OWN)
    before = project.read_text()
    monkeypatch.chdir(tmp_path)
    assert main(["init", "--ci", "jenkins"]) == 0
    said = capsys.readouterr().out
    assert "Jenkinsfile" in said and 'strategy = "canary"' in said
    assert "dukou rollout wait m" in (tmp_path / "Jenkinsfile").read_text()
    (tmp_path / "requirements.txt").write_text(OWN)
    assert main(["init", "--ci", "jenkins"]) == 2
    assert "[project.exists]" in capsys.readouterr().err
    assert main(["init", "--ci", "jenkins", "--force"]) == 0
    assert (project.read_text(), script.read_text()) == (before, OWN)
    assert (tmp_path / "requirements.txt").read_text() == OWN
    project.write_text("version = 1\n[modle]\n")
    assert main(["init", "--ci", "github"]) == 2
    assert "[project.invalid]" in capsys.readouterr().err


def test_the_rollout_that_the_last_run_of_the_line_started(tmp_path: Path) -> None:
    """A commit that publishes nothing must not fail for the rollout of an earlier one."""
    runs = tmp_path / "runs" / "m"

    def record(name: str, text: str) -> None:
        (runs / name).mkdir(parents=True)
        (runs / name / "run.json").write_text(text)

    assert find_shipped_rollout(tmp_path, "m") is None
    record("b", '{"stages": {"deploy": {"facts": {"rollout": 7}}}}')
    record("a", '{"stages": {"gates": {"facts": {}}}}')  # stopped at a gate
    record("c", '{"stages": {"depl')  # killed
    assert find_shipped_rollout(tmp_path, "m") == 7
    record("0", '{"stages": {"deploy": {"facts": {"rollout": null}}}}')
    assert find_shipped_rollout(tmp_path, "m") is None
