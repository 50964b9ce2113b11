"""`dukou rollout`: where rollouts stand, and on what evidence.

dukou rollout status           the newest rollouts
dukou rollout status MODEL     of one model
dukou rollout wait MODEL       until it is over: status 0 promoted, 3 rolled back or cancelled
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dukou.registry.registry import Registry
    from dukou.registry.rollouts import RolloutEntry

_NAMES = {"errors": "errors", "slow": "slow answers", "disagreement": "disagreement"}
# Rolled back is no failure of the command, and no success of the version.
NOT_PROMOTED = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    status = actions.add_parser("status", help="the newest rollouts")
    status.add_argument("model", nargs="?", metavar="MODEL", help="of one model, with its evidence")
    status.add_argument("--json", action="store_true", help="as one JSON document")
    waiting = actions.add_parser(
        "wait", help="until the model's rollout is over; status 3 if rolled back"
    )
    waiting.add_argument("model", metavar="MODEL", help="the model's name")
    waiting.add_argument("--timeout", metavar="TIME", help="give up after, as 10min")
    waiting.add_argument(
        "--shipped",
        action="store_true",
        help="for the one that the last `dukou ship` started; status 0 at once where it started none",
    )
    waiting.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Shows or waits."""
    from dukou.base.durations import parse_duration
    from dukou.base.settings import dukou_home
    from dukou.control.promote import newest_rollout
    from dukou.registry.registry import Registry

    with Registry.open(dukou_home()) as registry:
        if arguments.action == "wait":
            limit = None
            if arguments.timeout is not None:
                limit = parse_duration(arguments.timeout, key="--timeout", code="usage.invalid")
            number = _shipped(arguments.model) if arguments.shipped else None
            if arguments.shipped and number is None:
                print(f"the last `dukou ship` of `{arguments.model}` started no rollout")
                return 0
            number = newest_rollout(registry, arguments.model).id if number is None else number
            seconds = None if limit is None else limit.total_seconds()
            return wait(registry, number, timeout_s=seconds, as_json=arguments.json)
        if arguments.model is not None:
            registry.versions(arguments.model)
        show(registry.rollouts.list(arguments.model), as_json=arguments.json)
    return 0


def _shipped(model: str) -> int | None:
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.runner import find_shipped_rollout

    return find_shipped_rollout(dukou_home(), model)


def wait(registry: Registry, number: int, *, timeout_s: float | None, as_json: bool) -> int:
    """Waits for the rollout's end and shows it."""
    from dukou.control.promote import wait_for_rollout

    entry = wait_for_rollout(registry, number, timeout_s=timeout_s)
    show([entry], as_json=as_json)
    return 0 if entry.status == "promoted" else NOT_PROMOTED


def show(rollouts: Sequence[RolloutEntry], *, as_json: bool) -> None:
    """Shows rollouts: in words, or all that is known of them."""
    if as_json:
        print(json.dumps({"rollouts": [_document(entry) for entry in rollouts]}, indent=1))
    elif not rollouts:
        print("there was no rollout; `dukou promote MODEL:VERSION` starts one")
    else:
        print("\n\n".join(_lines(entry) for entry in rollouts))


def _document(entry: RolloutEntry) -> dict[str, Any]:
    evidence = {k: v for k, v in entry.evidence.items() if k not in ("cursor", "epoch")}
    return {
        "id": entry.id,
        "model": entry.model,
        "champion": entry.champion,
        "challenger": entry.challenger,
        "status": entry.status,
        "share": entry.policy["steps"][entry.step],
        "policy": dict(entry.policy),
        "evidence": evidence,
        "created": entry.created,
        "updated": entry.updated,
    }


def _lines(entry: RolloutEntry) -> str:
    from dukou.rollout.decide import State
    from dukou.rollout.policy import Policy

    policy = Policy.from_json(entry.policy)
    steps = " → ".join(f"{step:g} %" for step in policy.steps)
    lines = [f"{entry.model}: version {entry.champion} → {entry.challenger}, {entry.status}"]
    if entry.status == "running":
        lines[0] += f" at {policy.steps[entry.step]:g} % ({steps})"
    decision = entry.evidence.get("decision") or {}
    reason = decision.get("reason") or entry.evidence.get("reason")
    lines.append(f"  {reason or _who_takes_it_up(entry.model)}")
    if "state" in entry.evidence:
        state = State.from_json(entry.evidence["state"])
        for name, arm in (("champion", state.champion), ("challenger", state.challenger)):
            lines.append(
                f"  {name:<10} {arm.requests} answers, {arm.errors} errors, {arm.slow} slow"
            )
        if policy.max_disagreement is not None:
            lines.append(f"  compared   {state.compared} rows, {state.differ} differ")
        for test, alpha in policy.alphas().items():
            lines.append(
                f"  evidence of harm by {_NAMES[test]}: {state.value(test):.3g}, "
                f"proven at {1 / alpha:.0f}"
            )
        lines += _say_power(policy, state)
    return "\n".join(lines)


def _who_takes_it_up(model: str) -> str:
    from dukou.base.errors import StateError
    from dukou.serve.folder import find_server

    try:
        return f"the server at {find_server(model)} takes it up"
    except StateError:
        return f"it waits: no server here serves `{model}`; `dukou serve {model}` does"


def _say_power(policy: Any, state: Any) -> list[str]:
    """What would have been seen: without it, no evidence of harm says little."""
    from dukou.rollout.power import detectable_rate

    rate = detectable_rate(
        (state.champion.requests, state.champion.errors),
        state.challenger.requests,
        ratio=policy.error_ratio,
        slack=policy.error_slack,
        alpha=policy.alphas()["errors"],
    )
    if rate is None:
        return ["  too little traffic yet to have seen even a version that always fails"]
    return [f"  an error rate of {rate:.2%} would have been seen by now, 19 times of 20"]
