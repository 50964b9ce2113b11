"""`dukou fleet up`: a replica is killed and a version promoted under load, and callers hardly notice."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.registry_house import move_alias, publish
from tests.serving import Callers, House, RunningFleet, is_gone, wait_until


def requests_of(status: dict[str, Any]) -> dict[str, int]:
    return {replica["name"]: int(replica["requests"]) for replica in status["replicas"]}


@pytest.mark.timeout(120)
def test_a_replica_dies_and_a_version_comes_under_load(house: House, tmp_path: Path) -> None:
    for seed in (1, 2):
        publish(house, tmp_path, seed=seed)
    move_alias(house, 1)
    with house.fleet("chain", "--replicas", "3") as fleet:
        wait_until(lambda: fleet.healthy() == 3, "three healthy replicas")
        everybody = [pid for r in fleet.status()["replicas"] for pid in fleet.pids(r)]
        with Callers(fleet.address, "chain", clients=6) as load:
            load.more(300)
            shared(fleet, load)
            killed(fleet, load)
            promoted(house, fleet, load)
            load.stop()
        assert load.backwards == [] and load.wrong == []
        assert load.failures() <= load.outcomes["ok"] * 0.005, dict(load.outcomes)
        assert set(load.versions) == {"1", "2"}
        everybody += [pid for r in fleet.status()["replicas"] for pid in fleet.pids(r)]
        status, stderr = fleet.end()
    assert status == 0
    assert "replica-2 was ended by SIGKILL; it is started again" in stderr
    wait_until(lambda: all(map(is_gone, everybody)), "the end of every process")


def shared(fleet: RunningFleet, load: Callers) -> None:
    """No replica idles while another works; how even it is on a quiet machine, the bench says."""
    before = requests_of(fleet.status())
    load.more(900)
    after = requests_of(fleet.status())
    got = [after[name] - before[name] for name in after]
    assert min(got) >= sum(got) / 20, got


def killed(fleet: RunningFleet, load: Callers) -> None:
    victim = fleet.status()["replicas"][1]
    failures = load.failures()
    for pid in fleet.pids(victim):
        os.kill(pid, signal.SIGKILL)
    load.more(200)

    def is_back() -> bool:
        replica = fleet.status()["replicas"][1]
        return bool(replica["healthy"]) and replica["restarts"] == 1

    wait_until(is_back, "another replica in its place")
    before = requests_of(fleet.status())["replica-2"]
    load.more(300)
    status = fleet.status()
    assert requests_of(status)["replica-2"] > before
    assert status["replicas"][1]["url"] != victim["url"]
    assert status["healthy"] == 3
    # What was under way to it when it died may be lost; what came after is not.
    assert load.failures() - failures <= 12, dict(load.outcomes)


def promoted(house: House, fleet: RunningFleet, load: Callers) -> None:
    move_alias(house, 2)
    wait_until(lambda: load.versions["2"] > 200, "answers of version 2")
    wait_until(
        lambda: len({r["revision"] for r in fleet.status()["replicas"]}) == 1, "one revision"
    )
    before = load.versions["1"]
    load.more(200)
    assert load.versions["1"] == before


def test_it_grows_and_shrinks_without_losing_a_request(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=1)
    with (
        house.fleet("chain", "--replicas", "1") as fleet,
        Callers(fleet.address, "chain", clients=4) as load,
    ):
        load.more(100)
        assert house.dukou("fleet", "scale", "chain", "2").returncode == 0
        wait_until(lambda: fleet.healthy() == 2, "two replicas")
        load.more(200)
        assert house.dukou("fleet", "scale", "chain", "1").returncode == 0
        wait_until(lambda: len(fleet.status()["replicas"]) == 1, "one replica")
        load.more(100)
        gateway = fleet.status()["gateway"]["pid"]
        load.stop()
        assert load.failures() == 0, dict(load.outcomes)
        # The gateway is started again too, at its address.
        os.kill(gateway, signal.SIGKILL)
        wait_until(lambda: fleet.status()["gateway"]["restarts"] == 1, "another gateway")
        wait_until(lambda: fleet.status()["healthy"] == 1, "which finds its replica")
        assert fleet.ask("chain")[0] == 200
