"""The pages of coverage: every demand is there, and every command and test that they name exists."""

from __future__ import annotations

import importlib
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dukou.cli.main import GROUPS

ROOT = Path(__file__).resolve().parents[2]
COVERAGE = runpy.run_path(str(ROOT / "scripts" / "coverage.py"))
DEMANDS: list[dict[str, Any]] = COVERAGE["load"]()["demand"]
STATES: dict[str, str] = COVERAGE["STATES"]
# How many demands each chapter of what was asked for has.
CHAPTERS = {1: 5, 2: 6, 3: 5, 4: 6, 5: 5, 6: 5, 7: 5, 8: 5, 9: 5}


def test_every_demand_is_there_once_and_in_order() -> None:
    wanted = [f"{chapter}.{n}" for chapter, count in CHAPTERS.items() for n in range(1, count + 1)]
    assert [demand["id"] for demand in DEMANDS] == wanted


@pytest.mark.parametrize("demand", DEMANDS, ids=lambda d: d["id"])
def test_what_is_named_exists(demand: dict[str, Any]) -> None:
    commands = {name: command for group in GROUPS.values() for name, command in group.items()}
    for text in demand["commands"]:
        program, name, *rest = text.split()
        assert program == "dukou"
        assert name in commands, f"`{text}`: dukou has no such command"
        if rest:
            source = Path(importlib.import_module(commands[name].module).__file__ or "")
            said = source.read_text(encoding="utf-8")
            assert all(word in said for word in rest), f"`{text}`: not in {source.name}"
    for test in demand["tests"]:
        assert (ROOT / test).is_file(), test
        assert re.search(r"^\s*(async )?def test_", (ROOT / test).read_text(), re.MULTILINE), test


@pytest.mark.parametrize("demand", DEMANDS, ids=lambda d: d["id"])
def test_a_state_is_earned(demand: dict[str, Any]) -> None:
    assert demand["state"] in STATES
    for key in ("title", "title_zh"):
        assert demand[key]
    if demand["state"] == "works":
        assert "missing" not in demand
    else:
        assert len(demand["missing"]) > 5 and len(demand["missing_zh"]) > 3
        assert re.search(r"[一-鿿]", demand["missing_zh"])
    if demand["state"] != "not yet":
        assert demand["commands"] and demand["tests"], "what works has a command and a test"


def _rows(page: str) -> list[tuple[str, ...]]:
    return [
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
        if re.match(r"\| \d", line)
    ]


def test_both_pages_say_the_same() -> None:
    """Read from the pages as they lie there, not from what they were made of."""
    states = {chinese: english for english, chinese in STATES.items()}
    english, chinese = _rows("coverage.md"), _rows("coverage.zh-CN.md")
    assert len(english) == len(chinese) == sum(CHAPTERS.values())
    for one, other in zip(english, chinese, strict=True):
        identity, _, commands, tests, state, _ = one
        assert (identity, commands, tests, state) == (
            other[0],
            other[2],
            other[3],
            states[other[4]],
        )


def test_the_table_is_printed_with_its_counts() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "coverage.py"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    *rows, empty, last = done.stdout.splitlines()
    assert (len(rows), empty) == (len(DEMANDS), "")
    assert last.startswith(f"{len(DEMANDS)} demands: ")
    assert sum(map(int, re.findall(r"(\d+) (?:works|thin|not yet)", last))) == len(DEMANDS)
