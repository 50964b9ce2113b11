"""gateway: what it costs to ask three engines through a fourth, beside asking one of them directly."""

from __future__ import annotations

from collections.abc import Sequence

from bench.cases.small_json import find, over_echo
from bench.digits import load_digits
from bench.figures import paired, ratio
from bench.harness import Entry, Options, compare
from bench.report import Goal, Panel, Result, Table, shown

NAME = "gateway"
PEERS = ("echo", "dukou", "dukou-gateway")
# What a hop may cost: the processor time of a direct call once more.
_MOST = 2.0
_SAYS = (
    "64 floats in, 10 out, V2 JSON over keep-alive HTTP/1.1, closed loop: an engine asked directly, and a "
    "gateway before three engines. Load, gateway and replicas share the machine, so that the gateway's rate "
    "is what is left to it; its own processor time a request is what is compared. Every answer is compared with "
    "ONNX Runtime's while it is timed; the echo's is fixed."
)


def run(options: Options) -> Result:
    """All in interleaved rounds."""
    entries = compare(NAME, load_digits(), options)
    bars = {entry.name: entry.spread("server_cpu_us") for entry in entries if entry.rounds}
    panels = [Panel("server CPU a request (µs, less is better)", bars)]
    return Result(NAME, _SAYS, options, entries, [_table(entries)], _goals(entries), panels)


def _table(entries: Sequence[Entry]) -> Table:
    header = (
        *("server", "server CPU µs/request", "over echo µs", "requests/s"),
        *("p50 ms", "p99 ms", "failed", "peak RSS MB"),
    )
    rows = []
    for entry in entries:
        if not entry.rounds:
            continue
        over, _ = over_echo(entries, entry)
        rows.append(
            (
                entry.name,
                shown(entry.spread("server_cpu_us")),
                "-" if entry.name == "echo" else shown(over),
                shown(entry.spread("rate"), 0),
                f"{entry.spread('p50_us').median / 1e3:.2f}",
                f"{entry.spread('p99_us').median / 1e3:.2f}",
                f"{sum(entry.values('failed')):.0f}",
                shown(entry.spread("peak_rss_mb"), 0),
            )
        )
    return Table("What a hop costs", header, rows)


def _goals(entries: Sequence[Entry]) -> list[Goal]:
    direct, gateway = find(entries, "dukou"), find(entries, "dukou-gateway")
    if direct is None or gateway is None:
        return []
    goals = []
    times = paired(gateway.values("server_cpu_us"), direct.values("server_cpu_us"), ratio)
    if times is not None:
        came = f"{times.median:.2f} ×"
        what = "server CPU of the gateway against a direct call's"
        goals.append(Goal(what, f"≤ {_MOST:g} ×", came, times.median <= _MOST))
    failed = sum(gateway.values("failed"))
    goals.append(Goal("failed requests", "0", f"{failed:.0f}", failed == 0))
    return goals
