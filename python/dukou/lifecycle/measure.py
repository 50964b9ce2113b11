"""Variants are judged where they will run: in the engine, side by side, in turns.

One engine is started on a loopback port that nobody else knows; every variant is a model of it, by
file, with the batching that a deployment has by default: whether requests may share a run is the
engine's own finding. Rounds go A B C A B C, so that what else the machine does hits all alike. In a
round each is asked one request at a time, and then by many connections at once; what is compared is
the compute time of the engine's own exact counters (`spec/state.md`), not a client's clock.
"""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import BugError
from dukou.model.golden import GoldenSamples
from dukou.model.model import Model
from dukou.model.signature import Signature

if TYPE_CHECKING:
    from dukou.evaluate.intervals import Interval
    from dukou.optimize.contract import Arrays, Measurement
    from dukou.serve.engine import EngineProcess

_LISTENER = "http"
# What a request costs beside its run: this client's part of it most of all.
_OVERHEAD_US = 300.0
_FEWEST_REQUESTS = 3


@dataclass(slots=True)
class Times:
    """What the engine counted of one model.

    Attributes:
        alone_us: compute time of a request that is alone, a number a round.
        busy_us: compute time of a request among others, a number a round.
        batched: whether the engine found that requests may share a run.
        requests: in company, in all.
        runs: that those took.
    """

    batched: bool
    alone_us: list[float] = field(default_factory=list)
    busy_us: list[float] = field(default_factory=list)
    requests: int = 0
    runs: int = 0


class EngineMeasure:
    """A `Measure` (see `dukou.optimize.contract`) that runs forms in the engine.

    Args:
        rounds: of all models in turn; one more comes before and is not counted.
        requests: of each model in each round, one at a time.
        bursts: of each model in each round, a request of each connection at once.
        company: how many connections that are.
        budget_s: about how long it may take: models that run long are asked less often.
    """

    def __init__(
        self,
        *,
        rounds: int = 20,
        requests: int = 40,
        bursts: int = 4,
        company: int = 16,
        budget_s: float = 5.0,
    ) -> None:
        self.rounds = rounds
        self.requests = requests
        self.bursts = bursts
        self.company = company
        self.budget_s = budget_s

    def __call__(self, models: Sequence[Model], samples: Sequence[Arrays]) -> Sequence[Measurement]:
        """The medians over rounds of the compute time of a request, with their intervals."""
        from dukou.optimize.contract import Measurement

        measured = []
        for model, times in zip(models, self.run(models, samples), strict=True):
            facts = {
                "where": "dukou-engine",
                "rounds": self.rounds,
                "threads": 1,
                "rows": 1,
                "company": self.company,
                "requests_a_run": times.requests / times.runs,
            }
            alone, busy = _median(times.alone_us), _median(times.busy_us)
            measured.append(Measurement(alone, busy, model.size_bytes(), times.batched, facts))
        return measured

    def run(self, models: Sequence[Model], samples: Sequence[Arrays]) -> list[Times]:
        """What the engine counts of each model.

        Args:
            models: graphs with the same inputs.
            samples: requests, inputs by name; gone through in turn.

        Raises:
            RemoteError: `engine.*`, where the engine does not start.
            BugError: it refused a request that the model itself accepted.
        """
        from dukou.base.ids import ModelName

        files = {ModelName(f"variant-{i}"): model.graph for i, model in enumerate(models)}
        messages = [
            _messages(name, model, samples) for name, model in zip(files, models, strict=True)
        ]
        with _serve(files) as (engine, port), ExitStack() as stack:
            known = {m["name"]: m["versions"][0] for m in engine.api.models()}
            found = [Times(known[name]["batchable"]) for name in files]
            share = self._share([known[name]["run_us"] or 1000.0 for name in files])
            requests = max(_FEWEST_REQUESTS, round(self.requests * share))
            bursts = max(1, round(self.bursts * share))
            crowd = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
                for _ in range(self.company)
            ]
            for turn in range(self.rounds + 1):
                for times, name, these in zip(found, files, messages, strict=True):
                    start = turn * requests
                    before = _count(engine, name)
                    for i in range(requests):
                        _ask(crowd[:1], these, start + i)
                    between = _count(engine, name)
                    for i in range(bursts):
                        _ask(crowd, these, start + i * self.company)
                    after = _count(engine, name)
                    if turn:
                        together = bursts * self.company
                        times.alone_us.append((between[0] - before[0]) / requests)
                        times.busy_us.append((after[0] - between[0]) / together)
                        times.requests += together
                        times.runs += after[1] - between[1]
        return found

    def _share(self, runs_us: Sequence[float]) -> float:
        """What part of the requests asked for fits into the time."""
        one = sum(run + _OVERHEAD_US for run in runs_us)
        whole_us = (self.rounds + 1) * (self.requests + self.bursts * self.company) * one
        return min(1.0, self.budget_s * 1e6 / whole_us)


@contextmanager
def _serve(files: Mapping[Any, Path]) -> Iterator[tuple[EngineProcess, int]]:
    """An engine that serves these, and its port."""
    from dukou.serve.bare import bare_table
    from dukou.serve.engine import EngineProcess
    from dukou.serve.find import find_engine, find_runtime

    with (
        tempfile.TemporaryDirectory(prefix="dukou-measure-") as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        home = Path(folder)
        engine = EngineProcess.start(
            find_engine(),
            listeners={_LISTENER: listener},
            socket_path=home / "engine.sock",
            state_dir=home / "state",
            runtime=find_runtime(),
            # One, so that all of a burst come to one thread: the other CPU is the client's.
            threads=1,
            log=home / "engine.log",
        )
        with engine:
            engine.wait_event("started")
            engine.api.put_table(bare_table(files, listeners=[_LISTENER]))
            yield engine, listener.getsockname()[1]


def request_bodies(model: Model, samples: Sequence[Arrays]) -> list[bytes]:
    """The samples as V2 requests in JSON."""
    requests = GoldenSamples(tuple((inputs, {}) for inputs in samples))
    document = json.loads(requests.to_json(Signature(model.signature.inputs, ())))
    return [json.dumps({"inputs": s["inputs"]}).encode() for s in document["samples"]]


def _messages(name: str, model: Model, samples: Sequence[Arrays]) -> list[bytes]:
    """Whole HTTP messages with V2 requests: a client that is quick lets a burst really meet."""
    messages = []
    for body in request_bodies(model, samples):
        head = (
            f"POST /v2/models/{name}/infer HTTP/1.1\r\nhost: 127.0.0.1\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        messages.append(head.encode() + body)
    return messages


def _ask(connections: Sequence[socket.socket], messages: Sequence[bytes], start: int) -> None:
    """A request on each connection, all sent before the first answer is read."""
    for i, connection in enumerate(connections, start):
        connection.sendall(messages[i % len(messages)])
    for connection in connections:
        response = http.client.HTTPResponse(connection, method="POST")
        response.begin()
        said = response.read()
        if response.status != 200:
            raise BugError(
                "bug.internal",
                f"the engine answered {response.status} while a variant was measured: "
                f"{said[:300]!r}",
            )


def _count(engine: EngineProcess, name: str) -> tuple[float, int]:
    """Microseconds of compute and runs so far."""
    arms = [arm for arm in engine.api.state()["arms"] if arm["model"] == name]
    return sum(arm["compute_us"]["sum"] for arm in arms), sum(arm["batches"] for arm in arms)


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
