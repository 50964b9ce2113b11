"""`dukou privacy` and a project's tags at the door: one sentence, a code, a way on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import serving
from tests.serving import House

PROJECT = """\
version = 1

[model]
name = "people"

[data]
path = "data.csv"
target = "good"
drop = ["note"]

[train]
command = "python train.py"

"""


@pytest.fixture
def house() -> Iterator[House]:
    with serving.house() as place:
        yield place


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "people"
    folder.mkdir()
    lines = ["年龄,email,visits,note,good"]
    lines += [f"{20 + n % 40},p{n}@example.com,{n % 7},x,{n % 2}" for n in range(120)]
    (folder / "data.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "dukou.toml").write_text(PROJECT, encoding="utf-8")
    return folder


def with_tags(project: Path, text: str) -> Path:
    (project / "dukou.toml").write_text(PROJECT + text, encoding="utf-8")
    return project


def test_check_says_which_columns_look_personal_and_what_to_write(house, project) -> None:
    done = house.dukou("privacy", "check", project)
    assert done.returncode == 0, done.stderr
    assert 'fields = { "年龄" = "generalize:10", email = "hash" }' in done.stdout
    assert "100% of its cells are of the form `email`" in done.stdout
    assert "visits" not in done.stdout
    with_tags(project, '[privacy.fields]\nemail = "drop"\n"*" = "keep"\n')
    found = json.loads(house.dukou("privacy", "check", project, "--json").stdout)["columns"]
    assert [(c["column"], c["suggested"], c["tag"]) for c in found] == [
        ("年龄", "generalize:10", "keep"),
        ("email", "hash", "drop"),
    ]
    file = house.dukou("privacy", "check", project / "data.csv", "--json")
    assert len(json.loads(file.stdout)["columns"]) == 3, "of a file every column"
    gone = house.dukou("privacy", "check", project / "nothing.csv")
    assert gone.returncode == 2
    assert "[formats.not-found]" in gone.stderr


@pytest.mark.parametrize(
    ("tags", "code", "words", "hint"),
    [
        (
            "[monitor]\ncapture = true\n",
            "privacy.untagged",
            "`年龄`, `email`, `visits`",
            "capture_untagged",
        ),
        (
            '[monitor]\ncapture = true\n[privacy.fields]\nemail = "hash"\n"年龄" = "keep"\n',
            "privacy.untagged",
            "`visits` of `people` has no tag",
            "keep",
        ),
        ('[privacy.fields]\nemial = "hash"\n', "privacy.unknown-field", "`emial`", "`email`?"),
        ('[privacy]\nsubject = "custmer"\n', "privacy.unknown-field", "`custmer`", "`*`"),
        ('[privacy.fields]\nemail = "hsah"\n', "project.invalid", "`hsah`", ""),
        ("[privacy]\nfeilds = 1\n", "project.invalid", "`privacy.feilds`", "`fields`?"),
    ],
)
def test_tags_that_are_not_right_stop_the_line_before_training(
    house, project, tags, code, words, hint
) -> None:
    done = house.dukou("ship", with_tags(project, tags), "--until", "privacy")
    assert done.returncode == 2
    error, said = [line for line in done.stderr.splitlines() if line[:5] in ("error", "hint:")]
    assert error.endswith(f"[{code}]")
    assert words in error
    assert hint in said


def test_tags_that_are_whole_are_said_on_the_line(house, project) -> None:
    tags = (
        '[monitor]\ncapture = true\n[privacy.fields]\nemail = "hash"\nnote = "drop"\n"*" = "keep"\n'
    )
    done = house.dukou("ship", with_tags(project, tags), "--until", "privacy")
    assert done.returncode == 0, done.stderr
    assert "3 fields, 1 hash, all others keep; requests are kept so" in done.stderr + done.stdout
    done = house.dukou("ship", with_tags(project, ""), "--until", "privacy")
    assert "3 fields, none tagged; no request is kept" in done.stderr + done.stdout


def test_a_person_of_whom_nothing_is_kept(house, tmp_path) -> None:
    out = tmp_path / "rows.jsonl"
    done = house.dukou("privacy", "export", "Ann Lee", "--out", out)
    assert done.returncode == 3
    assert "[privacy.unknown-subject]" in done.stderr
    assert "Ann" not in done.stderr
    assert not out.exists()
    out.write_text("mine")
    done = house.dukou("privacy", "export", "Ann Lee", "--out", out)
    assert done.returncode == 2
    assert f"`{out}` is there already [privacy.file-exists]" in done.stderr
    assert out.read_text() == "mine"
    done = house.dukou("privacy", "erase", "Ann Lee")
    assert done.returncode == 0
    assert "nothing is kept of this person" in done.stdout
    empty = house.dukou("privacy", "erase", "-", stdin="\n")
    assert empty.returncode == 2
    assert "[usage.invalid]" in empty.stderr
    kept = b"".join(p.read_bytes() for p in house.home.rglob("*") if p.is_file())
    assert b"Ann Lee" not in kept


def test_a_rotation_says_how_many_keys_there_are(house) -> None:
    assert json.loads(house.dukou("privacy", "rotate", "--json").stdout) == {"keys": 2}
    assert "2 older stay" in house.dukou("privacy", "rotate").stdout
