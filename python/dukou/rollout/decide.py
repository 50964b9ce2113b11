"""The decision of a rollout: a pure function from the rules, what is known, and one more block.

Harm proven rolls back at once. A step is passed when the challenger has answered enough requests in
enough seconds and no test leans towards harm; the step to 100 % is the promotion. Everything that a
decision rests on is in its numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dukou.rollout.evidence import BudgetTest, PairedTest
from dukou.rollout.policy import Policy
from dukou.rollout.power import detectable_rate

Kind = Literal["hold", "step", "promote", "rollback"]
TESTS = ("errors", "slow", "disagreement")
# Evidence that stops a step from being passed, though it proves nothing yet.
_LEANING = 2.0


@dataclass(frozen=True, slots=True)
class Arm:
    """What one arm did in a block, or in all blocks together.

    Attributes:
        requests: answered, well or not.
        errors: not well.
        slow: over the SLO.
    """

    requests: int = 0
    errors: int = 0
    slow: int = 0

    def plus(self, other: Arm) -> Arm:
        """Both together."""
        return Arm(
            self.requests + other.requests, self.errors + other.errors, self.slow + other.slow
        )


@dataclass(frozen=True, slots=True)
class Block:
    """One second of both arms.

    Attributes:
        champion: what it did.
        challenger: what it did.
        compared: rows that both answered, unseen by the callers.
        differ: of these, those on which the two do not agree.
        together: requests that one run of the champion held at most: they fail together.
    """

    champion: Arm
    challenger: Arm
    compared: int = 0
    differ: int = 0
    together: float = 1.0


@dataclass(frozen=True, slots=True)
class State:
    """What is known so far.

    Attributes:
        step: index into the policy's steps.
        step_seconds: blocks of this step with traffic.
        step_requests: what the challenger answered in this step.
        champion: its totals over the rollout.
        challenger: its totals over the rollout.
        compared: rows compared over the rollout.
        differ: of these, those that differ.
        lone: both arms since one of them answered nothing: it waits to be compared.
        errors: the evidence of harm by errors.
        slow: by slow answers.
        disagreement: by disagreement.
    """

    step: int = 0
    step_seconds: int = 0
    step_requests: int = 0
    champion: Arm = Arm()
    challenger: Arm = Arm()
    compared: int = 0
    differ: int = 0
    lone: tuple[Arm, Arm] = (Arm(), Arm())
    errors: PairedTest = field(default_factory=PairedTest)
    slow: PairedTest = field(default_factory=PairedTest)
    disagreement: BudgetTest = field(default_factory=BudgetTest)

    def value(self, test: str) -> float:
        """The e-value of a test in `TESTS`."""
        found: float = getattr(self, test).value
        return found

    def to_json(self) -> dict[str, Any]:
        """For the registry; `from_json` reads it back equal."""
        return {
            "step": self.step,
            "step_seconds": self.step_seconds,
            "step_requests": self.step_requests,
            "champion": dataclasses.asdict(self.champion),
            "challenger": dataclasses.asdict(self.challenger),
            "compared": self.compared,
            "differ": self.differ,
            "lone": [dataclasses.asdict(arm) for arm in self.lone],
            **{test: getattr(self, test).to_json() for test in TESTS},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> State:
        """The inverse of `to_json`."""
        return cls(
            **{
                **document,
                "champion": Arm(**document["champion"]),
                "challenger": Arm(**document["challenger"]),
                "lone": (Arm(**document["lone"][0]), Arm(**document["lone"][1])),
                "errors": PairedTest.from_json(document["errors"]),
                "slow": PairedTest.from_json(document["slow"]),
                "disagreement": BudgetTest.from_json(document["disagreement"]),
            }
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done, and why.

    Attributes:
        kind: `hold`, `step`, `promote` or `rollback`.
        reason: one sentence.
        numbers: what it rests on; goes into the audit chain.
    """

    kind: Kind
    reason: str
    numbers: Mapping[str, Any] = field(default_factory=dict)


def decide(
    policy: Policy, state: State, block: Block, *, elapsed_s: float
) -> tuple[State, Decision]:
    """Takes one more block into account.

    Args:
        policy: the rules.
        state: what was known before.
        block: one second of both arms; empty where there was no traffic.
        elapsed_s: since the rollout began.

    Returns:
        What is known now, and what is to be done. After `step` the state is that of the next step.
    """
    state = _count(policy, state, block)
    alphas = policy.alphas()
    for test, alpha in alphas.items():
        if state.value(test) >= 1 / alpha:
            return state, Decision(
                "rollback", _say_harm(test, policy, state), _numbers(policy, state, test)
            )
    if policy.deadline_s is not None and elapsed_s > policy.deadline_s:
        return state, _at_deadline(policy, state)
    leaning = [test for test in alphas if state.value(test) >= _LEANING]
    if leaning:
        reason = f"{_say_harm(leaning[0], policy, state)}, not proven yet"
        return state, Decision("hold", reason)
    lacking = _lacking(policy, state)
    if lacking:
        return state, Decision("hold", lacking)
    numbers = _numbers(policy, state, None)
    share = policy.steps[state.step]
    reason = f"no harm in {state.step_requests} answers at {share:g} %"
    following = dataclasses.replace(state, step=state.step + 1, step_seconds=0, step_requests=0)
    if following.step >= len(policy.steps) or policy.steps[following.step] == 100:
        return state, Decision("promote", reason, numbers)
    return following, Decision("step", reason, numbers)


def _count(policy: Policy, state: State, block: Block) -> State:
    champion, challenger = state.lone[0].plus(block.champion), state.lone[1].plus(block.challenger)
    lone, errors, slow = (champion, challenger), state.errors, state.slow
    # When a block is complete depends on requests alone, never on what became of them.
    if champion.requests and challenger.requests:
        lone = (Arm(), Arm())
        errors = errors.add(
            (champion.requests, champion.errors),
            (challenger.requests, challenger.errors),
            ratio=policy.error_ratio,
            slack=policy.error_slack,
            together=block.together,
        )
        slow = slow.add(
            (champion.requests, champion.slow),
            (challenger.requests, challenger.slow),
            ratio=policy.slow_ratio,
            slack=policy.slow_slack,
            together=block.together,
        )
    disagreement = state.disagreement
    if policy.max_disagreement is not None and block.compared:
        disagreement = disagreement.add(
            block.compared, block.differ, budget=policy.max_disagreement
        )
    return dataclasses.replace(
        state,
        step_seconds=state.step_seconds + bool(block.champion.requests + block.challenger.requests),
        step_requests=state.step_requests + block.challenger.requests,
        champion=state.champion.plus(block.champion),
        challenger=state.challenger.plus(block.challenger),
        compared=state.compared + block.compared,
        differ=state.differ + block.differ,
        lone=lone,
        errors=errors,
        slow=slow,
        disagreement=disagreement,
    )


def _lacking(policy: Policy, state: State) -> str:
    """What is missing for the next step; empty where nothing is."""
    if not state.challenger.requests and not state.champion.requests:
        return "no traffic yet"
    seconds = policy.min_seconds - state.step_seconds
    requests = policy.min_requests - state.step_requests
    if requests > 0:
        return f"{requests} more answers of the challenger are needed at this step"
    if seconds > 0:
        return f"{seconds} more seconds with traffic are needed at this step"
    if policy.max_disagreement is not None and not state.compared:
        return "no answers could be compared yet"
    return ""


def _at_deadline(policy: Policy, state: State) -> Decision:
    numbers = _numbers(policy, state, None)
    reason = f"the deadline of {policy.deadline_s:g} s passed before the last step"
    kinds: dict[str, Kind] = {"rollback": "rollback", "promote": "promote", "hold": "hold"}
    return Decision(kinds[policy.on_deadline], reason, numbers)


def _numbers(policy: Policy, state: State, test: str | None) -> dict[str, Any]:
    """Everything that was counted, each test's evidence against its threshold, and what harm would
    have been seen by now.
    """
    alphas = policy.alphas()
    seen = detectable_rate(
        (state.champion.requests, state.champion.errors),
        state.challenger.requests,
        ratio=policy.error_ratio,
        slack=policy.error_slack,
        alpha=alphas["errors"],
    )
    return {
        "test": test,
        "step": state.step,
        "share": policy.steps[state.step],
        "champion": dataclasses.asdict(state.champion),
        "challenger": dataclasses.asdict(state.challenger),
        "compared": state.compared,
        "differ": state.differ,
        "evidence": {
            name: {"value": float(f"{state.value(name):.4g}"), "threshold": round(1 / alpha, 1)}
            for name, alpha in alphas.items()
        },
        # The challenger's error rate that would have been found by now with probability 0.95.
        "detectable_error_rate": None if seen is None else round(seen, 5),
    }


def _say_harm(test: str, policy: Policy, state: State) -> str:
    old, new = state.champion, state.challenger
    if test == "disagreement":
        share = _rate(state.differ, state.compared)
        return (
            f"the two differ on {share:.1%} of {state.compared} compared rows, "
            f"{policy.max_disagreement:.1%} is allowed"
        )
    what, ratio, slack = (
        ("errors", policy.error_ratio, policy.error_slack)
        if test == "errors"
        else ("slow answers", policy.slow_ratio, policy.slow_slack)
    )
    return (
        f"{_rate(getattr(new, test), new.requests):.2%} {what} of {new.requests} answers against "
        f"{_rate(getattr(old, test), old.requests):.2%} of the champion's {old.requests}, "
        f"{ratio:g} times that and {slack:.1%} is allowed"
    )


def _rate(events: int, requests: int) -> float:
    return events / requests if requests else 0.0
