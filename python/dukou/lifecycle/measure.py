"""Variants are judged where they will run: in the engine, side by side, in turns.

One engine is started on a loopback port that nobody else knows; every variant is a model of it, by
file, with batching off. Rounds go A B C A B C, so that what else the machine does hits all alike; what
is compared is the compute time of the engine's own exact counters (`spec/state.md`), not a client's
clock.
"""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import BugError
from dukou.model.golden import GoldenSamples
from dukou.model.model import Model
from dukou.model.signature import Signature

if TYPE_CHECKING:
    from dukou.evaluate.intervals import Interval
    from dukou.optimize.contract import Arrays, Measurement

_LISTENER = "http"


class EngineMeasure:
    """A `Measure` (see `dukou.optimize.contract`) that runs forms in the engine.

    Args:
        rounds: of all models in turn; one more comes before and is not counted.
        requests: of each model in each round.
    """

    def __init__(self, *, rounds: int = 24, requests: int = 60) -> None:
        self.rounds = rounds
        self.requests = requests

    def __call__(self, models: Sequence[Model], samples: Sequence[Arrays]) -> Sequence[Measurement]:
        """The median over rounds of the compute time of a request, with its interval."""
        from dukou.optimize.contract import Measurement

        times = measure_in_engine(models, samples, rounds=self.rounds, requests=self.requests)
        facts = {
            "where": "dukou-engine",
            "rounds": self.rounds,
            "requests": self.requests,
            "threads": 1,
            "rows": 1,
        }
        return [
            Measurement(_median(found), model.size_bytes(), facts)
            for model, found in zip(models, times, strict=True)
        ]


def measure_in_engine(
    models: Sequence[Model], samples: Sequence[Arrays], *, rounds: int, requests: int
) -> list[list[float]]:
    """Compute time of each model, µs a request: one number a round.

    Args:
        models: graphs with the same inputs.
        samples: requests, inputs by name; gone through in turn.
        rounds: of all models in turn; one more comes before and is not counted.
        requests: of each model in each round.

    Raises:
        RemoteError: `engine.*`, where the engine does not start.
        BugError: it refused a request that the model itself accepted.
    """
    from dukou.base.ids import ModelName
    from dukou.serve.bare import bare_table
    from dukou.serve.engine import EngineProcess
    from dukou.serve.find import find_engine, find_runtime

    files = {ModelName(f"variant-{i}"): model.graph for i, model in enumerate(models)}
    table = bare_table(files, listeners=[_LISTENER])
    for served in table["models"]:
        served["batching"]["max_rows"] = 1
    bodies = [_bodies(model, samples) for model in models]
    with tempfile.TemporaryDirectory(prefix="dukou-measure-") as folder:
        home = Path(folder)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            engine = EngineProcess.start(
                find_engine(),
                listeners={_LISTENER: listener},
                socket_path=home / "engine.sock",
                state_dir=home / "state",
                runtime=find_runtime(),
                log=home / "engine.log",
            )
            with engine:
                engine.wait_event("started")
                engine.api.put_table(table)
                port = listener.getsockname()[1]
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                measured: list[list[float]] = [[] for _ in models]
                for turn in range(rounds + 1):
                    for index, name in enumerate(files):
                        before = _compute(engine.api.state(), name)
                        for i in range(requests):
                            body = bodies[index][(turn * requests + i) % len(bodies[index])]
                            _ask(connection, name, body)
                        time_us, runs = _compute(engine.api.state(), name)
                        if turn:
                            measured[index].append((time_us - before[0]) / (runs - before[1]))
                connection.close()
                return measured


def _bodies(model: Model, samples: Sequence[Arrays]) -> list[bytes]:
    """V2 requests."""
    requests = GoldenSamples(tuple((inputs, {}) for inputs in samples))
    document = json.loads(requests.to_json(Signature(model.signature.inputs, ())))
    return [json.dumps({"inputs": sample["inputs"]}).encode() for sample in document["samples"]]


def _median(values: Sequence[float]) -> Interval:
    """The median with an interval of order statistics, at 95 %: no distribution is assumed."""
    from dukou.evaluate.intervals import Interval

    ordered = sorted(values)
    count = len(ordered)
    # Ranks of the sign test's interval: so many rounds lie below the median, 95 times of 100.
    reach = 0.98 * count**0.5
    low = max(0, int(count / 2 - reach))
    high = min(count - 1, int(count / 2 + reach))
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    return Interval(middle, ordered[low], ordered[high], 0.95, "order-statistics")


def _ask(connection: http.client.HTTPConnection, name: str, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    connection.request("POST", f"/v2/models/{name}/infer", body, headers)
    response = connection.getresponse()
    said = response.read()
    if response.status != 200:
        raise BugError(
            "bug.internal",
            f"the engine answered {response.status} while a variant was measured: {said[:300]!r}",
        )


def _compute(state: Mapping[str, Any], name: str) -> tuple[float, int]:
    """Microseconds of compute and runs so far."""
    arms = [arm for arm in state["arms"] if arm["model"] == name]
    return sum(a["compute_us"]["sum"] for a in arms), sum(a["batches"] for a in arms)
