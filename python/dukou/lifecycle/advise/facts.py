"""What is wanted, and what was measured: the two sides of every comparison."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dukou.base.durations import parse_duration
from dukou.base.errors import InputError
from dukou.base.sizes import parse_size
from dukou.deploy.document import Profile
from dukou.lifecycle.advise.strategies import STRATEGIES

_MOST_RPS = 10_000_000.0
_PLAIN = re.compile(r"\s*\d+(\.\d+)?\s*\Z")


@dataclass(frozen=True, slots=True)
class Demand:
    """What is asked of the model in production; None for what nobody said.

    Attributes:
        rps: requests a second, of all callers together (of one device, where it is served on devices).
        p99_ms: what 99 of 100 requests must be answered within.
        memory_bytes: that one engine may take: of a machine, container or device.
        where: the profiles that are allowed; empty where one machine is wished for and several are
            taken if it takes several.
    """

    rps: float | None = None
    p99_ms: float | None = None
    memory_bytes: int | None = None
    where: tuple[Profile, ...] = ()


def parse_demand(
    *, rps: str | None, p99: str | None, memory: str | None, where: Sequence[str]
) -> Demand:
    """A demand from the words of a command line.

    Args:
        rps: a number above 0.
        p99: milliseconds, or a duration with its unit: `5ms`, `0.5s`.
        memory: a size: `256m`, `2g`.
        where: `here`, `cluster`, `device`, `container`, `services`, or names of profiles.

    Raises:
        InputError: `usage.invalid`.
    """
    return Demand(
        rps=None if rps is None else _parse_rps(rps),
        p99_ms=None if p99 is None else _parse_p99(p99),
        memory_bytes=None
        if memory is None
        else parse_size(memory, key="--memory", code="usage.invalid"),
        where=tuple(dict.fromkeys(_parse_place(word) for word in where)),
    )


def _parse_rps(text: str) -> float:
    try:
        rps = float(text)
    except ValueError:
        rps = math.nan
    if not 0 < rps <= _MOST_RPS:
        raise InputError(
            "usage.invalid",
            f"`--rps {text}` is not a number of requests a second above 0 and up to {_MOST_RPS:,.0f}",
            hint="for example `--rps 200`",
        )
    return rps


def _parse_p99(text: str) -> float:
    said = f"{text.strip()}ms" if _PLAIN.match(text) else text
    try:
        return parse_duration(said, key="--p99").total_seconds() * 1000
    except InputError:
        raise InputError(
            "usage.invalid",
            f"`--p99 {text}` is not a duration longer than nothing",
            hint="milliseconds, or a number and a unit: `20`, `5ms`, `0.5s`",
        ) from None


def _parse_place(word: str) -> Profile:
    for strategy in STRATEGIES:
        if word in (strategy.place, strategy.profile):
            return strategy.profile
    raise InputError(
        "usage.invalid",
        f"`--where {word}` is not a place that dukou knows",
        hint="the places are "
        + ", ".join(f"`{s.place}` ({s.profile})" for s in STRATEGIES)
        + "; `--where` may be given several times",
    )


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """How long requests took at one rate of Poisson arrivals, from due to answered.

    Attributes:
        rate: requests a second that were sent.
        requests: how many were measured.
        failed: of these, without a good answer.
        p50_ms: of good answers.
        p99_ms: of good answers; of fewer than a hundred, the slowest.
    """

    rate: float
    requests: int
    failed: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True)
class Form:
    """One form of the model that an optimization makes.

    Attributes:
        name: of the pass or passes: `int8`, `simplify+int8`; `original`.
        size_bytes: of the graph and its weights.
        alone_us: compute time of a request that is alone; None where it was not measured.
        busy_us: of a request among others.
        quality: accuracy on the held-out rows; None where nobody could judge.
        note: what speaks for or against it, in words.
        served: whether this is the form whose capacity and latency were measured.
    """

    name: str
    size_bytes: int | None
    alone_us: float | None
    busy_us: float | None
    quality: float | None
    note: str
    served: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """What was measured of one model on one machine.

    Attributes:
        name: of the model.
        source: what was measured, in words.
        cpus: that the engine could use, and the load generator beside it.
        machine_memory_bytes: of the machine, or of the control group's limit.
        size_bytes: of the served form.
        batchable: whether requests may share a run.
        cpu_us: CPU time of the engine a request, under full load.
        reached_rps: answered a second in a closed loop, by an engine that shared its CPUs with the
            client.
        points: latency at several rates, ascending.
        memory_bytes: the most that the engine held, from its very first start to the end of the load.
        first_start_s: from starting the engine to its first answer, with nothing prepared.
        start_s: the same the next time.
        forms: what optimizations make of it.
        load_before: processes that wanted a CPU in the minute before.
    """

    name: str
    source: str
    cpus: int
    machine_memory_bytes: int
    size_bytes: int
    batchable: bool
    cpu_us: float
    reached_rps: float
    points: tuple[LoadPoint, ...]
    memory_bytes: int
    first_start_s: float
    start_s: float
    forms: tuple[Form, ...] = ()
    load_before: float = 0.0

    @property
    def capacity_rps(self) -> float:
        """Requests a second that keep all CPUs busy, by the engine's own CPU time."""
        return self.cpus * 1e6 / self.cpu_us

    @property
    def served(self) -> Form | None:
        """The form that all of this was measured of."""
        return next((form for form in self.forms if form.served), None)

    def to_json(self) -> dict[str, Any]:
        """All of it, with the capacity."""
        return {**asdict(self), "capacity_rps": self.capacity_rps}
