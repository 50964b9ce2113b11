"""The training contract, with real commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.serving import is_gone, wait_until

from dukou.base.errors import InputError
from dukou.lifecycle.create import create_project
from dukou.lifecycle.project import Project, load_project
from dukou.lifecycle.train import run_training


def _project(
    tmp_path: Path, script: str, command: str = "python train.py", **train: str
) -> Project:
    folder = tmp_path / "project"
    create_project(folder)
    (folder / "data.csv").write_text("a,target\n1,0\n", encoding="utf-8")
    (folder / "train.py").write_text(script, encoding="utf-8")
    text = (folder / "dukou.toml").read_text(encoding="utf-8")
    extra = "".join(f"{key} = {value}\n" for key, value in train.items())
    text = text.replace('command = "python train.py"', f'command = "{command}"\n{extra}')
    (folder / "dukou.toml").write_text(text, encoding="utf-8")
    return load_project(folder)


def _train(project: Project, tmp_path: Path, **more: object) -> Path:
    output = tmp_path / "output"
    output.mkdir()
    return run_training(
        project,
        data=tmp_path / "rows.csv",
        output=output,
        seed=5,
        **more,  # type: ignore[arg-type]
    )


TELL = """
import os, pathlib, sys
names = ("DATA", "TARGET", "OUTPUT", "SEED", "FOLD", "CHAMPION")
told = {n: os.environ["DUKOU_" + n] for n in names}
told["cwd"], told["args"] = os.getcwd(), sys.argv[1:]
told["stdin"] = sys.stdin.read()
pathlib.Path(told["OUTPUT"], "model.onnx").write_text(repr(told))
"""


def test_the_command_is_told_what_the_contract_says(tmp_path: Path) -> None:
    project = _project(tmp_path, TELL, "python train.py {data} {seed}")
    told = eval(_train(project, tmp_path, fold=2).read_text())
    assert told["DATA"] == str(tmp_path / "rows.csv")
    assert told["args"] == [told["DATA"], "5"]
    assert (told["TARGET"], told["SEED"], told["FOLD"], told["CHAMPION"]) == (
        "target",
        "5",
        "2",
        "",
    )
    assert (told["cwd"], told["stdin"]) == (str(project.folder), "")


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("print('one'); raise SystemExit('no rows of class 3')", "no rows of class 3"),
        ("pass", "it left none"),
        (
            "import os, pathlib\n"
            "for e in ('onnx', 'joblib'): pathlib.Path(os.environ['DUKOU_OUTPUT'], 'model.' + e).touch()",
            "it left `model.joblib`, `model.onnx`",
        ),
        ("import os; os.kill(os.getpid(), 9)", "was ended by signal 9"),
    ],
)
def test_a_failing_command_is_reported_with_its_words(
    tmp_path: Path, script: str, says: str
) -> None:
    with pytest.raises(InputError) as caught:
        _train(_project(tmp_path, script), tmp_path)
    assert caught.value.code == "project.train-failed"
    assert says in caught.value.message


def test_a_command_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="`no-such-trainer` cannot be started"):
        _train(_project(tmp_path, "", "no-such-trainer"), tmp_path)


def test_a_command_that_takes_too_long(tmp_path: Path) -> None:
    project = _project(tmp_path, "import signal; signal.pause()", timeout_s="0.5")
    with pytest.raises(InputError, match="longer than `train.timeout_s` = 0.5"):
        _train(project, tmp_path)


def test_a_command_that_hangs_is_ended_with_what_it_started(tmp_path: Path) -> None:
    script = (
        "import os, pathlib, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "print('still at it', flush=True)\n"
        "time.sleep(600)\n"
    )
    project = _project(tmp_path, script, timeout_s="3")
    with pytest.raises(InputError) as refused:
        _train(project, tmp_path)
    assert refused.value.code == "project.train-failed"
    assert "took longer than `train.timeout_s` = 3" in refused.value.message
    assert "still at it" in refused.value.message
    child = int((project.folder / "child").read_text(encoding="ascii"))
    wait_until(lambda: is_gone(child), "the end of the command's own child")
