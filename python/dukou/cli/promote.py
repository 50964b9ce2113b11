"""`dukou promote MODEL:VERSION`: a version on its way to all of the traffic.

By canary: it gets a share that grows step by step while the champion keeps the rest, and is rolled
back by itself where it is proven to do harm. `--now` moves the `champion` alias at once.
"""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("version", metavar="MODEL:VERSION", help="as `digits:4` or `digits@next`")
    parser.add_argument("--now", action="store_true", help="at once, without a canary")
    parser.add_argument("--steps", help="shares in percent, as 10,25,50,100")
    parser.add_argument("--min-seconds", type=int, help="of traffic, a step at least")
    parser.add_argument("--min-requests", type=int, help="that it answers, a step at least")
    parser.add_argument("--slo-ms", type=float, help="what is too slow")
    parser.add_argument(
        "--max-disagreement",
        metavar="SHARE",
        help="of rows on which the two may differ, as 0.02; `none` compares none",
    )
    parser.add_argument("--deadline", metavar="TIME", help="how long it may take, as 30min")
    parser.add_argument(
        "--on-deadline", choices=["rollback", "promote", "hold"], help="and what then (rollback)"
    )
    parser.add_argument(
        "--wait", action="store_true", help="until it is over; status 3 if rolled back"
    )
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Starts the rollout."""
    from dukou.base.durations import parse_duration
    from dukou.base.settings import dukou_home
    from dukou.cli.rollout import show, wait
    from dukou.control.promote import promote_now, start_rollout
    from dukou.registry.registry import Registry
    from dukou.rollout.policy import parse_share, parse_steps

    given = {
        "steps": None if arguments.steps is None else parse_steps(arguments.steps),
        "min_seconds": arguments.min_seconds,
        "min_requests": arguments.min_requests,
        "slo_ms": arguments.slo_ms,
        "on_deadline": arguments.on_deadline,
    }
    if arguments.deadline is not None:
        limit = parse_duration(arguments.deadline, key="--deadline", code="usage.invalid")
        given["deadline_s"] = limit.total_seconds()
    with Registry.open(dukou_home()) as registry:
        if arguments.now:
            entry = promote_now(registry, arguments.version)
            if arguments.json:
                print(json.dumps({"model": entry.model, "champion": entry.number}))
            else:
                print(f"`{entry.model}@champion` is version {entry.number}")
            return 0
        values = {name: value for name, value in given.items() if value is not None}
        if arguments.max_disagreement is not None:
            values["max_disagreement"] = parse_share(arguments.max_disagreement)
        rollout = start_rollout(registry, arguments.version, values)
        if arguments.wait:
            return wait(registry, rollout.id, timeout_s=None, as_json=arguments.json)
        show([rollout], as_json=arguments.json)
    return 0
