"""`dukou advise`: which strategy of deployment fits, by numbers measured here, with this model.

MODEL is what `dukou serve` takes, or a project's folder:
  digits             a folder with a project file: the model that it makes
  digits.onnx        a model file of any kind that dukou reads (a pickle: with --trust-pickle)
  digits:3           a version of the registry

--where says what is allowed, as often as needed:
  here       centralized: one engine on one machine
  cluster    distributed: several machines
  device     edge: on devices, where the data is
  container  containers of one CPU
  services   microservice: beside other services, released and scaled apart
Where nothing is said, one machine is recommended if it is enough, and several if it is not.

Nothing is changed without --write, which puts `[deploy]` into the project's file and shows what changed.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from typing import TYPE_CHECKING

_WIDTH = 100

if TYPE_CHECKING:
    from dukou.lifecycle.advise.decide import Assessment
    from dukou.lifecycle.advise.facts import Facts
    from dukou.lifecycle.advise.run import Advised


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", metavar="MODEL", help="a project, a model file, or a version")
    parser.add_argument("--rps", metavar="N", help="requests a second, of all callers together")
    parser.add_argument("--p99", metavar="TIME", help="of 99 in 100 requests: 5ms, 0.5s")
    parser.add_argument("--memory", metavar="SIZE", help="that one engine may take: 256m, 2g")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="PLACE",
        help="here, cluster, device, container or services; as often as needed",
    )
    parser.add_argument(
        "--write", action="store_true", help="write `[deploy]` into the project's file"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=2.0,
        metavar="N",
        help="how long each measurement under load lasts (2)",
    )
    parser.add_argument(
        "--trust-pickle",
        "--trust-code",
        dest="trust_pickle",
        action="store_true",
        help="load pickles and programs: this runs the code that they carry",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Measures, decides, shows, and writes where asked."""
    from dukou.base.errors import InputError
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.advise.facts import parse_demand
    from dukou.lifecycle.advise.run import advise, plan_write, write

    demand = parse_demand(
        rps=arguments.rps, p99=arguments.p99, memory=arguments.memory, where=arguments.where
    )
    if not 0.1 <= arguments.seconds <= 600:
        raise InputError(
            "usage.invalid", f"`--seconds {arguments.seconds:g}` is not between 0.1 and 600"
        )
    advised = advise(
        arguments.model,
        demand,
        home=dukou_home(),
        seconds=arguments.seconds,
        trust_pickle=arguments.trust_pickle,
        must_be_project=arguments.write,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if not arguments.json:
        print(show_advice(advised))
        sys.stdout.flush()
    difference, wrote = "", None
    if advised.project is not None and (arguments.write or advised.advice.meets):
        text, difference = plan_write(advised)
        if arguments.write and difference:
            wrote = write(advised, text)
    if arguments.json:
        document = {**advised.to_json(), "diff": difference, "wrote": wrote and str(wrote)}
        print(json.dumps(document, indent=1))
    elif advised.advice.meets:
        print("\n" + _show_end(advised, difference, wrote=wrote is not None))
    return 0


def show_advice(advised: Advised) -> str:
    """What was measured, the strategies, the optimizations, and what is recommended."""
    parts = [
        _show_measured(advised.facts),
        _show_strategies(advised),
        _show_forms(advised.facts),
        _show_chosen(advised),
    ]
    return "\n\n".join(parts)


def _show_measured(facts: Facts) -> str:
    from dukou.lifecycle.advise.decide import show_mib, show_ms, show_rate

    cpus = f"{facts.cpus} CPU{'s' if facts.cpus > 1 else ''}"
    rows = [
        (
            "capacity",
            f"{facts.cpu_us:,.0f} µs of CPU a request: {show_rate(facts.capacity_rps)} on {cpus} "
            f"(reached {show_rate(facts.reached_rps)}, with the client on the same)",
        )
    ]
    for index, point in enumerate(facts.points):
        failed = f", {point.failed} failed" if point.failed else ""
        rows.append(
            (
                "" if index else "latency",
                f"p50 {show_ms(point.p50_ms)}, p99 {show_ms(point.p99_ms)} at "
                f"{show_rate(point.rate)}{failed}",
            )
        )
    rows += [
        (
            "memory",
            f"{show_mib(facts.memory_bytes)} at the most, of "
            f"{show_mib(facts.machine_memory_bytes)} here; the model is "
            f"{show_mib(facts.size_bytes)}",
        ),
        (
            "start",
            f"{facts.start_s:.2f} s to the first answer, {facts.first_start_s:.2f} s the very "
            "first time",
        ),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name:<{width}}  {text}" for name, text in rows]
    return "\n".join([f"{facts.name}: {facts.source}, measured on this machine", *lines])


def _show_strategies(advised: Advised) -> str:
    from dukou.lifecycle.advise.strategies import STRATEGIES

    lines = ["strategies"]
    assessed = {a.profile: a for a in advised.advice.assessments}
    width = max(len(s.profile) for s in STRATEGIES)
    for strategy in STRATEGIES:
        found = assessed[strategy.profile]
        chosen = found.profile == advised.advice.chosen.profile
        name = f"{'→' if chosen else ' '} {strategy.profile:<{width}}  "
        margin = under = " " * (width + 4)
        lines += _wrap(f"+ {strategy.advantage}", name, margin)
        lines += _wrap(f"- {strategy.limit}", under, margin)
        lines += _wrap(f"= {found.number}", margin)
        for check in found.checks:
            if not check.holds:
                lines += _wrap(f"✗ {check.what}: {check.words}", margin)
    return "\n".join(lines)


def _wrap(text: str, first: str, margin: str | None = None) -> list[str]:
    """Lines that begin with `first`, and go on under the text."""
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=first,
        subsequent_indent=f"{first if margin is None else margin}  ",
        break_on_hyphens=False,
        break_long_words=False,
    )


def _show_forms(facts: Facts) -> str:
    from dukou.cli.show import show_duration, show_table
    from dukou.lifecycle.advise.decide import show_mib
    from dukou.lifecycle.advise.strategies import OPTIMIZATIONS

    rows = []
    for form in facts.forms:
        size = "-" if form.size_bytes is None else show_mib(form.size_bytes)
        quality = "-" if form.quality is None else f"{form.quality:.4f}"
        mark = "measured above" if form.served else form.note
        times = [show_duration(form.alone_us), show_duration(form.busy_us)]
        rows.append([form.name, size, *times, quality, mark])
    table = show_table(["optimization", "size", "alone", "in company", "accuracy", ""], rows)
    lines = [table]
    for name, trade in OPTIMIZATIONS.items():
        if any(name in form.name.split("+") for form in facts.forms):
            lines += _wrap(f"{name}: + {trade.advantage}; - {trade.limit}", "  ")
    return "\n".join(lines)


def _show_chosen(advised: Advised) -> str:
    chosen = advised.advice.chosen
    if chosen.meets:
        lines = [f"recommended: {chosen.profile}, {_count(chosen)}"]
    else:
        failed = ", ".join(check.what for check in chosen.checks if not check.holds)
        lines = [
            f"nothing that is allowed meets the demand; nearest is {chosen.profile} ({failed})"
        ]
    for check in chosen.checks:
        lines += _wrap(f"{'✓' if check.holds else '✗'} {check.what}: {check.words}", "  ")
    if not chosen.checks:
        lines.append("  nothing was demanded: `--rps`, `--p99` and `--memory` say what must hold")
    lines += [line for hint in advised.advice.hints for line in _wrap(f"hint: {hint}", "  ")]
    return "\n".join(lines)


def _count(chosen: Assessment) -> str:
    from dukou.lifecycle.advise.decide import show_rate

    if chosen.replicas == 1:
        return "one engine"
    return f"{chosen.replicas} engines of {show_rate(chosen.engine_rps)} each"


def _show_end(advised: Advised, difference: str, *, wrote: bool) -> str:
    from dukou.lifecycle.advise.write import show_block

    lines = []
    if advised.project is None:
        lines.append(show_block(advised.advice.deploy).rstrip())
        lines.append(
            "\nfor a project's dukou.toml; `--write` does it where MODEL is a project's folder"
        )
    elif not difference:
        lines.append("`[deploy]` of the project says so already")
    else:
        lines.append(difference)
        written = "written: `dukou ship` makes it hold"
        lines.append(f"\n{written if wrote else 'nothing is changed yet: `--write` writes it'}")
    lines += _carry_out(advised)
    return "\n".join(lines)


def _carry_out(advised: Advised) -> list[str]:
    """The command that carries the recommended strategy out, and what it does."""
    from dukou.deploy.placement import COMMANDS
    from dukou.lifecycle.advise.strategies import STRATEGIES

    profile = advised.advice.chosen.profile
    strategy = next(s for s in STRATEGIES if s.profile == profile)
    command = COMMANDS[profile].format(name=advised.facts.name)
    text = f"carried out by `{command}`: {strategy.means}"
    return textwrap.wrap(text, _WIDTH, break_on_hyphens=False, break_long_words=False)
