"""`dukou help`: a page for every code of either language, offline, and the words of an error."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.serving import House

from dukou.base.codes import CODES
from dukou.base.error_pages import load_error_pages, near_codes
from dukou.base.errors import BugError, InputError
from dukou.cli import failure
from dukou.cli.help import show_page

ROOT = Path(__file__).resolve().parents[2]
SPEC = tomllib.loads((ROOT / "spec" / "errors.toml").read_text(encoding="utf-8"))["error"]


@pytest.mark.parametrize("error", SPEC, ids=lambda e: e["code"])
def test_every_code_has_a_page(error: dict[str, str]) -> None:
    """Codes of Python and of the engine; `cause` stands in spec/errors.toml beside `summary`."""
    page = load_error_pages()[error["code"]]
    for name in ("summary", "cause", "remedy"):
        text = getattr(page, name)
        assert len(text) >= 10, f"spec/errors.toml: `{error['code']}` lacks `{name}`"
        assert text[-1] in ".`)", f"`{name}` is a sentence"
    assert page.summary == error["summary"]
    shown = show_page(page)
    assert shown.startswith(error["code"])
    assert max(map(len, shown.splitlines())) <= 100


def test_there_is_no_page_of_a_code_that_is_gone() -> None:
    pages = load_error_pages()
    assert set(pages) == {e["code"] for e in SPEC}
    assert set(CODES) <= set(pages)


def test_examples_are_commands_of_dukou_or_of_a_shell(house: House) -> None:
    from dukou.cli.main import command_names

    for page in load_error_pages().values():
        if page.example and page.example.startswith("dukou "):
            assert page.example.split()[1] in command_names(), page.code


def test_a_page_is_shown(house: House) -> None:
    done = house.dukou("help", "package.digest-mismatch")
    assert (done.returncode, done.stderr) == (0, "")
    for part in ("what it means", "how it typically happens", "what to do", "exit status 4"):
        assert part in done.stdout
    # As copied from a terminal, and in capitals.
    assert house.dukou("help", "[Package.Digest-Mismatch]").stdout == done.stdout
    page = json.loads(house.dukou("help", "--json", "package.digest-mismatch").stdout)
    assert page["code"] == "package.digest-mismatch"
    # A page asks nothing of the installation.
    assert not house.home.exists()


def test_a_code_of_the_engine_has_its_status(house: House) -> None:
    assert "HTTP 429" in house.dukou("help", "limits.queue-full").stdout


def test_all_codes_are_listed(house: House) -> None:
    done = house.dukou("help", "--codes")
    assert done.returncode == 0
    for code in load_error_pages():
        assert re.search(rf"^  {re.escape(code)} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("topic", "near"),
    [
        ("package.digest-missmatch", "dukou help package.digest-mismatch"),
        ("digest-mismatch", "dukou help package.digest-mismatch"),
        ("srve", "dukou help serve"),
        ("disk", "dukou help store.disk-full"),
    ],
)
def test_an_unknown_topic_names_the_nearest(house: House, topic: str, near: str) -> None:
    done = house.dukou("help", topic)
    assert done.returncode == 2
    assert f"`{topic}` is neither a command of dukou nor an error code" in done.stderr
    assert f"`{near}`" in done.stderr


def test_nothing_near() -> None:
    assert near_codes("qqqqqqqq", list(load_error_pages())) == []


def _printed(error: Exception, capsys: pytest.CaptureFixture[str]) -> list[str]:
    failure.report(error, [])
    return capsys.readouterr().err.splitlines()


def test_the_code_of_a_message_with_several_lines_is_at_its_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quoted = "    Traceback (most recent call last):\n      File x\n    ValueError: no"
    error = InputError("project.train-failed", f"`python t.py` ended; its last lines:\n{quoted}")
    assert _printed(error, capsys) == [
        "error: `python t.py` ended; its last lines [project.train-failed]:",
        "  | Traceback (most recent call last):",
        "  |   File x",
        "  | ValueError: no",
        f"hint: {error.hint}",
    ]


def test_a_message_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert _printed(BugError("bug.internal", ""), capsys)[0] == "error:  [bug.internal]"


def test_a_person_at_a_terminal_is_led_to_the_page(house: House) -> None:
    """A log or a script gets two lines; whoever sits there a third."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "dukou", "ship", "nowhere"],
            env=house.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
        )
        os.close(theirs)
        said = b""
        while piece := _read(ours):
            said += piece
        assert process.wait(timeout=30) == 2
    finally:
        os.close(ours)
    assert said.decode().splitlines()[-1] == "help: dukou help project.not-found"
    piped = house.dukou("ship", "nowhere").stderr.splitlines()
    assert len(piped) == 2


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except OSError:  # The other side of a terminal has gone.
        return b""
