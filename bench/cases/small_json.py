"""small-json: the digits model over V2's JSON, closed loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.digits import load_digits
from bench.figures import Spread, difference, paired, ratio
from bench.harness import Entry, Options, compare
from bench.report import Goal, Panel, Result, Table, shown

NAME = "small-json"
PEERS = ("echo", "naive-rust", "dukou", "triton", "mosec")
_SAYS = (
    "64 floats in, 10 out, V2 JSON over keep-alive HTTP/1.1, closed loop. "
    "Every answer is compared with ONNX Runtime's while it is timed; the echo's is fixed."
)


def run(options: Options) -> Result:
    """All peers in interleaved rounds."""
    entries = compare(NAME, load_digits(), options)
    parts = (tables_of(entries), goals_of(entries), panels_of(entries))
    return Result(NAME, _SAYS, options, entries, *parts)


def tables_of(entries: Sequence[Entry]) -> list[Table]:
    """Costs and latencies of those that were measured."""
    return [_cost(entries), _latency(entries)]


def panels_of(entries: Sequence[Entry]) -> list[Panel]:
    """Server CPU and rate."""
    return [
        _panel(entries, "server_cpu_us", "server CPU a request (µs, less is better)"),
        _panel(entries, "rate", "requests/s (more is better)"),
    ]


def _panel(entries: Sequence[Entry], figure: str, label: str) -> Panel:
    return Panel(label, {each.name: each.spread(figure) for each in entries if each.rounds})


def find(entries: Sequence[Entry], name: str) -> Entry | None:
    """The entry of this name, where it was measured."""
    return next((entry for entry in entries if entry.name == name and entry.rounds), None)


def over_echo(entries: Sequence[Entry], entry: Entry) -> tuple[Spread | None, Spread | None]:
    """Server CPU above the echo's (µs) and rate as a part of the echo's, round by round."""
    echoes = (each for each in entries if each.name.startswith("echo") and each.rounds)
    echo = next(echoes, None)
    if echo is None:
        return None, None
    return (
        paired(entry.values("server_cpu_us"), echo.values("server_cpu_us"), difference),
        paired(entry.values("rate"), echo.values("rate"), ratio),
    )


def _cost(entries: Sequence[Entry]) -> Table:
    header = (
        *("server", "server CPU µs/request", "over echo µs", "client CPU µs/request"),
        *("requests/s", "of echo's", "failed", "peak RSS MB"),
    )
    rows = []
    for entry in entries:
        if not entry.rounds:
            continue
        over, part = over_echo(entries, entry)
        rows.append(
            (
                entry.name,
                shown(entry.spread("server_cpu_us")),
                "-" if entry.name.startswith("echo") else shown(over),
                shown(entry.spread("client_cpu_us")),
                shown(entry.spread("rate"), 0),
                "-" if entry.name.startswith("echo") else shown(part, 2),
                f"{sum(entry.values('failed')):.0f}",
                shown(entry.spread("peak_rss_mb"), 0),
            )
        )
    return Table("What a request costs", header, rows)


def _latency(entries: Sequence[Entry]) -> Table:
    quantiles = ("p50", "p90", "p99", "p99.9", "max")
    rows = [
        (
            entry.name,
            *(f"{entry.spread(f'{name}_us').median / 1e3:.2f}" for name in quantiles),
        )
        for entry in entries
        if entry.rounds
    ]
    return Table("Latency in the closed loop (ms, median of rounds)", ("server", *quantiles), rows)


def goals_of(entries: Sequence[Entry]) -> list[Goal]:
    """What ours must reach, by this run's figures."""
    ours = find(entries, "dukou")
    if ours is None:
        return []
    goals = []
    over, _ = over_echo(entries, ours)
    if over:
        came = f"{over.median:+.1f} µs"
        goals.append(Goal("server CPU over echo's", "≤ +40 µs", came, over.median <= 40))
    goals += rate_goals(entries, ours, 0.6, {"naive-rust": 1.0, "triton": 3.0})
    return [*goals, failed_goal(ours, "requests")]


def rate_goals(
    entries: Sequence[Entry], ours: Entry, of_echo: float, against: Mapping[str, float]
) -> list[Goal]:
    """The least part of the echo's rate, and how many times others' ours must be, where they were measured."""
    goals = []
    _, part = over_echo(entries, ours)
    if part:
        came = f"{part.median:.2f}"
        goals.append(Goal("rate of echo's", f"≥ {of_echo:.2f}", came, part.median >= of_echo))
    for other, wanted in against.items():
        entry = find(entries, other)
        times = entry and paired(ours.values("rate"), entry.values("rate"), ratio)
        if times:
            came = f"{times.median:.2f} ×"
            what = f"rate against {other}"
            goals.append(Goal(what, f"≥ {wanted:g} ×", came, times.median >= wanted))
    return goals


def failed_goal(ours: Entry, what: str) -> Goal:
    """None may fail; `what` was asked."""
    failed = sum(ours.values("failed"))
    return Goal(f"failed {what}", "0", f"{failed:.0f}", failed == 0)
