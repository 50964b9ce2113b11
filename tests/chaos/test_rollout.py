"""Rollouts under live traffic: planted harm goes back by itself, a good version goes all the way."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.artifacts import Place
from tests.registry_house import move_alias
from tests.serving import House, wait_until

from dukou.model.golden import GoldenSamples
from dukou.model.model import Card, Lineage, Model
from dukou.model.signature import Signature, TensorSpec
from dukou.registry.registry import Registry
from dukou.rollout.power import fixed_horizon_requests

pytestmark = pytest.mark.timeout(180)

CLASSES = 3


def make_version(folder: Path, *, fails_from: int, turned: int = 0) -> Model:
    """`x` FP32 [n, 4] → `label` INT64 [n].

    The first number, 0 to 99, chooses from a table: rows from `fails_from` on are not in it, and the
    run fails; the first `turned` of a hundred are answered with another class.
    """
    folder.mkdir(parents=True)
    weights = np.random.default_rng(7).standard_normal((4, CLASSES)).astype(np.float32)
    weights[0] = 0
    table = np.zeros(fails_from, np.int64)
    table[:turned] = 1
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=-1, keepdims=0),
        helper.make_node("Gather", ["x", "zero"], ["first"], axis=1),
        helper.make_node("Cast", ["first"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["turn"]),
        helper.make_node("Add", ["best", "turn"], ["moved"]),
        helper.make_node("Mod", ["moved", "classes"], ["label"]),
    ]
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(np.array(0, np.int64), "zero"),
            numpy_helper.from_array(np.array(CLASSES, np.int64), "classes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    x = np.array([[50, 1, 2, 3]], np.float32)
    answer = np.array([int((x @ weights).argmax())], np.int64)
    return Model(
        graph=path,
        signature=Signature(
            (TensorSpec("x", "FP32", ("n", 4)),), (TensorSpec("label", "INT64", ("n",)),)
        ),
        lineage=Lineage("model.onnx", "onnx 1", "sha256:" + "0" * 64, steps=("import onnx",)),
        golden=GoldenSamples((({"x": x}, {"label": answer}),)),
        card=Card(title="table", task="classification"),
    )


def publish(house: House, model: Model) -> int:
    packaged = Place.make(house.home.parent).publish(model, "table")
    with Registry.open(house.home) as registry:
        return registry.register_version("table", packaged.digest)


class Callers:
    """Traffic of so many requests a second in all, rows at random; counts answers by status."""

    def __init__(self, address: tuple[str, int], per_second: float, clients: int = 4) -> None:
        self._address = address
        self._pause = clients / per_second
        self._ended = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        self.threads = [
            threading.Thread(target=self._call, args=(seed,), daemon=True)
            for seed in range(clients)
        ]

    def __enter__(self) -> Callers:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self.threads:
            thread.join(10)

    def _call(self, seed: int) -> None:
        chance = np.random.default_rng(seed)
        connection = http.client.HTTPConnection(*self._address, timeout=20)
        due = time.monotonic()
        while not self._ended.is_set():
            row = [float(chance.integers(100)), *map(float, chance.standard_normal(3))]
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": row}
            connection.request("POST", "/v2/models/table/infer", json.dumps({"inputs": [tensor]}))
            answer = connection.getresponse()
            body = answer.read()
            self.statuses[answer.status] += 1
            if answer.status != 200:
                self.codes[json.loads(body)["code"]] += 1
            due += self._pause
            self._ended.wait(max(0.0, due - time.monotonic()))
        connection.close()


def start(house: House, **policy: object) -> int:
    from dukou.control.promote import start_rollout

    with Registry.open(house.home) as registry:
        return start_rollout(registry, "table:2", policy).id


def outcome(house: House, number: int):
    with Registry.open(house.home) as registry:
        return registry.rollouts.get(number)


def wait_for_end(house: House, number: int, seconds: float = 90) -> float:
    began = time.monotonic()
    wait_until(lambda: outcome(house, number).status != "running", "the rollout's end", seconds)
    return time.monotonic() - began


def test_twice_the_errors_are_rolled_back_by_themselves(house: House, tmp_path: Path) -> None:
    publish(house, make_version(tmp_path / "old", fails_from=90))
    publish(house, make_version(tmp_path / "new", fails_from=80))
    move_alias(house, 1, name="table")
    with house.serving("table") as server, Callers(server.address, per_second=160) as callers:
        wait_until(lambda: callers.statuses[200] > 40, "answers")
        number = start(house, max_disagreement=None, error_ratio=1.0)
        seconds = wait_for_end(house, number)
        ended = outcome(house, number)
        decision = ended.evidence["decision"]
        assert ended.status == "rolled-back", decision
        assert decision["test"] == "errors"
        requests = decision["champion"]["requests"] + decision["challenger"]["requests"]
        needed = fixed_horizon_requests(0.1, 0.2, alpha=0.006, power=0.95, share=0.1)
        print(f"rolled back after {seconds:.1f} s, {requests} requests; fixed test {needed:.0f}")
        # All of the traffic is the champion's again.
        time_of_end = callers.statuses.total()
        wait_until(lambda: callers.statuses.total() > time_of_end + 40, "more answers")
        split = server.status()["control"]
        assert split["pid"]
        with Registry.open(house.home) as registry:
            assert registry.resolve("table").number == 1
            actions = [event.action for event in registry.audit_events(limit=10_000)]
            assert "rollout.rolled-back" in actions
            assert [e.aliases for e in registry.versions("table")] == [("champion",), ()]
            registry.verify_audit()
    # Callers met the model's own failures and nothing else.
    assert set(callers.codes) <= {"request.rejected-by-model"}, callers.codes


def test_answers_that_differ_are_rolled_back_though_nothing_fails(
    house: House, tmp_path: Path
) -> None:
    publish(house, make_version(tmp_path / "old", fails_from=100))
    publish(house, make_version(tmp_path / "new", fails_from=100, turned=7))
    move_alias(house, 1, name="table")
    with house.serving("table") as server, Callers(server.address, per_second=160) as callers:
        number = start(house)
        seconds = wait_for_end(house, number)
    ended = outcome(house, number)
    decision = ended.evidence["decision"]
    assert ended.status == "rolled-back", decision
    assert decision["test"] == "disagreement"
    print(f"after {seconds:.1f} s: {decision['differ']} of {decision['compared']} rows differ")
    assert set(callers.statuses) == {200}


def test_a_good_version_goes_all_the_way_though_control_is_killed(
    house: House, tmp_path: Path
) -> None:
    publish(house, make_version(tmp_path / "old", fails_from=100))
    publish(house, make_version(tmp_path / "new", fails_from=101))
    move_alias(house, 1, name="table")
    with house.serving("table") as server, Callers(server.address, per_second=160) as callers:
        number = start(house, steps=(20.0, 50.0, 100.0), min_seconds=4, min_requests=40)
        wait_until(lambda: outcome(house, number).step == 1, "the second step", 30)
        os.kill(server.status()["control"]["pid"], signal.SIGKILL)
        wait_for_end(house, number, 40)
        ended = outcome(house, number)
        assert ended.status == "promoted", ended.evidence
        state = ended.evidence["state"]
        counted = state["champion"]["requests"] + state["challenger"]["requests"]
        # Nothing is counted twice; the second before the kill may be lost.
        assert counted <= callers.statuses.total()
        wait_until(
            lambda: server.ask("table", ROW)[2].get("dukou-version") == "2", "version 2 alone", 10
        )
        with Registry.open(house.home) as registry:
            assert registry.resolve("table").number == 2
        shown = house.dukou("rollout", "status", "table")
        assert "version 1 → 2, promoted" in shown.stdout
        back = house.dukou("rollback", "table")
        assert back.stdout == "`table@champion` is version 1 again; it was version 2\n"
        wait_until(
            lambda: server.ask("table", ROW)[2].get("dukou-version") == "1", "version 1 again", 10
        )
    assert set(callers.statuses) == {200}, callers.codes


ROW = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
)
