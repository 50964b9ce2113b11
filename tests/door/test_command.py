"""The `dukou` command itself: its help, its mistakes, its door for failures."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
from tests.serving import House

from dukou import __version__
from dukou.base.errors import BugError, StateError
from dukou.cli import main as door


def test_help_names_every_command_and_examples(house: House) -> None:
    for words in ([], ["--help"], ["-h"], ["help"]):
        done = house.dukou(*words)
        assert (done.returncode, done.stderr) == (0, "")
        for group, commands in door.GROUPS.items():
            assert f"{group}:" in done.stdout
            for name, command in commands.items():
                assert re.search(
                    rf"^  {name} +{re.escape(command.help)}$", done.stdout, re.MULTILINE
                )
        assert "dukou serve model.onnx" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 100


@pytest.mark.parametrize("name", [name for group in door.GROUPS.values() for name in group])
def test_every_command_has_a_page(house: House, name: str) -> None:
    done = house.dukou(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: dukou {name}")
    assert house.dukou("help", name).stdout == done.stdout


def test_the_version(house: House) -> None:
    assert house.dukou("--version").stdout == f"dukou {__version__}\n"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["srve"], "`srve` is not a command of dukou", "did you mean `dukou serve`?"),
        (["xyzzy"], "`xyzzy` is not a command of dukou", "`dukou --help` lists the commands"),
        (["--frob"], "`--frob` is not an option of `dukou` itself", "`dukou --help` lists"),
        (["serve", "--frob", "m"], "unrecognized arguments: --frob", "`dukou serve --help`"),
        (["serve"], "the following arguments are required: MODEL", "`dukou serve --help`"),
        (["serve", "m", "--port", "x"], "argument --port: invalid int value: 'x'", "serve --help"),
        (["predict", "m"], "the following arguments are required: INPUT", "predict --help"),
    ],
)
def test_a_command_line_that_is_not_understood(
    house: House, words: list[str], message: str, hint: str
) -> None:
    done = house.dukou(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first == f"error: {message} [usage.invalid]"
    assert second.startswith("hint: ")
    assert hint in second


def test_an_output_that_nobody_reads_any_more(house: House) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dukou", "--help"],
        env=house.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate(timeout=30)
    assert stderr == b""


def _command_that_raises(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def run(_arguments: object) -> int:
        raise error

    module = types.ModuleType("raising", "`dukou raise`: raises.")
    module.__dict__.update(add_arguments=lambda _parser: None, run=run)
    monkeypatch.setitem(sys.modules, "raising", module)
    monkeypatch.setitem(door.GROUPS, "test", {"raise": door.Command("raising", "raises")})


def test_our_own_mistake_is_a_sentence_and_a_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("DUKOU_HOME", str(tmp_path))
    _command_that_raises(monkeypatch, ZeroDivisionError("division by zero"))
    assert door.main(["raise"]) == BugError.exit_status == 70
    first, second = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: division by zero" in first
    assert first.endswith("[bug.internal]")
    assert second.startswith("hint: ")
    (log,) = (tmp_path / "logs").glob("bug-*.log")
    assert f"`{log}`" in first
    text = log.read_text()
    assert "Traceback" in text
    assert "dukou raise" in text


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (StateError("registry.conflict", "it moved"), 3, "registry.conflict"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 5, "store.disk-full"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), 5, "store.not-writable"),
    ],
)
def test_the_status_is_the_familys(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    status: int,
    code: str,
) -> None:
    _command_that_raises(monkeypatch, error)
    assert door.main(["raise"]) == status
    assert f"[{code}]" in capsys.readouterr().err


def test_ctrl_c_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _command_that_raises(monkeypatch, KeyboardInterrupt())
    assert door.main(["raise"]) == 130
    assert capsys.readouterr().err == ""


def test_a_home_that_is_a_file(house: House) -> None:
    house.home.write_text("")
    done = house.dukou("models")
    assert done.returncode == 2
    assert "[config.invalid]" in done.stderr
    assert "DUKOU_HOME" in done.stderr
