"""What a fleet is planned as, found by, and what is said where Ray is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dukou.base.errors import DukouError
from dukou.fleet.folder import FleetFolder, find_fleet, new_fleet_folder, running_fleets
from dukou.fleet.look import look_at_fleets
from dukou.fleet.ray import check_ray
from dukou.lifecycle.fleet import FleetPlan, plan_fleet
from dukou.registry.registry import Registry
from dukou.serve.folder import running_servers


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("DUKOU_REGISTRY", raising=False)
    return tmp_path


def put(home: Path, **said: Any) -> None:
    with Registry.open(home) as registry:
        before = registry.deployment("shop")
        document = {"name": "shop", "models": [{"name": "d"}], **said}
        registry.put_deployment("shop", document, expected=before.revision if before else 0)


def test_the_deployment_says_how_many_where_the_command_does_not(runtime: Path) -> None:
    def plan(word: str = "shop", replicas: int | None = None) -> FleetPlan:
        return plan_fleet(runtime, word, name=None, replicas=replicas)

    assert plan() == FleetPlan("shop", 3)
    put(runtime)
    assert plan() == FleetPlan("shop", 3)
    put(runtime, profile="distributed")
    assert plan().replicas == 3
    put(runtime, profile="distributed", replicas=5, memory_bytes=7)
    assert plan() == FleetPlan("shop", 5, 7)
    assert plan(replicas=2).replicas == 2
    assert plan("shop:3") == FleetPlan("shop", 3)  # a version, not the deployment
    run = {"instances": 2, "threads": 2}
    put(runtime, models=[{"name": "d", "run": run}, {"name": "e", "run": {"instances": 1}}])
    assert plan().cpus == 4.0
    assert plan_fleet(runtime, "shop", name="other", replicas=None).name == "other"


def test_a_fleet_is_found_while_it_lives_and_is_no_server(runtime: Path) -> None:
    folder = new_fleet_folder("shop")
    lock = folder.hold()
    assert list(running_fleets()) == []  # it has said nothing yet
    document = {"name": "shop", "pid": os.getpid(), "started": time.time(), "url": "http://x"}
    folder.write(folder.fleet, document)
    assert find_fleet("shop")[1] == document
    assert find_fleet(None)[0].path == folder.path
    assert list(running_servers()) == []
    assert folder.path.exists()
    for call in (lambda: new_fleet_folder("shop"), lambda: find_fleet("other")):
        with pytest.raises(DukouError) as caught:
            call()
        assert caught.value.code in ("fleet.running", "fleet.not-running")
        assert "`shop`" in caught.value.message
    os.close(lock)
    assert list(running_fleets()) == []
    with pytest.raises(DukouError):
        find_fleet(None)
    assert new_fleet_folder("shop").path == FleetFolder(folder.path).path


def test_a_fleet_whose_engines_are_gone_is_shown_without_numbers(runtime: Path) -> None:
    replica = {"name": "replica-1", "url": "http://127.0.0.1:1", "socket": str(runtime / "no")}
    document = {
        "name": "shop",
        "gateway": {"socket": str(runtime / "none")},
        "replicas": [replica, {**replica, "name": "replica-2", "url": None, "socket": None}],
    }
    (seen,) = look_at_fleets([document], window_s=0.0)
    assert seen["healthy"] == 0
    for found in seen["replicas"]:
        assert (found["healthy"], found["requests"], found["rss_bytes"]) == (False, None, None)
    assert look_at_fleets([]) == []


def test_ray_that_is_missing_or_old(monkeypatch: pytest.MonkeyPatch) -> None:
    check_ray()
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.9.3")
    with pytest.raises(DukouError) as caught:
        check_ray()
    assert caught.value.code == "fleet.no-ray" and "2.9.3" in caught.value.message
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DukouError) as caught:
        check_ray()
    assert caught.value.code == "fleet.no-ray"
    assert "dukou[ray]" in caught.value.hint
