"""The keeper of rollouts: counters become blocks once each, whoever holds, dies or starts anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dukou.base.errors import RemoteError, StateError
from dukou.control.promote import promote_now, roll_back, start_rollout, wait_for_rollout
from dukou.control.rollouts import RolloutKeeper
from dukou.registry.registry import Registry

BOUNDS = [1000, 20_000, 100_000]


class Engine:
    """An engine whose counters the test moves."""

    def __init__(self) -> None:
        self.epoch = "one"
        self.up = True
        self.rows: dict[tuple[str, str], dict[str, Any]] = {}

    def serve(
        self,
        arm: str,
        version: int,
        *,
        ok: int = 0,
        errors: int = 0,
        left: int = 0,
        differ: int = 0,
    ) -> None:
        row = self.rows.setdefault(
            (arm, str(version)),
            {
                "model": "m",
                "version": str(version),
                "arm": arm,
                "requests": 0,
                "rows": 0,
                "batches": 0,
                "codes": {},
                "request_us": {"sum": 0, "counts": [0] * (len(BOUNDS) + 1)},
                "batch_rows": {},
                "agreement": {"compared": 0, "differ": 0, "dropped": 0}
                if arm == "shadow"
                else None,
            },
        )
        for code, count in (("ok", ok), ("backend.failed", errors), ("server.cancelled", left)):
            row["codes"][code] = row["codes"].get(code, 0) + count
        row["requests"] = sum(row["codes"].values())
        row["rows"] = row["requests"]
        row["batch_rows"] = {"1": row["requests"]}
        row["request_us"]["counts"][0] = row["requests"]
        if row["agreement"]:
            row["agreement"]["compared"] += ok
            row["agreement"]["differ"] += differ

    def restart(self, epoch: str) -> None:
        self.epoch, self.rows = epoch, {}

    def state(self) -> dict[str, Any]:
        if not self.up:
            raise RemoteError("engine.unreachable", "it is not there")
        return {"epoch": self.epoch, "bounds_us": BOUNDS, "arms": list(self.rows.values())}


class House:
    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.engine = Engine()
        self.now = 0.0
        self.said: list[str] = []

    def keeper(
        self,
        holder: str = "a",
        engine: Engine | None = None,
        peers: dict[str, Engine] | None = None,
    ) -> RolloutKeeper:
        return RolloutKeeper(
            self.registry,
            engine or self.engine,
            lambda: {"m": "m"},
            holder=holder,
            say=self.said.append,
            peers=lambda: peers or {},
            clock=lambda: self.now,
        )

    def step(self, keeper: RolloutKeeper, seconds: float = 1.0) -> None:
        self.now += seconds
        keeper.step()

    def totals(self, number: int) -> tuple[int, int]:
        state = self.registry.rollouts.get(number).evidence["state"]
        return state["champion"]["requests"], state["challenger"]["requests"]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    with Registry.open(tmp_path, actor="test") as registry:
        for number in (1, 2, 3):
            registry.register_version("m", f"sha256:{number:064x}")
        registry.set_alias("m", "champion", 1, expected=None)
        yield House(registry)


RULES = {"steps": (10.0, 50.0, 100.0), "min_seconds": 3, "min_requests": 30}


def good_second(engine: Engine) -> None:
    engine.serve("champion", 1, ok=90)
    engine.serve("challenger", 2, ok=10)
    engine.serve("shadow", 2, ok=18)


def test_a_good_version_goes_step_by_step_to_champion(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", RULES)
    keeper = house.keeper()
    steps = []
    for _ in range(30):
        house.step(keeper)
        good_second(house.engine)
        steps.append(house.registry.rollouts.get(entry.id).step)
    ended = house.registry.rollouts.get(entry.id)
    assert ended.status == "promoted"
    assert steps[0] == 0
    assert max(steps) == 1
    assert house.registry.resolve("m").number == 2
    actions = [e.action for e in house.registry.audit_events()]
    assert actions.count("rollout.step") == 1
    assert actions[-1] == "rollout.promoted"
    step = next(e for e in house.registry.audit_events() if e.action == "rollout.step")
    assert step.details["challenger"]["requests"] >= 30
    assert step.details["evidence"]["errors"]["threshold"] == 200.0
    assert house.registry.verify_audit()


def test_harm_is_rolled_back(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", RULES)
    keeper = house.keeper()
    for _ in range(20):
        house.step(keeper)
        house.engine.serve("champion", 1, ok=90, left=5)
        house.engine.serve("challenger", 2, ok=5, errors=5)
    assert house.registry.rollouts.get(entry.id).status == "rolled-back"
    assert house.registry.resolve("m").number == 1
    assert "50.00% errors" in house.said[-1]


def test_clients_that_leave_are_no_errors(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", RULES)
    keeper = house.keeper()
    for _ in range(15):
        house.step(keeper)
        house.engine.serve("champion", 1, ok=90)
        house.engine.serve("challenger", 2, ok=10, left=10)
        house.engine.serve("shadow", 2, ok=10)
    assert house.registry.rollouts.get(entry.id).status == "promoted"


def test_what_an_earlier_rollout_counted_is_not_counted_again(house: House) -> None:
    house.engine.serve("champion", 1, ok=1000)
    house.engine.serve("challenger", 2, ok=0, errors=1000)
    entry = start_rollout(house.registry, "m:2", RULES)
    keeper = house.keeper()
    for _ in range(5):
        house.step(keeper)
    assert house.totals(entry.id) == (0, 0)
    assert house.registry.rollouts.get(entry.id).evidence["reason"] == "no traffic yet"


def test_the_counters_of_all_replicas_are_one_sum(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", {**RULES, "min_seconds": 1000})
    one, other = Engine(), Engine()
    replicas = {"one": one, "other": other}
    first = house.keeper("one", one, {"other": other})
    second = house.keeper("other", other, {"one": one})
    for _ in range(4):
        house.step(first)
        second.step()  # it does not hold the rollout, and counts nothing
        for engine in replicas.values():
            engine.serve("champion", 1, ok=90)
            engine.serve("challenger", 2, ok=10)
    assert house.totals(entry.id)[0] in (360, 540)  # the newest second may not be kept yet
    house.step(first, 3.0)
    assert house.totals(entry.id) == (720, 80)
    # The holder dies with its engine; what the other has served meanwhile is counted on, once.
    one.up = False
    assert house.registry.rollouts.hold(entry.id, "one", "2026-01-01T00:00:00.000000+00:00")
    other.serve("champion", 1, ok=90)
    house.step(second, 3.0)
    house.step(second, 3.0)
    assert house.totals(entry.id) == (810, 80)
    one.up = True
    one.serve("champion", 1, ok=5)
    house.step(second, 3.0)
    assert house.totals(entry.id) == (815, 80)


def test_harm_of_one_replica_alone_is_seen_by_whoever_holds(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", RULES)
    idle, busy = Engine(), Engine()
    keeper = house.keeper("idle", idle, {"busy": busy})
    for _ in range(20):
        house.step(keeper)
        busy.serve("champion", 1, ok=90)
        busy.serve("challenger", 2, ok=5, errors=5)
    assert house.registry.rollouts.get(entry.id).status == "rolled-back"


def test_a_control_that_died_counts_nothing_twice_and_nothing_is_lost(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", {**RULES, "min_seconds": 1000})
    house.step(house.keeper())
    for _ in range(5):  # each dies after a few seconds, wherever it was
        keeper = house.keeper()
        for _ in range(3):
            good_second(house.engine)
            house.step(keeper)
    house.step(house.keeper(), 10.0)
    keeper = house.keeper()
    house.step(keeper)
    house.step(keeper, 3.0)
    assert house.totals(entry.id) == (15 * 90, 15 * 10)


def test_a_restarted_engine_counts_from_nothing(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", {**RULES, "min_seconds": 1000})
    keeper = house.keeper()
    house.step(keeper)
    good_second(house.engine)
    house.step(keeper)
    house.engine.restart("two")
    good_second(house.engine)
    house.step(keeper, 3.0)
    assert house.totals(entry.id) == (180, 20)


def test_one_server_counts_and_another_takes_over_without_counting_its_past(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", {**RULES, "min_seconds": 1000})
    first, second, other = house.keeper("a"), None, Engine()
    other.epoch = "other"
    second = house.keeper("b", other)
    house.step(first)
    for _ in range(3):
        good_second(house.engine)
        good_second(other)
        house.step(first)
        second.step()
    assert house.registry.rollouts.get(entry.id).holder == "a"
    assert house.totals(entry.id)[0] in (180, 270)
    # The first is silent for longer than it may hold: as time passes in the registry.
    with house.registry.write() as connection:
        connection.exec_driver_sql("UPDATE rollouts SET held_until = '2020-01-01T00:00:00+00:00'")
    before = house.totals(entry.id)[0]
    house.step(second)
    assert house.registry.rollouts.get(entry.id).holder == "b"
    good_second(other)
    house.step(second, 3.0)
    assert house.totals(entry.id)[0] == before + 90
    good_second(house.engine)
    house.step(first, 10.0)
    assert house.registry.rollouts.get(entry.id).holder == "b"


def test_a_hold_from_before_the_clock_was_set_back_keeps_nobody_away(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", {**RULES, "min_seconds": 1000})
    house.step(house.keeper("a"))
    with house.registry.write() as connection:
        connection.exec_driver_sql("UPDATE rollouts SET held_until = '2099-01-01T00:00:00+00:00'")
    good_second(house.engine)
    house.step(house.keeper("b"))
    assert house.registry.rollouts.get(entry.id).holder == "b"


def test_a_rollout_that_began_in_the_future_goes_on(house: House) -> None:
    """The clock was set back by years: no deadline passes, and what is counted is counted."""
    entry = start_rollout(house.registry, "m:2", RULES)
    with house.registry.write() as connection:
        connection.exec_driver_sql("UPDATE rollouts SET created = '2099-01-01T00:00:00+00:00'")
    keeper = house.keeper()
    for _ in range(30):
        house.step(keeper)
        good_second(house.engine)
    assert house.registry.rollouts.get(entry.id).status == "promoted"


def test_a_moved_champion_cancels(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", RULES)
    house.registry.set_alias("m", "champion", 3, expected=1)
    house.step(house.keeper())
    ended = house.registry.rollouts.get(entry.id)
    assert ended.status == "cancelled"
    assert "moved by somebody else" in ended.evidence["decision"]["reason"]
    assert house.registry.resolve("m").number == 3


def test_a_challenger_that_cannot_be_served_goes_back(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", RULES)
    keeper = house.keeper()
    keeper.note_trouble(StateError("registry.conflict", "`other:2`: is damaged"))
    house.step(keeper)
    assert house.registry.rollouts.get(entry.id).status == "running"
    keeper.note_trouble(StateError("registry.conflict", "`m:2`: is damaged"))
    house.step(keeper)
    ended = house.registry.rollouts.get(entry.id)
    assert ended.status == "rolled-back"
    assert "cannot be served" in ended.evidence["decision"]["reason"]


def test_an_engine_that_is_away_is_waited_for(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", RULES)
    keeper = house.keeper()
    house.step(keeper)
    house.engine.up = False
    for _ in range(3):
        house.step(keeper)
    house.engine.up = True
    good_second(house.engine)
    house.step(keeper)
    house.step(keeper, 3.0)
    assert house.totals(entry.id) == (90, 10)
    assert house.said == []


def test_going_back_twice_goes_back_two_versions(house: House) -> None:
    promote_now(house.registry, "m:2")
    promote_now(house.registry, "m:3")
    assert "version 2 again" in roll_back(house.registry, "m")
    assert "version 1 again" in roll_back(house.registry, "m")
    with pytest.raises(StateError) as refused:
        roll_back(house.registry, "m")
    assert refused.value.code == "rollout.nothing-before"


def test_promoting_now_ends_the_rollout_to_the_same_version(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", RULES)
    with pytest.raises(StateError) as refused:
        promote_now(house.registry, "m:3")
    assert refused.value.code == "rollout.running"
    promote_now(house.registry, "m:2")
    assert house.registry.rollouts.get(entry.id).status == "promoted"
    assert house.registry.resolve("m").number == 2
    with pytest.raises(StateError) as refused:
        start_rollout(house.registry, "m:2", RULES)
    assert refused.value.code == "rollout.same-version"


def test_waiting_has_an_end(house: House) -> None:
    entry = start_rollout(house.registry, "m:2", RULES)
    with pytest.raises(StateError) as late:
        wait_for_rollout(house.registry, entry.id, timeout_s=0.01)
    assert late.value.code == "rollout.timeout"
    assert "no server has taken it up" in late.value.message
    roll_back(house.registry, "m")
    assert wait_for_rollout(house.registry, entry.id, timeout_s=1).status == "rolled-back"
