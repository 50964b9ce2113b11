"""Simulated traffic for the real decision: what callers meet, in clusters where asked for."""

from __future__ import annotations

import dataclasses

import numpy as np

from dukou.rollout.decide import Arm, Block, Decision, State, decide
from dukou.rollout.policy import Policy

LONGEST_S = 900


@dataclasses.dataclass
class Traffic:
    """Rates are shares of requests; what fails together fails in whole runs of the model."""

    per_second: float = 100
    champion: float = 0.01
    challenger: float = 0.01
    slow: float = 0.02
    differ: float = 0.005
    # Requests of one run of the champion, and of the challenger.
    runs: tuple[int, int] = (1, 1)
    # The chance that a second is a bad one, for both arms: most is slow, and much fails.
    stall: float = 0.0
    # From this second on the challenger fails at this rate.
    later: tuple[float, float] | None = None


def roll(
    policy: Policy, traffic: Traffic, chance: np.random.Generator, longest_s: int = LONGEST_S
) -> tuple[Decision | None, int, int]:
    """One simulated rollout: how it ended (None: not), after how many seconds and requests."""
    state, requests = State(), 0
    for second in range(1, longest_s + 1):
        share = policy.steps[state.step] / 100
        count = int(chance.poisson(traffic.per_second * (0.5 + chance.random())))
        new = int(chance.binomial(count, share))
        old = count - new
        bad = chance.random() < traffic.stall
        slow, more = (0.9, float(chance.random())) if bad else (traffic.slow, 0.0)
        failed_old = _fail(old, max(more, traffic.champion), traffic.runs[0], chance)
        rate = traffic.challenger
        if traffic.later is not None and second >= traffic.later[0]:
            rate = traffic.later[1]
        failed_new = _fail(new, max(more, rate), traffic.runs[1], chance)
        compared = int(old * policy.shadow_share) if policy.max_disagreement else 0
        block = Block(
            Arm(old, failed_old, int(chance.binomial(old, slow))),
            Arm(new, failed_new, int(chance.binomial(new, slow))),
            compared,
            int(chance.binomial(compared, traffic.differ)),
            float(traffic.runs[0]),
        )
        state, decision = decide(policy, state, block, elapsed_s=second)
        requests += count
        if decision.kind in ("promote", "rollback"):
            return decision, second, requests
    return None, longest_s, requests


def _fail(requests: int, rate: float, run: int, chance: np.random.Generator) -> int:
    whole, rest = divmod(requests, run)
    failed = run * int(chance.binomial(whole, rate))
    return failed + (rest if rest and chance.random() < rate else 0)
