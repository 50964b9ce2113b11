"""Rollouts of two real models under live traffic: planted harm goes back by itself, a good version goes all
the way, whoever is killed meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from tests.artifacts import Place
from tests.registry_house import move_alias
from tests.serving import House, RunningServer, wait_until

from dukou.model.golden import GoldenSamples
from dukou.model.model import Card, Lineage, Model
from dukou.model.signature import Signature, TensorSpec
from dukou.registry.registry import Registry
from dukou.rollout.power import fixed_horizon_requests, fixed_horizon_rows

pytestmark = pytest.mark.timeout(180)

# Both are trained on rows that nobody is asked about.
MODELS = ("digits", "cancer")
# Of a hundred rows, which one falls to by what it holds: those from here on make a run fail.
NEVER = 100


class Data:
    """A data set that comes with scikit-learn: rows to learn from, and rows that callers send."""

    def __init__(self, name: str) -> None:
        found = load_digits() if name == "digits" else load_breast_cancer()
        # So many places behind the point that no two rows look the same to the planted fault.
        rows = found.data.round(3).astype(np.float32)
        order = np.random.default_rng(0).permutation(len(rows))
        middle = len(rows) // 2
        self.rows, self.truth = rows[order[:middle]], found.target[order[:middle]]
        self.asked, self.right = rows[order[middle:]], found.target[order[middle:]]
        self.classes = int(self.truth.max()) + 1
        self.mean = self.rows.mean(axis=0)
        self.scale = self.rows.std(axis=0) + 1e-3

    def train(self, wrong: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Weights (features, classes) and offsets, for rows as they come; some truths may be wrong."""
        truth = self.truth.copy()
        chance = np.random.default_rng(1)
        spoiled = chance.random(len(truth)) < wrong
        truth[spoiled] = chance.integers(self.classes, size=int(spoiled.sum()))
        learner = LogisticRegression(max_iter=300).fit((self.rows - self.mean) / self.scale, truth)
        weights, offsets = learner.coef_, learner.intercept_
        if self.classes == 2:
            weights = np.vstack([-weights, weights])
            offsets = np.concatenate([-offsets, offsets])
        weights = (weights / self.scale).T
        return weights.astype(np.float32), (offsets - self.mean @ weights).astype(np.float32)

    def accuracy(self, weights: np.ndarray, offsets: np.ndarray) -> float:
        return float(((self.asked @ weights + offsets).argmax(axis=1) == self.right).mean())

    def worse(self) -> tuple[tuple[np.ndarray, np.ndarray], float]:
        """A version trained on truths that are partly wrong, at least five points worse, and by how much."""
        good = self.accuracy(*self.train())
        for wrong in np.arange(0.02, 0.6, 0.02):
            made = self.train(float(wrong))
            lost = good - self.accuracy(*made)
            if lost >= 0.05:
                return made, lost
        raise AssertionError("no version is worse")


def make_version(
    folder: Path, data: Data, trained: tuple[np.ndarray, np.ndarray], *, fails_from: int = NEVER
) -> Model:
    """`x` FP32 [n, features] → `label` INT64 [n], with a fault that the row's own numbers choose.

    The sum of a row, in thousandths, is looked up in a table by its last two digits: rows from
    `fails_from` on are not in it, and the run fails.
    """
    folder.mkdir(parents=True)
    weights, offsets = trained
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=-1, keepdims=0),
        helper.make_node("Mul", ["x", "thousand"], ["whole"]),
        helper.make_node("Cast", ["whole"], ["numbers"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["numbers", "axis"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "spread"], ["spread_sum"]),
        helper.make_node("Mod", ["spread_sum", "prime"], ["draw"]),
        helper.make_node("Mod", ["draw", "hundred"], ["index"]),
        helper.make_node("Gather", ["table", "index"], ["nothing"]),
        helper.make_node("Add", ["best", "nothing"], ["label"]),
    ]
    numbers = {
        "axis": [1],
        "spread": 7919,
        "prime": 1_000_003,
        "hundred": 100,
        "table": [0] * fails_from,
    }
    features = weights.shape[0]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("label", TensorProto.INT64, ["n"])],
        [
            numpy_helper.from_array(weights, "w"),
            numpy_helper.from_array(offsets, "b"),
            numpy_helper.from_array(np.array(1000, np.float32), "thousand"),
            *(numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    x = data.asked[draws(data.asked) < min(fails_from, 50)][:1]
    answer = (x @ weights + offsets).argmax(axis=1).astype(np.int64)
    return Model(
        graph=path,
        signature=Signature(
            (TensorSpec("x", "FP32", ("n", features)),), (TensorSpec("label", "INT64", ("n",)),)
        ),
        lineage=Lineage("model.onnx", "onnx 1", "sha256:" + "0" * 64, steps=("import onnx",)),
        golden=GoldenSamples((({"x": x}, {"label": answer}),)),
        card=Card(title="linear", task="classification"),
    )


def draws(rows: np.ndarray) -> np.ndarray:
    """What the planted fault makes of rows: 0 to 99."""
    whole = (rows * np.float32(1000)).astype(np.int64).sum(axis=1)
    return whole * 7919 % 1_000_003 % 100


def publish(house: House, name: str, model: Model) -> int:
    packaged = Place.make(house.home.parent).publish(model, name)
    with Registry.open(house.home) as registry:
        return registry.register_version(name, packaged.digest)


class Callers:
    """Traffic of so many requests a second in all, rows at random; counts answers by status."""

    def __init__(
        self, address: tuple[str, int], name: str, rows: np.ndarray, per_second: float
    ) -> None:
        clients = 3
        self._address, self._name, self._rows = address, name, rows
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
            row = self._rows[chance.integers(len(self._rows))].tolist()
            tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(row)], "data": row}
            path = f"/v2/models/{self._name}/infer"
            connection.request("POST", path, json.dumps({"inputs": [tensor]}))
            answer = connection.getresponse()
            body = answer.read()
            self.statuses[answer.status] += 1
            if answer.status != 200:
                self.codes[json.loads(body)["code"]] += 1
            due += self._pause
            self._ended.wait(max(0.0, due - time.monotonic()))
        connection.close()


def start(house: House, name: str, **policy: object) -> int:
    from dukou.control.promote import start_rollout

    with Registry.open(house.home) as registry:
        return start_rollout(registry, f"{name}:2", policy).id


def outcome(house: House, number: int):
    with Registry.open(house.home) as registry:
        return registry.rollouts.get(number)


def wait_for_end(house: House, number: int, seconds: float = 120) -> None:
    wait_until(lambda: outcome(house, number).status != "running", "the rollout's end", seconds)


@pytest.fixture(scope="module")
def data() -> dict[str, Data]:
    return {name: Data(name) for name in MODELS}


def publish_both(
    house: House, folder: Path, data: dict[str, Data], *, old: int = NEVER, new: int = NEVER
) -> None:
    """Version 1 of each model serves; version 2 is the same but for where its rows begin to fail."""
    for name, found in data.items():
        trained = found.train()
        for version, fails_from in (("old", old), ("new", new)):
            made = make_version(folder / name / version, found, trained, fails_from=fails_from)
            publish(house, name, made)
        move_alias(house, 1, name=name)


@contextlib.contextmanager
def called(
    address: tuple[str, int], data: dict[str, Data], per_second: float
) -> Iterator[dict[str, Callers]]:
    with contextlib.ExitStack() as stack:
        yield {
            name: stack.enter_context(Callers(address, name, found.asked, per_second))
            for name, found in data.items()
        }


def test_twice_the_errors_are_rolled_back_by_themselves(
    house: House, tmp_path: Path, data: dict[str, Data]
) -> None:
    publish_both(house, tmp_path, data, old=90, new=80)
    with house.serving(*MODELS) as server, called(server.address, data, 90) as callers:
        wait_until(lambda: all(c.statuses[200] > 40 for c in callers.values()), "answers")
        numbers = {name: start(house, name, max_disagreement=None) for name in MODELS}
        for name, number in numbers.items():
            wait_for_end(house, number)
            ended = outcome(house, number)
            decision = ended.evidence["decision"]
            assert ended.status == "rolled-back", decision
            assert decision["test"] == "errors"
            # Blocks of a second with traffic in both arms.
            seconds = ended.evidence["state"]["errors"]["blocks"]
            requests = decision["champion"]["requests"] + decision["challenger"]["requests"]
            rates = [float((draws(data[name].asked) >= share).mean()) for share in (90, 80)]
            fixed = fixed_horizon_requests(*rates, alpha=0.006, power=0.95, share=0.1)
            print(
                f"{name}: {rates[0]:.1%} to {rates[1]:.1%} rolled back in {seconds} s of traffic, "
                f"{requests} requests; a test of fixed length needs {fixed:.0f}"
            )
            assert seconds <= 60
        # All of the traffic is the champion's again.
        before = {name: c.statuses.total() for name, c in callers.items()}
        wait_until(
            lambda: all(c.statuses.total() > before[n] + 40 for n, c in callers.items()), "more"
        )
        with Registry.open(house.home) as registry:
            events = registry.audit_events(limit=10_000)
            for name in MODELS:
                assert registry.resolve(name).number == 1
                assert [e.aliases for e in registry.versions(name)] == [("champion",), ()]
                (event,) = [
                    e
                    for e in events
                    if (e.action, e.subject) == ("rollout.rolled-back", f"{name}:2")
                ]
                assert event.details["evidence"]["errors"]["value"] >= 1 / 0.006
                assert event.details["challenger"]["errors"] > 0
            assert registry.verify_audit()
    # Callers met the models' own failures and nothing else.
    for calls in callers.values():
        assert set(calls.codes) <= {"request.rejected-by-model"}, calls.codes


def test_five_points_of_accuracy_are_rolled_back_though_nothing_fails(
    house: House, tmp_path: Path, data: dict[str, Data]
) -> None:
    """Seen by what the two answer, of which nobody knows yet which is right."""
    for name, found in data.items():
        worse, lost = found.worse()
        publish(house, name, make_version(tmp_path / name / "old", found, found.train()))
        publish(house, name, make_version(tmp_path / name / "new", found, worse))
        move_alias(house, 1, name=name)
        print(f"{name}: version 2 is {100 * lost:.1f} points worse")
    with house.serving(*MODELS) as server, called(server.address, data, 90) as callers:
        numbers = {name: start(house, name) for name in MODELS}
        for name, number in numbers.items():
            wait_for_end(house, number)
            ended = outcome(house, number)
            decision = ended.evidence["decision"]
            assert ended.status == "rolled-back", decision
            assert decision["test"] == "disagreement"
            state = ended.evidence["state"]
            rate = decision["differ"] / decision["compared"]
            fixed = fixed_horizon_rows(0.02, rate, alpha=0.003, power=0.95)
            print(
                f"{name}: after {state['errors']['blocks']} s of traffic, {decision['differ']} of "
                f"{decision['compared']} rows differ; a test of fixed length needs {fixed:.0f}"
            )
            assert state["errors"]["blocks"] <= 60
    for calls in callers.values():
        assert set(calls.statuses) == {200}


def test_a_good_version_goes_all_the_way_though_control_is_killed(
    house: House, tmp_path: Path, data: dict[str, Data]
) -> None:
    publish_both(house, tmp_path, data, new=NEVER + 1)
    with house.serving(*MODELS) as server, called(server.address, data, 90) as callers:
        steps = {"steps": (20.0, 50.0, 100.0), "min_seconds": 4, "min_requests": 40}
        numbers = {name: start(house, name, **steps) for name in MODELS}
        wait_until(
            lambda: all(outcome(house, n).step == 1 for n in numbers.values()), "step two", 40
        )
        before = server.status()
        os.kill(before["control"]["pid"], signal.SIGKILL)
        for number in numbers.values():
            wait_for_end(house, number, 60)
        for name, number in numbers.items():
            ended = outcome(house, number)
            assert ended.status == "promoted", ended.evidence
            state = ended.evidence["state"]
            counted = state["champion"]["requests"] + state["challenger"]["requests"]
            # Nothing is counted twice; the second before the kill may be lost.
            assert 80 <= counted <= callers[name].statuses.total()
            wait_until(lambda name=name: version_of(server, data, name) == "2", "version 2", 10)
        assert server.status()["control"]["pid"] != before["control"]["pid"]
        shown = house.dukou("rollout", "status", "digits")
        assert "version 1 → 2, promoted" in shown.stdout
        back = house.dukou("rollback", "digits")
        assert back.stdout == "`digits@champion` is version 1 again; it was version 2\n"
        wait_until(lambda: version_of(server, data, "digits") == "1", "version 1 again", 10)
        assert version_of(server, data, "cancer") == "2"
        for calls in callers.values():
            assert set(calls.statuses) == {200}, calls.codes


def test_an_engine_that_is_killed_costs_a_rollout_no_more_than_what_it_held(
    house: House, tmp_path: Path, data: dict[str, Data]
) -> None:
    """The new engine counts from nothing: what was counted stays, nothing is counted twice."""
    digits = {"digits": data["digits"]}
    publish_both(house, tmp_path, digits, new=NEVER + 1)
    with house.serving("digits") as server:
        with called(server.address, digits, 90) as callers:
            number = start(house, "digits", steps=(50.0, 100.0), min_seconds=600)
            wait_until(lambda: _counted(house, number) > 100, "the first counts", 40)
        time_of_kill, sent = _settled(house, number), callers["digits"].statuses.total()
        pid = server.status()["engine"]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: server.status()["engine"]["pid"] not in (pid, None), "a new engine")
        wait_until(lambda: version_of(server, digits, "digits") in ("1", "2"), "answers again")
        with called(server.address, digits, 90) as again:
            wait_until(lambda: _counted(house, number) > time_of_kill + 100, "more counts", 40)
        total = _settled(house, number)
        assert time_of_kill <= sent
        assert total <= sent + again["digits"].statuses.total() + 20
        assert outcome(house, number).status == "running"
        assert outcome(house, number).evidence["state"]["challenger"]["errors"] == 0


def _counted(house: House, number: int) -> int:
    state = outcome(house, number).evidence.get("state")
    return 0 if state is None else state["champion"]["requests"] + state["challenger"]["requests"]


def _settled(house: House, number: int) -> int:
    """What is counted when nobody asks any more: two notes in a row that say the same."""
    seen: list[tuple[str, int]] = []

    def same() -> bool:
        entry = outcome(house, number)
        now = (entry.updated, _counted(house, number))
        if not seen or seen[-1][0] != now[0]:
            seen.append(now)
        return len(seen) > 2 and seen[-1][1] == seen[-2][1]

    wait_until(same, "counts that stay", 30)
    return seen[-1][1]


def version_of(server: RunningServer, data: dict[str, Data], name: str) -> str:
    row = data[name].asked[0].tolist()
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(row)], "data": row}
    try:
        status, _, headers = server.ask(name, json.dumps({"inputs": [tensor]}))
    except (OSError, http.client.HTTPException):
        return ""
    return headers["dukou-version"] if status == 200 else ""
