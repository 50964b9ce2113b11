"""small-grpc: the digits model over V2's gRPC, closed loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench import calls
from bench.cases.small_json import failed_goal, find, panels_of, rate_goals, tables_of
from bench.digits import load_digits
from bench.harness import (
    Entry,
    Figures,
    Options,
    figures_of,
    fresh_folder,
    rounds,
    shown_load,
)
from bench.peers.peer import Running
from bench.process import cpu_seconds, peak_rss_mb
from bench.report import Goal, Result

NAME = "small-grpc"
PEERS = ("echo-grpc", "dukou-grpc", "triton-grpc")
_SAYS = (
    "64 floats in, 10 out, V2 over gRPC (raw contents), closed loop: a quarter of the calls in flight on each "
    "of four HTTP/2 connections. Every answer is compared with ONNX Runtime's while it is timed; the echo's "
    "is fixed."
)


def run(options: Options) -> Result:
    """All peers in interleaved rounds."""
    digits = load_digits()
    files = calls.write_messages(digits, fresh_folder(NAME, "messages"))
    entries = rounds(
        NAME,
        digits,
        options,
        lambda running, entry: _measure(running, files, options, entry),
        lambda figures: shown_load(figures, "calls"),
    )
    return Result(
        NAME, _SAYS, options, entries, tables_of(entries), _goals(entries), panels_of(entries)
    )


def _measure(
    running: Running, files: tuple[list[Path], list[Path]], options: Options, entry: Entry
) -> Figures:
    if not running.answers:
        files = (files[0], [])
    calls.run(calls.command(running.url, files, options.connections, options.warmup_seconds))
    entry.load = calls.command(running.url, files, options.connections, options.seconds)
    before = cpu_seconds(running.pid)
    report = calls.run(entry.load)
    used = cpu_seconds(running.pid) - before
    return figures_of(report, used, peak_rss_mb(running.pid))


def _goals(entries: Sequence[Entry]) -> list[Goal]:
    """What ours must reach, by this run's figures."""
    ours = find(entries, "dukou-grpc")
    if ours is None:
        return []
    goals = rate_goals(entries, ours, 0.5, {"triton-grpc": 2.0})
    return [*goals, failed_goal(ours, "calls")]
