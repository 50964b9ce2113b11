"""A base file: what it gives, and what a project may not take away."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from dukou.base.errors import InputError
from dukou.lifecycle.extends import _DEMANDS
from dukou.lifecycle.project import Project, load_project

TEAM = """\
[model]
license = "Apache-2.0"
[data]
seed = 3
drop = ["name"]
min_rows = 100
max_missing = 0.1
ranges = { age = [0, 120] }
[evaluate]
cross_validation = 5
gates = ["accuracy >= 0.9", "recall[ill] >= 0.8", "log_loss <= 0.5"]
[optimize]
accuracy_budget = 0.01
[improve]
alpha = 0.05
[deploy]
strategy = "canary"
[deploy.canary]
steps = [5, 50, 100]
min_seconds = 60
error_slack = 0.001
max_disagreement = 0.05
alpha = 0.01
on_deadline = "hold"
[monitor]
capture = false
drift = true
keep = "30d"
[privacy]
capture_untagged = false
fields = { name = "hash", age = "generalize:10", "*" = "detect" }
[maintain]
backup_drill = "30d"
"""
OWN = """\
version = 1
extends = "../team.toml"
[model]
name = "m"
[data]
path = "data.csv"
target = "y"
[train]
command = "true"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "team.toml").write_text(TEAM, encoding="utf-8")
    made = tmp_path / "project"
    made.mkdir()
    (made / "data.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    return made


def write(folder: Path, more: str = "", own: str = OWN) -> Path:
    for section in ("data", "model"):
        # A section stands in a file once.
        head, mark, rest = more.partition(f"[{section}]\n")
        if mark:
            line, _, rest = rest.partition("\n")
            own, more = own.replace(f"[{section}]\n", f"[{section}]\n{line}\n"), head + rest
    (folder / "dukou.toml").write_text(own + more, encoding="utf-8")
    return folder


def test_a_project_has_what_its_base_says_and_adds_to_it(folder: Path) -> None:
    more = (
        '[evaluate]\ngates = ["accuracy >= 0.95", "f1 >= 0.7"]\n[maintain]\nbackup_drill = "7d"\n'
    )
    project = load_project(write(folder, more))
    assert project.model.license == "Apache-2.0"
    assert project.data.min_rows == 100
    assert project.deploy.strategy == "canary"
    assert project.evaluate.gates == [
        "accuracy >= 0.9",
        "recall[ill] >= 0.8",
        "log_loss <= 0.5",
        "accuracy >= 0.95",
        "f1 >= 0.7",
    ]
    assert project.maintain.backup_drill == "7d"
    tighter = load_project(write(folder, "[data]\nranges = { age = [18, 99], size = [0, 1] }\n"))
    assert dict(tighter.data.ranges) == {"age": (18, 99), "size": (0, 1)}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[data]\nmin_rows = 99\n", "`data.min_rows` is 99, at least 100 is demanded"),
        ("[data]\nmax_missing = 0.2\n", "`data.max_missing` is 0.2, at most 0.1 is demanded"),
        ("[data]\nranges = { age = [-5, 120] }\n", "lets `age` go from -5 to 120"),
        ("[evaluate]\ncross_validation = 0\n", "`evaluate.cross_validation` is 0"),
        (
            '[evaluate]\ngates = ["accuracy >= 0.8"]\n',
            "has `accuracy >= 0.8`, `accuracy >= 0.9` is demanded",
        ),
        ('[evaluate]\ngates = ["log_loss <= 0.9"]\n', "`log_loss <= 0.5` is demanded"),
        ('[evaluate]\ngates = ["recall[ill] >= 0.1"]\n', "`recall[ill] >= 0.8` is demanded"),
        ("[optimize]\naccuracy_budget = 0.05\n", "`optimize.accuracy_budget` is 0.05"),
        ("[improve]\nalpha = 0.2\n", "`improve.alpha` is 0.2, at most 0.05 is demanded"),
        ('[deploy]\nstrategy = "immediate"\n', "is `immediate`, `canary` is demanded"),
        ("[monitor]\ncapture = true\n", "`monitor.capture` is true, false is demanded"),
        ('[maintain]\nbackup_drill = "60d"\n', "is `60d`, `30d` or sooner is demanded"),
        ('[privacy]\nfields = { name = "keep" }\n', "tags `name` as `keep`, `hash` or stricter"),
        ('[privacy]\nfields = { age = "generalize:5" }\n', "`generalize:10` or stricter"),
        (
            '[privacy]\nfields = { other = "keep" }\n',
            "tags `other` as `keep`, `detect` or stricter",
        ),
        ("[privacy]\ncapture_untagged = true\n", "is true, false is demanded"),
        ("[data]\nseed = 4\n", "`data.seed` is 4, 3 is demanded"),
        ('[monitor]\nkeep = "60d"\n', "`monitor.keep` is `60d`"),
        ("[monitor]\ndrift = false\n", "`monitor.drift` is false, true is demanded"),
        ("[deploy.canary]\nsteps = [50, 100]\n", "leaves out 5 %, which is demanded"),
        ("[deploy.canary]\nmin_seconds = 1\n", "`deploy.canary.min_seconds` is 1"),
        ("[deploy.canary]\nerror_slack = 0.5\n", "`deploy.canary.error_slack` is 0.5"),
        ('[deploy.canary]\nmax_disagreement = "none"\n', "is `none`, at most 0.05 is demanded"),
        ("[deploy.canary]\nmax_disagreement = 0.5\n", "is 0.5, at most 0.05 is demanded"),
        ("[deploy.canary]\nalpha = 1e-9\n", "is 1e-09, at least 0.01 is demanded"),
        ('[deploy.canary]\non_deadline = "promote"\n', "is `promote`, `hold` is demanded"),
        # What another type or no number would slip by.
        ('[data]\nmin_rows = "1"\n', "is '1', and cannot be compared with the demanded 100"),
        ("[data]\nmax_missing = nan\n", "is nan, at most 0.1 is demanded"),
        ("[data]\nranges = { age = [nan, nan] }\n", "lets `age` go from nan to nan"),
        ("[data]\nseed = true\n", "`data.seed` is True, 3 is demanded"),
        ('[maintain]\nbackup_drill = "seldom"\n', "is 'seldom', and cannot be read"),
        ('[evaluate]\ngates = ["accuracy"]\n', "and cannot be read"),
    ],
)
def test_what_is_weaker_is_refused_with_both_sides(folder: Path, more: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        load_project(write(folder, more))
    assert refused.value.code == "project.loosens"
    assert said in refused.value.message
    assert "team.toml" in refused.value.message


def test_tags_are_added_and_made_stricter(folder: Path) -> None:
    more = '[privacy]\nfields = { name = "drop", age = "generalize:10", size = "mask" }\n'
    assert load_project(write(folder, more)).privacy.fields == {
        "name": "drop",
        "age": "generalize:10",
        "*": "detect",
        "size": "mask",
    }


def test_a_gate_of_another_class_or_bound_is_another_gate(folder: Path) -> None:
    more = '[evaluate]\ngates = ["recall[well] >= 0.1", "accuracy.lower >= 0.5"]\n'
    assert len(load_project(write(folder, more)).evaluate.gates) == 5


def test_bases_extend_bases_and_never_themselves(folder: Path) -> None:
    (folder.parent / "house.toml").write_text("[data]\nmin_rows = 500\n", encoding="utf-8")
    (folder.parent / "team.toml").write_text('extends = "house.toml"\n', encoding="utf-8")
    assert load_project(write(folder)).data.min_rows == 500
    with pytest.raises(InputError, match="at least 500 is demanded"):
        load_project(write(folder, "[data]\nmin_rows = 100\n"))
    (folder.parent / "house.toml").write_text('extends = "team.toml"\n', encoding="utf-8")
    with pytest.raises(InputError, match="leads back to itself"):
        load_project(folder)


def test_a_base_that_is_not_there_or_not_named_is_said(folder: Path) -> None:
    with pytest.raises(InputError, match="is not there") as refused:
        load_project(write(folder, own=OWN.replace("team", "teem")))
    assert refused.value.code == "project.not-found"
    assert refused.value.hint == "the path is relative to the file that says it"
    with pytest.raises(InputError, match="must be a path in quotes"):
        load_project(write(folder, own=OWN.replace('"../team.toml"', "7")))


def test_a_careful_project_may_be_more_careful_still(folder: Path) -> None:
    more = (
        '[data]\ndrop = ["address"]\n[deploy.canary]\nsteps = [1, 5, 20, 50, 100]\nmin_seconds = 90\n'
        'on_deadline = "rollback"\nmax_disagreement = 0.01\n[monitor]\nkeep = "7d"\n'
    )
    project = load_project(write(folder, more))
    assert project.data.drop == ["name", "address"]
    canary = project.deploy.canary
    assert (canary.steps, canary.min_seconds, canary.on_deadline) == (
        [1, 5, 20, 50, 100],
        90,
        "rollback",
    )
    # What the project does not say is the base's, within the table too.
    assert (canary.error_slack, canary.alpha) == (0.001, 0.01)


def test_every_key_that_is_a_demand_is_one_that_a_project_has() -> None:
    """A key that is renamed takes its demand along."""
    for place in _DEMANDS:
        model: type[BaseModel] = Project
        for key in place.split("."):
            field = model.model_fields[key]
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                model = field.annotation
