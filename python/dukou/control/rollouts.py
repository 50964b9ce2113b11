"""Rollouts under live traffic: the engine's exact counters in, the registry's next step out.

Once a second the difference of both arms' counters is a block for `rollout.decide`. Of several servers
that follow one registry, the holder of the rollout decides, by the sum of the exact counters of all that
serve the same on its machine; all of them follow the steps.
What was counted is kept with the cursor that it was counted up to, in one write: a control that is
killed and comes back counts nothing twice.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from dukou.base.errors import DukouError, StateError
from dukou.registry.registry import Registry
from dukou.registry.rollouts import CANCELLED, PROMOTED, ROLLED_BACK, RolloutEntry
from dukou.rollout.decide import Arm, Block, Decision, State, decide
from dukou.rollout.policy import Policy
from dukou.serve.histogram import quantile

CHAMPION_ARM, CHALLENGER_ARM, SHADOW_ARM = "champion", "challenger", "shadow"
_BLOCK_S = 1.0
_KEEP_S = 2.0
_HOLD_S = 6.0
# Answers of the champion that its own pace is read from, where the policy names no SLO.
_PACE_ANSWERS = 100
# An SLO that nobody set is no shorter than this: less than a person or a budget notices is no harm.
_LEAST_SLO_US = 10_000
# The client left: nobody's error.
_NO_ERROR = ("ok", "server.cancelled")
# Servers whose counters have fed a rollout, of which the newest are remembered.
_CURSORS = 64


class StateApi(Protocol):
    """What is asked of an engine."""

    def state(self) -> dict[str, Any]:
        """The exact counters."""
        ...


class RolloutKeeper:
    """Counts and decides for the rollouts of what one server serves.

    Args:
        registry: where rollouts are kept.
        engine: whose counters are read.
        names: gives the model's name in the registry → its name in this server's table.
        holder: this server's name, of no other's.
        say: told of every decision.
        peers: gives the engines of other servers whose tables are the same, by those servers' names.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        registry: Registry,
        engine: StateApi,
        names: Callable[[], Mapping[str, str]],
        *,
        holder: str,
        say: Callable[[str], None],
        peers: Callable[[], Mapping[str, StateApi]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._find_names = names
        self._names: Mapping[str, str] = {}
        self._holder = holder
        self._say = say
        self._find_peers = peers
        self._clock = clock
        self._token: object = None
        self._running: list[RolloutEntry] = []
        self._memory: dict[int, _Memory] = {}
        self._due = 0.0
        self._trouble: DukouError | None = None

    def step(self) -> None:
        """Does what is due. What is in the way now is tried again in a second."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + _BLOCK_S
        try:
            token = self._registry.change_token()
            if token != self._token:
                self._names = self._find_names()
                found = (self._registry.rollouts.running(name) for name in self._names)
                self._running = [entry for entry in found if entry is not None]
                self._token = token
            if self._trouble is not None:
                self._blame(self._trouble)
                self._trouble = None
            if not self._running:
                self._memory.clear()
                return
            state = self._engine.state()
            for entry in self._running:
                self._advance(entry, state, now)
        except DukouError as error:
            if error.code not in ("engine.unreachable", "registry.conflict", "rollout.ended"):
                self._say(f"the rollout waits: {error}")
            self._token = None

    def describe(self) -> list[dict[str, Any]]:
        """The rollouts that this server follows, for `dukou status`; a reason where it decides itself."""
        return [
            {
                "model": self._names[str(entry.model)],
                "champion": entry.champion,
                "challenger": entry.challenger,
                "share": entry.policy["steps"][entry.step],
                "reason": self._memory[entry.id].reason if entry.id in self._memory else "",
            }
            for entry in self._running
        ]

    def note_trouble(self, error: DukouError) -> None:
        """Tells it why a table was refused: a challenger that cannot be served is rolled back."""
        self._trouble = error

    def _blame(self, error: DukouError) -> None:
        # An error is the challenger's where it names it; what else is wrong with a table is not its
        # fault.
        for entry in self._running:
            name = self._names[str(entry.model)]
            if f"`{name}:{entry.challenger}`" in error.message:
                details = {"reason": f"it cannot be served: {error.message}", "code": error.code}
                self._registry.rollouts.end(entry.id, ROLLED_BACK, details=details)
                self._say(f"{entry.model}:{entry.challenger} was rolled-back: {details['reason']}")
                self._token = None

    def _advance(self, entry: RolloutEntry, state: dict[str, Any], now: float) -> None:
        memory = self._memory.get(entry.id)
        if memory is not None and now - memory.held_at >= _HOLD_S:
            memory = None  # another one may have counted meanwhile
        if memory is None or now - memory.held_at >= _KEEP_S:
            until = (datetime.now(UTC) + timedelta(seconds=_HOLD_S)).isoformat(
                timespec="microseconds"
            )
            if not self._registry.rollouts.hold(entry.id, self._holder, until):
                self._memory.pop(entry.id, None)
                return
            if memory is None:
                # What another holder, or this one before it was killed, has counted.
                kept = self._registry.rollouts.get(entry.id)
                memory = self._memory[entry.id] = _Memory(kept, self._holder, now)
            memory.held_at = now
        if self._registry.resolve(str(entry.model)).number != entry.champion:
            reason = f"`{entry.model}@champion` was moved by somebody else"
            self._end(entry, CANCELLED, Decision("hold", reason), memory)
            return
        states = {self._holder: state, **self._peer_states()}
        block = memory.read(states, self._names[str(entry.model)], entry)
        elapsed = datetime.now(UTC) - datetime.fromisoformat(entry.created)
        memory.state, decision = decide(
            memory.policy, memory.state, block, elapsed_s=elapsed.total_seconds()
        )
        memory.reason = decision.reason
        if decision.kind == "hold":
            if now - memory.kept_at >= _KEEP_S:
                self._registry.rollouts.note(entry.id, evidence=memory.to_json())
                memory.kept_at = now
        elif decision.kind == "step":
            details = {"reason": decision.reason, **decision.numbers}
            self._registry.rollouts.note(
                entry.id,
                evidence=memory.to_json(),
                step=memory.state.step,
                action="rollout.step",
                details=details,
            )
            share = memory.policy.steps[memory.state.step]
            self._say(f"{entry.model}:{entry.challenger} goes to {share:g} %: {decision.reason}")
        else:
            status = PROMOTED if decision.kind == "promote" else ROLLED_BACK
            self._end(entry, status, decision, memory)

    def _peer_states(self) -> dict[str, dict[str, Any]]:
        states = {}
        for server, engine in self._find_peers().items():
            # One that restarts or is gone is counted on when it answers again, from where it was read.
            with contextlib.suppress(DukouError):
                states[server] = engine.state()
        return states

    def _end(self, entry: RolloutEntry, status: str, decision: Decision, memory: _Memory) -> None:
        details = {"reason": decision.reason, **decision.numbers}
        try:
            self._registry.rollouts.note(entry.id, evidence=memory.to_json())
            self._registry.rollouts.end(entry.id, status, details=details)
        except StateError as error:
            if error.code != "rollout.ended":
                raise
        self._memory.pop(entry.id, None)
        self._running = [other for other in self._running if other.id != entry.id]
        self._say(f"{entry.model}:{entry.challenger} was {status}: {decision.reason}")


class _Memory:
    """What is known of one rollout, and up to where the counters of each server were read."""

    def __init__(self, entry: RolloutEntry, holder: str, now: float) -> None:
        kept = entry.evidence
        self.policy = Policy.from_json(entry.policy)
        self.state = State.from_json(kept["state"]) if "state" in kept else State()
        self.slo_us: int | None = kept.get("slo_us")
        if self.slo_us is None and self.policy.slo_ms is not None:
            self.slo_us = round(self.policy.slo_ms * 1000)
        self.reason = ""
        self.held_at = now
        self._holder = holder
        self._cursors: dict[str, dict[str, Any]] = dict(kept.get("cursors", {}))
        # Where a server begins to count is kept at once: after a kill it could not be known again.
        self.kept_at = now if holder in self._cursors else -math.inf

    def to_json(self) -> dict[str, Any]:
        """What the registry keeps."""
        return {
            "state": self.state.to_json(),
            "slo_us": self.slo_us,
            "cursors": self._cursors,
            "reason": self.reason,
        }

    def read(self, states: Mapping[str, dict[str, Any]], name: str, entry: RolloutEntry) -> Block:
        """What both arms of these servers did since the last time, added together."""
        timed = self.slo_us is not None
        if self.slo_us is None:
            self.slo_us = _pace(states.values(), name, entry.champion)
        total = {arm: [0] * 5 for arm in (CHAMPION_ARM, CHALLENGER_ARM, SHADOW_ARM)}
        for server, state in states.items():
            for arm, new in self._since(server, state, name, entry).items():
                total[arm] = [a + b for a, b in zip(total[arm], new, strict=True)]
        if not timed:
            for counts in total.values():
                counts[2] = 0  # until now nothing was known to be slow
        champion, challenger, shadow = total.values()
        return Block(
            Arm(*champion[:3]),
            Arm(*challenger[:3]),
            shadow[3],
            shadow[4],
            max(_together(state, name, entry.champion) for state in states.values()),
        )

    def _since(
        self, server: str, state: dict[str, Any], name: str, entry: RolloutEntry
    ) -> dict[str, list[int]]:
        counted = {
            CHAMPION_ARM: _count(state, name, CHAMPION_ARM, entry.champion, self.slo_us),
            CHALLENGER_ARM: _count(state, name, CHALLENGER_ARM, entry.challenger, self.slo_us),
            SHADOW_ARM: _count(state, name, SHADOW_ARM, entry.challenger, self.slo_us),
        }
        cursor = self._cursors.pop(server, None)
        if cursor is None:
            # First seen here: what is counted already is an earlier rollout's of the same versions.
            before = counted
        elif cursor["epoch"] != state["epoch"]:
            before = {}  # a new engine counts from nothing
        else:
            before = cursor["arms"]
        # The newest last; the oldest is forgotten.
        self._cursors = dict(list(self._cursors.items())[-(_CURSORS - 1) :])
        self._cursors[server] = {"epoch": state["epoch"], "arms": counted}
        return {
            arm: [max(0, a - b) for a, b in zip(now, before.get(arm, [0] * len(now)), strict=True)]
            for arm, now in counted.items()
        }


def _count(
    state: dict[str, Any], name: str, arm: str, version: int, slo_us: int | None
) -> list[int]:
    """Requests, errors, slow answers, rows compared, rows that differ: of all revisions together."""
    total = [0, 0, 0, 0, 0]
    bounds = state["bounds_us"]
    for row in state["arms"]:
        if (row["model"], row["version"], row["arm"]) != (name, str(version), arm):
            continue
        codes = row["codes"]
        total[0] += sum(codes.values()) - codes.get("server.cancelled", 0)
        total[1] += sum(count for code, count in codes.items() if code not in _NO_ERROR)
        if slo_us is not None:
            total[2] += sum(
                count
                for index, count in enumerate(row["request_us"]["counts"])
                # A bucket counts as slow where all of it is.
                if (bounds[index - 1] if index else 0) >= slo_us
            )
        agreement = row.get("agreement") or {}
        total[3] += agreement.get("compared", 0)
        total[4] += agreement.get("differ", 0)
    return total


def _pace(states: Iterable[dict[str, Any]], name: str, version: int) -> int | None:
    """What is slow, by the champion's own 95th percentile, in µs; None until enough of it was seen."""
    counts: list[int] = []
    bounds: list[int] = []
    for state in states:
        bounds = state["bounds_us"]
        for row in state["arms"]:
            if (row["model"], row["version"]) == (name, str(version)) and row["arm"] != SHADOW_ARM:
                these = row["request_us"]["counts"]
                counts = [a + b for a, b in zip(counts, these, strict=True)] if counts else these
    if sum(counts) < _PACE_ANSWERS:
        return None
    found = quantile(bounds, counts, 0.95)
    return None if found is None else max(_LEAST_SLO_US, round(2 * found))


def _together(state: dict[str, Any], name: str, version: int) -> float:
    """Requests of one run of the champion, all but the largest hundredth of its runs; at least 1."""
    sizes: dict[int, int] = {}
    requests, rows = 0, 0
    for row in state["arms"]:
        if (row["model"], row["version"]) == (name, str(version)) and row["arm"] != SHADOW_ARM:
            requests, rows = requests + row["requests"], rows + row["rows"]
            for size, count in row["batch_rows"].items():
                # Upper bounds of powers of two.
                sizes[int(size)] = sizes.get(int(size), 0) + count
    left = sum(sizes.values()) / 100
    for size in sorted(sizes, reverse=True):
        left -= sizes[size]
        if left < 0 and rows:
            return max(1.0, size * requests / rows)
    return 1.0
