"""`dukou fleet up --ray`: a node of the cluster dies under load, and its replica is back on another."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from bench.cluster import ray_cluster
from bench.process import tree_of
from tests.registry_house import move_alias, publish
from tests.serving import Callers, House, RunningFleet, is_gone, wait_until

# A node is missed after 1.5 s; Ray's own 15 s are for larger clusters than a test's.
_WATCHFUL = {
    "RAY_health_check_initial_delay_ms": "0",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
}


def placer_of(fleet: RunningFleet) -> int:
    for pid in tree_of(fleet.process.pid):
        if b"dukou.fleet.ray.placer" in Path("/proc", str(pid), "cmdline").read_bytes():
            return pid
    raise AssertionError("nothing talks to Ray")


@pytest.mark.timeout(240)
def test_a_node_dies_under_load(house: House, tmp_path: Path) -> None:
    publish(house, tmp_path, seed=1)
    move_alias(house, 1)
    with ray_cluster(Path(sys.executable), house.home.parent / "ray", _WATCHFUL) as cluster:
        words = ("chain", "--replicas", "3", "--ray", "--address", cluster.address)
        with house.fleet(*words) as fleet:
            wait_until(lambda: fleet.healthy() == 3, "three healthy replicas", 60.0)
            placed = {r["name"]: r["where"] for r in fleet.status()["replicas"]}
            assert len(set(placed.values())) == 2, "spread over both nodes"
            with Callers(fleet.address, "chain", clients=4) as load:
                load.more(300)
                # What talks to Ray dies too: it comes back, and finds its replicas.
                os.kill(placer_of(fleet), signal.SIGKILL)
                cluster.kill_second()

                def is_whole_again() -> bool:
                    status = fleet.status()
                    return (
                        status["healthy"] == 3
                        and len({replica["where"] for replica in status["replicas"]}) == 1
                    )

                wait_until(is_whole_again, "three replicas on the node that is left", 90.0)
                before = {r["name"]: r["requests"] for r in fleet.status()["replicas"]}
                load.more(300)
                after = {r["name"]: r["requests"] for r in fleet.status()["replicas"]}
                load.stop()
            assert all(after[name] > before[name] for name in after)
            assert load.wrong == [] and load.backwards == []
            assert load.failures() <= max(12, load.outcomes["ok"] * 0.005), dict(load.outcomes)
            servers = [pid for r in fleet.status()["replicas"] for pid in fleet.pids(r)]
            status, stderr = fleet.end()
        assert status == 0
        assert "what talks to Ray was ended by SIGKILL; it is started again" in stderr
        # They ended with the fleet, not with the cluster.
        wait_until(lambda: all(map(is_gone, servers)), "the end of every server")
