"""Facts and a demand become advice: a pure function, so that every recommendation can be tested.

One engine may carry so many requests that its CPUs are busy for `HEADROOM` of the time; where a p99
is asked for, no more than at the highest measured rate that kept it. Engines are counted from that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from dukou.base.sizes import write_size
from dukou.deploy import defaults
from dukou.deploy.document import Profile
from dukou.lifecycle.advise.facts import Demand, Facts
from dukou.lifecycle.advise.strategies import STRATEGIES

# Busier than this, queues grow faster than load does: a burst or a slow minute must find room.
HEADROOM = 0.7
# What nobody limited: half as much again as the most that was seen, in steps.
_MEMORY_SPARE = 1.5
_MEMORY_STEP = 16 << 20
# Whoever waits ten times as long as 99 of 100 others has given up.
_DEADLINES_A_P99 = 10
_LEAST_DEADLINE_MS = 100
_LEAST_QUEUE = 16
# The order in which what meets the demand is preferred: the simplest first.
_PREFERRED: tuple[Profile, ...] = (
    "centralized",
    "container",
    "microservice",
    "edge",
    "distributed",
)
# These engines have one CPU each; the others have a machine like the one that was measured.
_ONE_CPU: frozenset[Profile] = frozenset({"edge", "container", "microservice"})
# These add engines until the requests fit.
_SCALES: frozenset[Profile] = frozenset({"distributed", "container", "microservice"})


@dataclass(frozen=True, slots=True)
class Check:
    """One number against what was asked.

    Attributes:
        what: `requests`, `p99` or `memory`.
        wanted: what was asked: requests a second, milliseconds, bytes.
        has: what was measured, or counted from it.
        holds: whether it is enough.
        words: the arithmetic.
    """

    what: Literal["requests", "p99", "memory"]
    wanted: float
    has: float
    holds: bool
    words: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """A strategy, held against the demand.

    Attributes:
        profile: which.
        replicas: engines that it takes.
        engine_rps: requests a second that one engine may carry.
        checks: number by number.
        number: this model's figure for this strategy, in words.
    """

    profile: Profile
    replicas: int
    engine_rps: float
    checks: tuple[Check, ...]
    number: str

    @property
    def meets(self) -> bool:
        """Whether every number holds."""
        return all(check.holds for check in self.checks)


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do.

    Attributes:
        assessments: of all five strategies, in the order of `STRATEGIES`.
        chosen: the one that is recommended; where none meets the demand, the nearest of those allowed.
        deploy: what `[deploy]` is to say for it.
        hints: what else would help, in words.
    """

    assessments: tuple[Assessment, ...]
    chosen: Assessment
    deploy: dict[str, Any]
    hints: tuple[str, ...]

    @property
    def meets(self) -> bool:
        """Whether the recommended strategy meets the demand."""
        return self.chosen.meets


def decide(facts: Facts, demand: Demand) -> Advice:
    """The strategy that meets the demand most simply, with the numbers of all five."""
    assessed = tuple(_assess(strategy.profile, facts, demand) for strategy in STRATEGIES)
    by_profile = {a.profile: a for a in assessed}
    allowed = demand.where or ("centralized", "distributed")
    candidates = [by_profile[profile] for profile in _PREFERRED if profile in allowed]
    # `min` keeps the first of equals: the simplest of those that fail in the fewest numbers.
    chosen = min(candidates, key=lambda a: sum(not check.holds for check in a.checks))
    return Advice(
        assessed, chosen, _settings(chosen, facts, demand), _hints(chosen, by_profile, facts)
    )


def _assess(profile: Profile, facts: Facts, demand: Demand) -> Assessment:
    share = 1 / facts.cpus if profile in _ONE_CPU else 1.0
    machine, why = _carries(facts, demand)
    engine = machine * share
    replicas = 2 if profile == "distributed" else 1
    if demand.rps is not None and profile in _SCALES and engine > 0:
        replicas = max(replicas, math.ceil(demand.rps / engine))
    checks = []
    if demand.rps is not None:
        checks.append(_check_requests(profile, demand.rps, engine, replicas, why, facts))
    if demand.p99_ms is not None:
        checks.append(_check_p99(facts, demand.p99_ms, demand.rps, replicas, share))
    if demand.memory_bytes is not None:
        checks.append(_check_memory(profile, facts, demand.memory_bytes))
    return Assessment(
        profile, replicas, engine, tuple(checks), _number(profile, facts, engine, replicas, demand)
    )


def _carries(facts: Facts, demand: Demand) -> tuple[float, str]:
    """Requests a second that one engine on such a machine may carry, and how that is counted."""
    most = HEADROOM * facts.capacity_rps
    words = f"{HEADROOM:.0%} of {show_rate(facts.capacity_rps)}"
    if demand.p99_ms is None:
        return most, words
    kept = [p.rate for p in facts.points if not p.failed and p.p99_ms <= demand.p99_ms]
    if kept and max(kept) < most:
        return max(kept), f"the highest rate measured that kept {show_ms(demand.p99_ms)}"
    # Where no rate keeps it, that check fails by itself; the count of engines goes on without it.
    return most, words


def _check_requests(
    profile: Profile, wanted: float, engine: float, replicas: int, why: str, facts: Facts
) -> Check:
    has = engine * replicas
    each = {
        "edge": "a device with one such CPU",
        "container": "a container of one CPU",
        "microservice": "a service of one CPU",
    }.get(profile, "one engine on a machine like this")
    part = f", divided by {facts.cpus} CPUs" if profile in _ONE_CPU and facts.cpus > 1 else ""
    words = f"{each} carries {show_rate(engine)} ({why}{part})"
    if profile in _SCALES and replicas > 1:
        words += f"; {show_rate(wanted)} ÷ {show_rate(engine)} → {replicas}"
    else:
        words += f"; {show_rate(wanted)} wanted"
        if has < wanted:
            words += f": {show_rate(wanted - has)} too many"
    return Check("requests", wanted, has, has >= wanted, words)


def _check_p99(
    facts: Facts, wanted: float, rps: float | None, replicas: int, share: float
) -> Check:
    """At the lowest measured rate that is no less than an engine's part; the highest where all are less."""
    part = (rps or 0.0) / replicas / share
    kept = [p for p in facts.points if not p.failed and p.p99_ms <= wanted]
    point = next((p for p in facts.points if p.rate >= part), facts.points[-1])
    if kept and (point.failed or point.p99_ms > wanted):
        point = kept[-1]
    holds = not point.failed and point.p99_ms <= wanted
    words = f"{show_ms(point.p99_ms)} measured at {show_rate(point.rate)}, {show_ms(wanted)} wanted"
    if point.failed:
        words += f"; {point.failed} of {point.requests} requests failed"
    elif not holds:
        words += f": {point.p99_ms / wanted:.3g} times too long, at every rate"
    return Check("p99", wanted, point.p99_ms, holds, words)


def _check_memory(profile: Profile, facts: Facts, wanted: int) -> Check:
    whose = {"edge": "a device", "container": "a container", "microservice": "a service"}
    words = (
        f"{show_mib(facts.memory_bytes)} at the most, {show_mib(wanted)} for "
        f"{whose.get(profile, 'a machine')}"
    )
    holds = facts.memory_bytes <= wanted
    if not holds:
        words += f": {show_mib(facts.memory_bytes - wanted)} too much"
    return Check("memory", wanted, facts.memory_bytes, holds, words)


def _number(profile: Profile, facts: Facts, engine: float, replicas: int, demand: Demand) -> str:
    """This model's figure for a strategy."""
    light = facts.points[0]
    if profile == "centralized":
        return f"{show_rate(engine)} on {facts.cpus} CPUs like these"
    if profile == "distributed":
        return f"{replicas} machines like this carry {show_rate(engine * replicas)}"
    if profile == "edge":
        return (
            f"{show_mib(facts.size_bytes)} to send, {show_mib(facts.memory_bytes)} of memory, "
            f"{facts.cpu_us:,.0f} µs of CPU a request"
        )
    if profile == "container":
        need = (demand.rps or 1.0) * facts.cpu_us / 1e6 / HEADROOM
        wanted = f"{need:.2g} CPUs for {show_rate(demand.rps)}, " if demand.rps else ""
        count = f"{replicas} container{'s' if replicas > 1 else ''} of one CPU"
        return f"{wanted}{count}, {show_mib(demand.memory_bytes or memory_limit(facts))} each"
    return (
        f"a hop of {show_ms(light.p50_ms)} at p50, a further engine answers {facts.start_s:.2f} s "
        "after its start"
    )


def memory_limit(facts: Facts) -> int:
    """Bytes to allow an engine where nobody said."""
    return math.ceil(facts.memory_bytes * _MEMORY_SPARE / _MEMORY_STEP) * _MEMORY_STEP


def _settings(chosen: Assessment, facts: Facts, demand: Demand) -> dict[str, Any]:
    """`[deploy]` for it; what is not here is left to its default."""
    said: dict[str, Any] = {"profile": chosen.profile, "replicas": chosen.replicas}
    if chosen.profile in _ONE_CPU:
        said["instances"] = 1
    if demand.p99_ms is not None:
        rows = _batch_rows(facts, demand.p99_ms)
        if rows < defaults.BATCH_ROWS:
            said["batch_rows"] = rows
        deadline_ms = max(_LEAST_DEADLINE_MS, math.ceil(demand.p99_ms * _DEADLINES_A_P99))
        # More could not be answered before their deadline, by CPUs that do nothing else.
        cpus = 1 if chosen.profile in _ONE_CPU else facts.cpus
        queue = max(_LEAST_QUEUE, math.ceil(cpus * deadline_ms * 1000 / facts.cpu_us))
        if queue < defaults.QUEUE:
            said["queue"] = queue
        said["deadline"] = f"{deadline_ms}ms"
    if demand.memory_bytes is not None:
        said["memory"] = write_size(demand.memory_bytes)
    elif chosen.profile in _ONE_CPU:
        said["memory"] = write_size(memory_limit(facts))
    return said


def _batch_rows(facts: Facts, p99_ms: float) -> int:
    """So many that a run of them takes at most half of the time allowed."""
    served = facts.served
    if not facts.batchable or served is None or not served.busy_us:
        return defaults.BATCH_ROWS
    return max(1, min(defaults.BATCH_ROWS, int(p99_ms * 1000 / 2 / served.busy_us)))


def _hints(
    chosen: Assessment, by_profile: dict[Profile, Assessment], facts: Facts
) -> tuple[str, ...]:
    hints = []
    if not chosen.meets:
        others = [
            strategy
            for strategy in STRATEGIES
            if strategy.profile != chosen.profile and by_profile[strategy.profile].meets
        ]
        for strategy in others[:1]:
            count = by_profile[strategy.profile].replicas
            hints.append(
                f"`--where {strategy.place}` would meet it: {strategy.profile}, "
                f"{count} engine{'s' if count > 1 else ''}"
            )
    served = facts.served
    failed = {check.what for check in chosen.checks if not check.holds}
    if served is not None and served.alone_us and failed & {"p99", "requests"}:
        faster = [f for f in facts.forms if f.alone_us and f.alone_us < 0.9 * served.alone_us]
        if faster:
            best = min(faster, key=lambda f: f.alone_us or 0.0)
            share = (best.alone_us or 0.0) / served.alone_us
            hints.append(f"`{best.name}` computes in {share:.0%} of the time")
    if facts.load_before > facts.cpus:
        hints.append(
            f"other programs kept this machine busy (a load of {facts.load_before:.0f} on "
            f"{facts.cpus} CPUs): measured alone, latency is lower"
        )
    if any(point.requests < 100 for point in facts.points):
        hints.append("fewer than 100 requests were measured: `--seconds 20` gives a steadier p99")
    return tuple(hints)


def show_rate(rps: float) -> str:
    """`12,300/s`, `4.2/s`."""
    if rps >= 100:
        return f"{float(f'{rps:.3g}'):,.0f}/s"
    return f"{rps:.3g}/s"


def show_ms(value: float) -> str:
    """`0.42 ms`, `12 ms`, `1.2 s`."""
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"


def show_mib(count: float) -> str:
    """`27 KiB`, `44 MiB`, `1.2 GiB`: as `--memory` counts."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return (
                f"{count / size:.3g} {unit}"
                if count < 1000 * size
                else f"{count / size:,.0f} {unit}"
            )
    return f"{count:.0f} B"
