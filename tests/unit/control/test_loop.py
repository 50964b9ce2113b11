"""Control holds an engine at the desired table, by a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError, RemoteError, StateError
from dukou.control.loop import ControlLoop
from dukou.deploy import defaults
from dukou.deploy.table import ServingTable
from dukou.serve.bare import bare_model, name_of_file


class _Desired:
    def __init__(self) -> None:
        self.models = ["a"]
        self.changes = 0
        self.error: DukouError | None = None
        self.number = 0
        self.numbered: list[str] = []

    def want(self, *models: str) -> None:
        self.models = list(models)
        self.changes += 1

    def token(self) -> object:
        return self.changes

    def compile(self, above: int) -> ServingTable:
        if self.error is not None:
            raise self.error
        if self.numbered != self.models or self.number < above:
            self.number, self.numbered = max(self.number, above) + 1, self.models
        sequence = self.number
        document = {
            "format": 1,
            "revision": f"r{sequence}",
            "sequence": sequence,
            "listeners": [defaults.listener_document("http")],
            "principals": [],
            "limits": defaults.server_limits_document(),
            "trust": {"require_signature": True, "keys": []},
            "observability": {"access_log": None, "security_log": None},
            "repository": None,
            "models": [
                bare_model(name_of_file(Path(f"{name}.onnx")), Path(f"/{name}.onnx"))
                for name in self.models
            ],
        }
        return ServingTable.model_validate(document)


class _Engine:
    def __init__(self) -> None:
        self.served: dict[str, Any] | None = None
        self.puts: list[int] = []
        self.up = True
        self.refusal: DukouError | None = None

    def table(self) -> dict[str, Any] | None:
        if not self.up:
            raise RemoteError("engine.unreachable", "it is not there")
        return self.served

    def put_table(self, table: dict[str, Any]) -> dict[str, Any]:
        self.puts.append(table["sequence"])
        if self.refusal is not None:
            raise self.refusal
        assert self.served is None or table["sequence"] >= self.served["sequence"]
        self.served = table
        return {}


class _House:
    def __init__(self, engine: _Engine | None = None, desired: _Desired | None = None) -> None:
        self.now = 0.0
        self.desired = desired or _Desired()
        self.engine = engine or _Engine()
        self.applied: list[str] = []
        self.troubles: list[str] = []
        self.loop = ControlLoop(
            self.desired,
            self.engine,
            on_applied=lambda table: self.applied.append(table["revision"]),
            on_trouble=lambda error: self.troubles.append(error.code),
            clock=lambda: self.now,
        )

    def step(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.loop.step()


def test_a_first_table_is_put_once() -> None:
    house = _House()
    for _ in range(10):
        house.step(0.25)
    assert house.engine.puts == [1]
    assert house.applied == ["r1"]


def test_a_change_is_followed() -> None:
    house = _House()
    house.step()
    house.desired.want("a", "b")
    house.step(0.01)
    assert house.engine.puts == [1, 2]
    assert house.applied == ["r1", "r2"]


def test_a_change_that_changes_no_table_puts_none() -> None:
    house = _House()
    house.step()
    house.desired.want("a")
    house.step()
    assert house.engine.puts == [1]


def test_an_engine_that_lost_its_table_gets_it_again() -> None:
    house = _House()
    house.step()
    house.engine.served = None
    house.step(0.25)
    assert house.engine.puts == [1]  # nobody looked yet
    house.step(1.0)
    assert house.engine.puts == [1, 1]
    assert house.applied == ["r1"]  # the same table: nothing to announce


def test_an_unreachable_engine_is_no_trouble_and_is_asked_soon_again() -> None:
    house = _House()
    house.engine.up = False
    for _ in range(5):
        house.step(0.1)
    house.engine.up = True
    house.step(0.1)
    assert house.applied == ["r1"]
    assert house.troubles == []


def test_a_refused_table_keeps_the_old_and_is_told_once() -> None:
    house = _House()
    house.step()
    house.engine.refusal = StateError("registry.conflict", "it does not load")
    house.desired.want("b")
    for _ in range(40):
        house.step(0.25)
    assert house.troubles == ["registry.conflict"]
    assert house.applied == ["r1"]
    tries = len(house.engine.puts) - 1
    assert 2 <= tries <= 5  # ten seconds: at 0, 1, 3, 7
    house.desired.want("c")
    house.engine.refusal = None
    house.step(0.01)
    assert house.engine.served is not None
    assert house.engine.served["models"][0]["name"] == "c"
    assert house.troubles == ["registry.conflict"]


def test_what_cannot_be_compiled_is_told() -> None:
    house = _House()
    house.desired.error = StateError("registry.unknown-model", "there is none")
    house.step()
    house.desired.error = None
    house.step(1.5)
    assert house.troubles == ["registry.unknown-model"]
    assert house.applied == ["r1"]


def test_a_restarted_control_leaves_a_right_table_alone() -> None:
    first = _House()
    first.step()
    again = _House(first.engine, first.desired)
    again.step()
    assert first.engine.puts == [1]
    assert again.applied == ["r1"]


def test_a_table_that_somebody_put_is_replaced_by_a_later_one() -> None:
    house = _House()
    house.step()
    assert house.engine.served is not None
    house.engine.served["sequence"] = 41
    house.step(1.0)
    assert house.engine.puts == [1, 42]


def test_the_same_content_under_another_number_is_put() -> None:
    house = _House()
    house.step()
    house.desired.number = 7  # as another server of the registry calls it
    house.step(1.0)
    assert house.engine.puts == [1, 7]
    assert house.applied == ["r1", "r7"]
