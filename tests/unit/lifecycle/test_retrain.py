"""When a model is trained again, and when not: one at a time, never while a version is on its way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.monitor.test_store import tapped

from dukou.base.errors import InputError, StateError
from dukou.lifecycle.create import create_project
from dukou.lifecycle.project import Project, load_project
from dukou.lifecycle.retrain import Trigger, find_trigger, retrain, retrain_if_due
from dukou.monitor.store import CaptureStore
from dukou.package.disk import hold_lock
from dukou.registry.registry import Registry
from dukou.rollout.policy import Policy

PERSON = Trigger("asked for by a person", "person")
ALARM = {"began": "2026-11-24T00:00:00+00:00", "ended": "2026-11-24T01:00:00+00:00"}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "home"
    with Registry.open(folder, actor="test") as registry:
        for number in (1, 2):
            registry.register_version("m", f"sha256:{number:064x}")
        registry.set_alias("m", "champion", 1, expected=None)
    yield folder


def project(folder: Path, retrain: str = "") -> Project:
    create_project(folder, name="m", force=True)
    (folder / "data.csv").write_text("a,target\n1,0\n", encoding="utf-8")
    text = (folder / "dukou.toml").read_text(encoding="utf-8")
    assert 'strategy = "immediate"' in text
    text = text.replace('strategy = "immediate"', 'strategy = "canary"')
    (folder / "dukou.toml").write_text(f"{text}\n[retrain]\n{retrain}\n", encoding="utf-8")
    return load_project(folder)


def test_a_second_retraining_of_a_model_waits_for_no_one(home: Path, tmp_path: Path) -> None:
    wanted = project(tmp_path / "p")
    with hold_lock(home / ".retrain-m.lock", shared=False, wait=False) as held:
        assert held
        for again in (
            lambda: retrain(wanted, home, trigger=PERSON),
            lambda: retrain_if_due(wanted, home),
        ):
            with pytest.raises(StateError, match="of `m` is under way already") as refused:
                again()
            assert refused.value.code == "retrain.running"
    assert retrain_if_due(wanted, home) is None
    with Registry.open(home) as registry:
        assert registry.chores.list("m", "retrain") == []


def test_nothing_is_trained_for_a_canary_that_could_not_begin(home: Path, tmp_path: Path) -> None:
    wanted = project(tmp_path / "p")
    with Registry.open(home) as registry:
        registry.rollouts.start("m", 2, Policy().to_json())
    with pytest.raises(StateError, match="to version 2 is under way") as refused:
        retrain(wanted, home, trigger=PERSON)
    assert refused.value.code == "rollout.running"
    assert retrain_if_due(wanted, home) is None
    assert not (home / "runs").exists()


def test_an_alarm_is_a_reason_once_there_are_new_labels(home: Path, tmp_path: Path) -> None:
    wanted = project(tmp_path / "p", "min_labels = 20")
    store = CaptureStore(home, "m")
    store.append(tapped(0, 40))
    with Registry.open(home) as registry:
        first = registry.windows.add("m", "drift", **ALARM, document={"alarm": True})
    assert find_trigger(wanted, home) is None, "nothing to learn from"
    labels = {f"{number:016x}:0": "1" for number in range(15)}
    for _ in range(3):
        store.add_labels(labels)
    assert find_trigger(wanted, home) is None, "the same labels again are no new ones"
    store.add_labels({f"{number:016x}:0": "1" for number in range(15, 30)})
    found = find_trigger(wanted, home)
    assert found is not None
    assert (found.kind, found.window) == ("drift", first)
    # Whatever came of it: the same alarm is no reason twice.
    with Registry.open(home) as registry:
        document = {"window": first, "labelled": 30}
        registry.chores.add("m", "retrain", outcome="failed", began="", document=document)
    assert find_trigger(wanted, home) is None
    with Registry.open(home) as registry:
        registry.windows.add("m", "drift", **ALARM, document={"alarm": True})
    assert find_trigger(wanted, home) is None, "no label since"
    assert find_trigger(project(tmp_path / "q", "on_drift = false"), home) is None


def test_a_schedule_is_a_reason(home: Path, tmp_path: Path) -> None:
    wanted = project(tmp_path / "p", 'every = "7d"')
    now = datetime.now(UTC)
    assert find_trigger(wanted, home, now=now + timedelta(days=6)) is None
    found = find_trigger(wanted, home, now=now + timedelta(days=8))
    assert found is not None
    assert found.kind == "schedule"
    # A clock that was set back is no reason, and no trouble.
    assert find_trigger(wanted, home, now=now - timedelta(days=30)) is None
    with pytest.raises(InputError, match="retrain.every"):
        project(tmp_path / "q", 'every = "often"')
