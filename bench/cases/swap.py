"""swap: a version is replaced by another while requests keep coming, open loop."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable
from typing import Any

from bench.check import check_answers
from bench.digits import TOLERANCE, Digits, load_digits
from bench.figures import Spread
from bench.harness import (
    Entry,
    Figures,
    Options,
    check_running,
    load_of,
    rounds,
)
from bench.load import Load, read_report
from bench.peers.peer import Running
from bench.report import Goal, Panel, Result, Table, shown
from bench.workplace import Unavailable

NAME = "swap"
PEERS = ("dukou", "triton")
_OF_CAPACITY = 0.7
# What follows the swap belongs to it for so long: a new version is slowest when it is new.
_LEAST_DURING_S = 1.0
_SAYS = (
    "Version 1 is replaced by version 2 while Poisson arrivals keep coming at "
    f"{_OF_CAPACITY:.0%} of what the same server does in a closed loop; latency counts from the "
    f"intended send time. `during` is from the call to its return, and {_LEAST_DURING_S:g} s at least. "
    "Every answer must be one of the two versions'; after the swap it must be the second's."
)
_PHASES = ("before", "during", "after")


def run(options: Options) -> Result:
    """A swap in each round."""
    digits = load_digits()
    entries = rounds(
        NAME,
        digits,
        options,
        lambda running, entry: _measure(running, digits, options, entry),
        lambda figures: (
            f"{figures['failed']:.0f} of {figures['requests']:.0f} failed, swap "
            f"{figures['swap_ms']:.0f} ms, p99 {figures['before_p99_us'] / 1e3:.2f} → "
            f"{figures['during_p99_us'] / 1e3:.2f} → {figures['after_p99_us'] / 1e3:.2f} ms"
        ),
    )
    return Result(
        NAME, _SAYS, options, entries, [_table(entries)], _goals(entries), _panels(entries)
    )


def _measure(running: Running, digits: Digits, options: Options, entry: Entry) -> Figures:
    if running.swap is None:
        raise Unavailable("it cannot replace a version while it serves")
    check_running(running, digits, "1")
    closed = load_of(running, digits, options.connections)
    closed.run(options.warmup_seconds)
    capacity = closed.run(max(1.0, options.seconds / 2))["measured"]["rate"]
    load = Load(
        running.url,
        digits.body_files,
        digits.answer_files["1"],
        digits.answer_files["2"],
        connections=2 * options.connections,
        rate=_OF_CAPACITY * capacity,
        more=("--header-version",),
    )
    entry.load = load.command(3 * options.seconds)
    report, swap_s = _swap_under_load(load, options.seconds, running.swap)
    check_answers(running.url, digits.bodies, digits.answers["2"], TOLERANCE)
    measured = report["measured"]
    figures: Figures = {
        "capacity": capacity,
        "requests": measured["sent"],
        "failed": measured["failed"] + measured["unsent"],
        "swap_ms": swap_s * 1e3,
    }
    for name, phase in zip(_PHASES, report["phases"], strict=False):
        figures |= {f"{name}_{at}_us": phase["latency_us"][at] for at in ("p50", "p99", "max")}
        figures[f"{name}_client_p99_us"] = phase["lateness_us"]["p99"]
        figures[f"{name}_failed"] = phase["failed"] + phase["unsent"]
    if "after_p99_us" not in figures:
        raise Unavailable(f"the swap took {swap_s:.1f} s: longer than the run; hint: `--seconds`")
    figures["during_over_before"] = figures["during_p99_us"] / figures["before_p99_us"]
    return figures


def _swap_under_load(
    load: Load, seconds: float, swap: Callable[[], None]
) -> tuple[dict[str, Any], float]:
    """The report of a load with a swap in its second third, and how long the call took (s)."""
    process = load.start(3 * seconds)
    try:
        time.sleep(seconds)
        _begin_phase(process, "during")
        begun = time.monotonic()
        swap()
        swap_s = time.monotonic() - begun
        time.sleep(max(0.0, _LEAST_DURING_S - swap_s))
        _begin_phase(process, "after")
        stdout, stderr = process.communicate(timeout=600)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return read_report(process.returncode, stdout, stderr), swap_s


def _begin_phase(process: subprocess.Popen[str], name: str) -> None:
    # A load that has ended says why itself.
    with contextlib.suppress(BrokenPipeError):
        if process.stdin is not None:
            process.stdin.write(f"{name}\n")
            process.stdin.flush()


def _table(entries: list[Entry]) -> Table:
    header = (
        *("server", "arrivals/s", "requests", "failed", "swap call ms"),
        *("p99 before ms", "p99 during ms", "p99 after ms", "during / before", "longest during ms"),
        "client late, p99 before ms",
    )
    rows = []
    for entry in entries:
        if not entry.rounds:
            continue

        def in_ms(figure: str, entry: Entry = entry) -> str:
            return shown(Spread.of(value / 1e3 for value in entry.values(figure)), 2)

        rows.append(
            (
                entry.name,
                shown(Spread.of(_OF_CAPACITY * value for value in entry.values("capacity")), 0),
                f"{sum(entry.values('requests')):,.0f}",
                f"{sum(entry.values('failed')):.0f}",
                shown(entry.spread("swap_ms"), 0),
                in_ms("before_p99_us"),
                in_ms("during_p99_us"),
                in_ms("after_p99_us"),
                shown(entry.spread("during_over_before"), 2),
                in_ms("during_max_us"),
                in_ms("before_client_p99_us"),
            )
        )
    return Table("A version replaced under load", header, rows)


def _panels(entries: list[Entry]) -> list[Panel]:
    bars = {
        f"{entry.name} {name}": Spread.of(value / 1e3 for value in entry.values(f"{name}_p99_us"))
        for entry in entries
        if entry.rounds
        for name in _PHASES
    }
    return [Panel("p99 from the intended send time (ms)", bars)]


def _goals(entries: list[Entry]) -> list[Goal]:
    ours = next((entry for entry in entries if entry.name == "dukou" and entry.rounds), None)
    if ours is None:
        return []
    failed = sum(ours.values("failed"))
    times = ours.spread("during_over_before").median
    return [
        Goal("failed requests", "0", f"{failed:.0f}", failed == 0),
        Goal("p99 during against before", "≤ 1.5 ×", f"{times:.2f} ×", times <= 1.5),
    ]
