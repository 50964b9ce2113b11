"""Maintenance from outside: what is listed, done and written down, and what is found wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dukou.base.errors import StateError, TrustError
from dukou.cli.main import main
from dukou.lifecycle.backup import drill_backup
from dukou.lifecycle.maintain import CHORES, list_chores, run_chore, run_due
from dukou.lifecycle.project import load_project
from dukou.package.disk import hold_lock
from dukou.registry.registry import Registry
from dukou.trust.keys import load_or_create_signing_key, load_trust_store, rotate_signing_key
from tests.registry_house import move_alias, publish
from tests.serving import House, house

PROJECT = """\
version = 1

[model]
name = "chain"

[data]
path = "data.csv"
target = "y"

[train]
command = "python train.py"

[maintain]
backup_drill = "30d"
rotate_keys = "90d"
retention = "30d"
audit_dependencies = "7d"
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "dukou.toml").write_text(PROJECT, encoding="utf-8")
    (folder / "data.csv").write_text("x,y\n1,0\n", encoding="utf-8")
    return folder


@pytest.fixture
def place(tmp_path: Path):
    with house() as made:
        publish(made, tmp_path, seed=1)
        move_alias(made, 1)
        yield made


def test_what_is_due_is_done_written_down_and_not_due_any_more(place: House, project: Path) -> None:
    listed = json.loads(place.dukou("maintain", project, "--json").stdout)["chores"]
    assert {c["name"] for c in listed} == set(CHORES)
    assert {c["name"] for c in listed if c["is_due"]} == set(CHORES) - {"retrain", "backup"}
    done = place.dukou("maintain", project, "--due")
    assert done.returncode == 0, done.stderr
    assert "backup-drill: done" in done.stdout
    assert "4 audit events, 1 versions" in done.stderr or "audit events, 1 versions" in done.stderr
    assert place.dukou("maintain", project, "--due").stdout == "nothing is due\n"
    shown = place.dukou("maintain", project).stdout
    assert "in 30 d" in shown
    assert "not asked for" in shown
    with Registry.open(place.home) as registry:
        actions = [event.action for event in registry.audit_events()]
        assert {f"chore.{name}" for name in CHORES if name not in ("retrain", "backup")} <= set(
            actions
        )
        (drill,) = registry.chores.list("chain", "backup-drill")
        assert drill.document["versions"] == {"chain:1": 1}
        registry.verify_audit()
    # The key is a new one, and what the old one signed is served all the same.
    with place.serving("chain") as server:
        assert server.ask("chain")[0] == 200


def test_a_drill_finds_a_damaged_blob_and_says_so(place: House, project: Path) -> None:
    blobs = sorted((place.home / "store" / "blobs" / "sha256").iterdir(), key=lambda p: p.name)
    blob = next(b for b in blobs if b.stat().st_size > 40)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(content)
    with pytest.raises(StateError) as failed:
        drill_backup(load_project(project), place.home, lambda _text: None)
    assert failed.value.code == "maintain.failed"
    assert "the copy does not hold" in failed.value.message
    done = place.dukou("maintain", project, "--run", "backup-drill")
    assert done.returncode == 3
    assert "maintain.failed" in done.stderr
    failed_chore = list_chores(load_project(project), place.home)
    assert {c.name: c.outcome for c in failed_chore}["backup-drill"] == "failed"


def test_a_pin_that_is_not_kept_is_found(place: House, project: Path) -> None:
    run_chore(load_project(project), place.home, "audit-dependencies")
    (project / "requirements.txt").write_text("numpy==0.0.1\nno-such-thing==1\n", encoding="utf-8")
    done = place.dukou("maintain", project, "--run", "audit-dependencies")
    assert done.returncode == 3
    assert "pins `numpy==0.0.1`, installed is" in done.stderr
    assert "pins `no-such-thing==1`, not installed" in done.stderr


def test_a_rotation_that_is_cut_off_leaves_one_whole_key(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = load_or_create_signing_key(home)
    keys = home / "keys"
    # Cut off after the first step: the old key is whole again.
    (keys / "signing.pub").unlink()
    assert load_or_create_signing_key(home).id == first.id
    old, new = rotate_signing_key(home)
    assert (old.id, load_or_create_signing_key(home).id) == (first.id, new.id)
    assert new.id != first.id
    assert {first.id, new.id} <= set(load_trust_store(home))
    assert old.path.is_file()
    # Cut off after the second: a new key is made, and the last one is trusted.
    (keys / "signing.pub").unlink()
    (keys / "signing.pem").rename(keys / "aside.pem")
    assert load_or_create_signing_key(home).id not in (first.id, new.id)
    assert {first.id, new.id} <= set(load_trust_store(home))


def test_a_key_that_is_kept_elsewhere_is_not_rotated(tmp_path: Path, monkeypatch) -> None:
    key = load_or_create_signing_key(tmp_path / "home")
    monkeypatch.setenv("DUKOU_SIGNING_KEY", str(key.path))
    with pytest.raises((StateError, TrustError)) as refused:
        rotate_signing_key(tmp_path / "home")
    assert refused.value.code == "trust.key-elsewhere"


def test_what_is_no_chore_and_no_interval_is_refused(place: House, project: Path) -> None:
    done = place.dukou("maintain", project, "--run", "back-up")
    assert done.returncode == 2
    assert "`back-up` is not a chore" in done.stderr
    text = PROJECT.replace('"90d"', '"sometimes"')
    (project / "dukou.toml").write_text(text, encoding="utf-8")
    done = place.dukou("maintain", project)
    assert done.returncode == 2
    assert "`maintain.rotate_keys` is `sometimes`, must be a duration" in done.stderr


def test_one_that_failed_is_due_the_next_day(place: House, project: Path) -> None:
    read = load_project(project)
    with Registry.open(place.home) as registry:
        for name, outcome in (("backup-drill", "failed"), ("rotate-keys", "done")):
            registry.chores.add("chain", name, outcome=outcome, began=registry.now())
    now = datetime.now(UTC)

    def due(when: datetime) -> dict[str, bool]:
        return {c.name: c.is_due(when) for c in list_chores(read, place.home, now=when)}

    assert not due(now)["backup-drill"]
    tomorrow = due(now + timedelta(hours=25))
    assert tomorrow["backup-drill"] and not tomorrow["rotate-keys"]
    assert due(now + timedelta(days=91))["rotate-keys"]
    # A clock that was set back by a year: nobody can say how long ago it was.
    assert due(now - timedelta(days=365))["rotate-keys"]


def test_a_retraining_is_due_after_a_version_and_not_at_once(
    place: House, project: Path, tmp_path: Path
) -> None:
    text = PROJECT.replace("[maintain]", '[maintain]\nretrain = "7d"')
    (project / "dukou.toml").write_text(text, encoding="utf-8")

    def due(home: Path, days: int) -> bool:
        when = datetime.now(UTC) + timedelta(days=days)
        chores = list_chores(load_project(project), home, now=when)
        return {c.name: c.is_due(when) for c in chores}["retrain"]

    assert [due(place.home, days) for days in (0, 6, 8)] == [False, False, True]
    assert not due(tmp_path / "nothing-yet", 8)


def test_two_at_once_do_nothing_twice(place: House, project: Path) -> None:
    read = load_project(project)
    with hold_lock(place.home / ".maintain.lock", shared=False, wait=True):
        for work in (
            lambda: run_due(read, place.home, say=print),
            lambda: run_chore(read, place.home, "rotate-keys"),
        ):
            with pytest.raises(StateError, match="another `dukou maintain` runs") as refused:
                work()
            assert refused.value.code == "maintain.running"
    assert len(load_trust_store(place.home)) == 1


def test_a_project_that_asks_for_nothing_is_told_how_to_ask(
    place: House, project: Path, monkeypatch, capsys
) -> None:
    (project / "dukou.toml").write_text(PROJECT.partition("[maintain]")[0], encoding="utf-8")
    monkeypatch.setenv("DUKOU_HOME", str(place.home))
    for words in (["maintain", str(project), "--due"], ["maintain", str(project)]):
        assert main(words) == 0
        said = capsys.readouterr().out
        assert "the project asks for no chore" in said and "[maintain]" in said
