"""The runner: kept results, records, failures. Stages of the test's own, so that runs can be counted."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dukou.base.errors import InputError
from dukou.lifecycle import runner
from dukou.lifecycle.create import create_project
from dukou.lifecycle.project import Project, load_project
from dukou.lifecycle.runner import digest_of, ship
from dukou.lifecycle.stage import Line


class _Counting:
    """A stage that counts its runs and writes what it was told."""

    name = ""
    needs: tuple[str, ...] = ()
    revision = 1
    cached = True
    runs: ClassVar[dict[str, int]] = {}
    told: ClassVar[dict[str, Any]] = {}

    def depends(self, line: Line) -> Mapping[str, Any]:
        return {"told": self.told.get(self.name)}

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:
        self.runs[self.name] = self.runs.get(self.name, 0) + 1
        (into / "file").write_text(str(self.told.get(self.name)))
        if self.told.get(self.name) == "fail":
            raise InputError("data.empty", "there are no rows")
        return {"told": self.told.get(self.name)}

    def summary(self, facts: Mapping[str, Any]) -> str:
        return f"told {facts['told']}"


class One(_Counting):
    name = "one"


class Aside(_Counting):
    name = "aside"


class Two(_Counting):
    name = "two"
    needs = ("one",)


class Apply(_Counting):
    name = "apply"
    needs = ("two",)
    cached = False


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    here = {s.name: s for s in (One, Aside, Two, Apply)}
    monkeypatch.setattr(runner, "STAGES", {name: name for name in here})
    monkeypatch.setattr(runner, "resolve", here.__getitem__)
    monkeypatch.setattr(_Counting, "runs", {})
    monkeypatch.setattr(_Counting, "told", {})
    create_project(tmp_path / "project", name="m")
    (tmp_path / "project" / "data.csv").touch()
    return load_project(tmp_path / "project")


def test_what_did_not_change_is_not_run_again(project: Project, tmp_path: Path) -> None:
    said: list[str] = []
    ship(project, tmp_path / "home")
    again = ship(project, tmp_path / "home", say=said.append)
    assert _Counting.runs == {"one": 1, "aside": 1, "two": 1, "apply": 2}
    assert again.results["two"].cached
    assert not again.results["apply"].cached
    assert said[0] == "one       told None (kept)"


def test_only_what_depends_on_a_change_runs_again(project: Project, tmp_path: Path) -> None:
    ship(project, tmp_path / "home")
    _Counting.told["one"] = "more"
    ship(project, tmp_path / "home")
    assert _Counting.runs == {"one": 2, "aside": 1, "two": 2, "apply": 2}


def test_fresh_takes_nothing_kept(project: Project, tmp_path: Path) -> None:
    ship(project, tmp_path / "home")
    ship(project, tmp_path / "home", fresh=True)
    assert set(_Counting.runs.values()) == {2}


def test_a_failure_is_recorded_and_nothing_half_done_is_kept(
    project: Project, tmp_path: Path
) -> None:
    _Counting.told["two"] = "fail"
    with pytest.raises(InputError, match="there are no rows"):
        ship(project, tmp_path / "home")
    [record] = (tmp_path / "home" / "runs" / "m").iterdir()
    document = json.loads((record / "run.json").read_text())
    assert document["failure"] == {"code": "data.empty", "message": "there are no rows"}
    assert list(document["stages"]) == ["one", "aside"]
    assert "The line stopped." in (record / "report.html").read_text()
    assert not list((tmp_path / "home" / "cache" / "stages" / "two").iterdir())


def test_until_stops_the_line(project: Project, tmp_path: Path) -> None:
    shipment = ship(project, tmp_path / "home", until="two")
    assert list(shipment.results) == ["one", "aside", "two"]
    assert shipment.version is None
    with pytest.raises(InputError, match="`three` is not a stage"):
        ship(project, tmp_path / "home", until="three")


def test_a_digest_is_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = digest_of([tmp_path / "a"])
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert digest_of([tmp_path / "a"]) != first


@pytest.mark.parametrize("fails", [False, True])
def test_callers_rows_are_there_for_one_run_and_in_no_kept_result(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    seen: list[bool] = []

    def run(self: One, line: Line, into: Path) -> Mapping[str, Any]:
        return {**_Counting.run(self, line, into), "captured": True}

    def look(self: Two, line: Line, into: Path) -> Mapping[str, Any]:
        seen.append((line.folder("one") / "file").is_file())
        return _Counting.run(self, line, into)

    monkeypatch.setattr(One, "run", run)
    monkeypatch.setattr(Two, "run", look)
    _Counting.told["two"] = "fail" if fails else None
    for _ in range(2):
        with pytest.raises(InputError) if fails else contextlib.nullcontext():
            ship(project, tmp_path / "home")
    # What rests on the rows is known by its key, and taken without them.
    assert seen == ([True, True] if fails else [True])
    assert _Counting.runs["one"] == 2
    stages = tmp_path / "home" / "cache" / "stages"
    assert list((stages / "one").iterdir()) == []
