"""Control holds an engine at the desired table, by a clock that the test moves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError, RemoteError, StateError
from dukou.control.loop import ControlLoop, Counter
from dukou.deploy import defaults
from dukou.deploy.table import ServingTable
from dukou.serve.bare import bare_model, name_of_file


class _Desired:
    def __init__(self) -> None:
        self.models = ["a"]
        self.changes = 0
        self.error: DukouError | None = None

    def want(self, *models: str) -> None:
        self.models = list(models)
        self.changes += 1

    def token(self) -> object:
        return self.changes

    def compile(self, sequence: int) -> ServingTable:
        if self.error is not None:
            raise self.error
        document = {
            "format": 1,
            "revision": f"r{sequence}",
            "sequence": sequence,
            "listeners": [defaults.listener_document("http")],
            "principals": [],
            "limits": defaults.server_limits_document(),
            "trust": {"require_signature": True, "keys": []},
            "observability": {"access_log": None, "security_log": None},
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
        assert self.served is None or table["sequence"] > self.served["sequence"]
        self.served = table
        return {}


class _House:
    def __init__(self, folder: Path, engine: _Engine | None = None) -> None:
        self.now = 0.0
        self.desired = _Desired()
        self.engine = engine or _Engine()
        self.applied: list[str] = []
        self.troubles: list[str] = []
        self.loop = ControlLoop(
            self.desired,
            self.engine,
            Counter(folder / "sequence"),
            on_applied=lambda table: self.applied.append(table["revision"]),
            on_trouble=lambda error: self.troubles.append(error.code),
            clock=lambda: self.now,
        )

    def step(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.loop.step()


def test_a_first_table_is_put_once(tmp_path: Path) -> None:
    house = _House(tmp_path)
    for _ in range(10):
        house.step(0.25)
    assert house.engine.puts == [1]
    assert house.applied == ["r1"]


def test_a_change_is_followed(tmp_path: Path) -> None:
    house = _House(tmp_path)
    house.step()
    house.desired.want("a", "b")
    house.step(0.01)
    assert house.engine.puts == [1, 2]
    assert house.applied == ["r1", "r2"]


def test_a_change_that_changes_no_table_puts_none(tmp_path: Path) -> None:
    house = _House(tmp_path)
    house.step()
    house.desired.want("a")
    house.step()
    assert house.engine.puts == [1]


def test_an_engine_that_lost_its_table_gets_it_again(tmp_path: Path) -> None:
    house = _House(tmp_path)
    house.step()
    house.engine.served = None
    house.step(0.25)
    assert house.engine.puts == [1]  # nobody looked yet
    house.step(1.0)
    assert house.engine.puts == [1, 2]
    assert house.applied == ["r1"]  # the same content: nothing to announce


def test_an_unreachable_engine_is_no_trouble_and_is_asked_soon_again(tmp_path: Path) -> None:
    house = _House(tmp_path)
    house.engine.up = False
    for _ in range(5):
        house.step(0.1)
    house.engine.up = True
    house.step(0.1)
    assert house.applied == ["r1"]
    assert house.troubles == []


def test_a_refused_table_keeps_the_old_and_is_told_once(tmp_path: Path) -> None:
    house = _House(tmp_path)
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


def test_what_cannot_be_compiled_is_told(tmp_path: Path) -> None:
    house = _House(tmp_path)
    house.desired.error = StateError("registry.unknown-model", "there is none")
    house.step()
    house.desired.error = None
    house.step(1.5)
    assert house.troubles == ["registry.unknown-model"]
    assert house.applied == ["r1"]


def test_sequences_grow_over_restarts_of_control_and_engine(tmp_path: Path) -> None:
    first = _House(tmp_path)
    first.step()
    first.desired.want("b")
    first.step()
    again = _House(tmp_path, _Engine())  # both were restarted, the engine without its table
    again.step()
    assert again.engine.puts == [3]


def test_a_restarted_control_leaves_a_right_table_alone(tmp_path: Path) -> None:
    first = _House(tmp_path)
    first.step()
    again = _House(tmp_path, first.engine)
    again.step()
    assert first.engine.puts == [1]
    assert again.applied == ["r1"]


def test_a_lost_counter_does_not_go_back(tmp_path: Path) -> None:
    first = _House(tmp_path)
    first.step()
    assert first.engine.served is not None
    first.engine.served["sequence"] = 41
    (tmp_path / "sequence").unlink()
    first.desired.want("b")
    first.step()
    assert first.engine.puts[-1] == 42
