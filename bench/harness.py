"""Interleaved rounds: each server in turn, alone on the machine, checked, warmed up and measured."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.check import check_answers
from bench.digits import TOLERANCE, Digits
from bench.figures import Spread
from bench.load import Load
from bench.peers import open_peer
from bench.peers.peer import Peer, Running, Work
from bench.process import cpu_seconds, peak_rss_mb
from bench.workplace import BUILD, BenchError, Unavailable


@dataclass(frozen=True)
class Options:
    """How much is measured.

    Attributes:
        rounds: how often each server has its turn.
        seconds: that one turn is measured.
        warmup_seconds: of the same load before it, not counted.
        connections: of the load.
        peers: which servers, in their order.
    """

    rounds: int
    seconds: float
    warmup_seconds: float
    connections: int
    peers: Sequence[str]


# One turn of one server: figure → value, named with its unit (`server_cpu_us`, `rate`, `p99_us`).
Figures = dict[str, float]


@dataclass
class Entry:
    """All of one server: its rounds, or why there are none."""

    name: str
    settings: str
    versions: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    load: list[str] = field(default_factory=list)
    rounds: list[Figures] = field(default_factory=list)
    unavailable: str | None = None

    def values(self, figure: str) -> list[float]:
        """One figure over the rounds."""
        return [each[figure] for each in self.rounds]

    def spread(self, figure: str) -> Spread:
        """Its median and spread over the rounds."""
        return Spread.of(self.values(figure))


def fresh_folder(case: str, peer: str) -> Path:
    """An empty folder for one turn's files."""
    folder = BUILD / "run" / case / peer
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def say(line: str) -> None:
    """Progress, to stderr: stdout is for results."""
    print(line, file=sys.stderr, flush=True)


def open_entries(names: Sequence[str]) -> list[tuple[Peer[Any], Entry]]:
    """The peers with an empty entry each. One that is not installed says so in its entry."""
    opened = []
    for name in names:
        peer = open_peer(name)
        entry = Entry(peer.name, peer.settings)
        try:
            entry.versions = peer.versions()
        except Unavailable as error:
            entry.unavailable = str(error)
        opened.append((peer, entry))
    return opened


def compare(case: str, digits: Digits, options: Options) -> list[Entry]:
    """Closed-loop rounds over all peers, A B C A B C.

    A peer that does not start or answers wrongly is left out of later rounds; its entry says why.
    """

    def turn(running: Running, entry: Entry) -> Figures:
        check_running(running, digits, "1")
        return measure(running, digits, options, entry)

    return rounds(case, digits, options, turn, lambda figures: shown_load(figures, "requests"))


def rounds(
    case: str,
    work: Work,
    options: Options,
    turn: Callable[[Running, Entry], Figures],
    tell: Callable[[Figures], str],
) -> list[Entry]:
    """Rounds over all peers, A B C A B C, each started anew for its turn.

    A peer whose turn is `Unavailable` is left out of later rounds; its entry says why. `tell` is the line of
    progress about a turn.
    """
    opened = open_entries(options.peers)
    for at in range(options.rounds):
        for peer, entry in opened:
            if entry.unavailable is not None:
                continue
            try:
                with peer.start(work, fresh_folder(case, peer.name)) as running:
                    entry.command = running.command
                    figures = turn(running, entry)
            except Unavailable as error:
                entry.unavailable = str(error)
                say(f"round {at + 1}  {peer.name}: {error}")
                continue
            entry.rounds.append(figures)
            say(f"round {at + 1}/{options.rounds}  {peer.name:<11}{tell(figures)}")
    return [entry for _, entry in opened]


def shown_load(figures: Figures, what: str) -> str:
    """A turn under load in a line of progress; `what` was asked."""
    return (
        f"{figures['server_cpu_us']:8.1f} µs server CPU  {figures['rate']:9.0f} {what}/s  "
        f"p99 {figures['p99_us'] / 1e3:.2f} ms  {figures['failed']:.0f} failed"
    )


def check_running(running: Running, digits: Digits, version: str) -> None:
    """Compares a server's answers with ONNX Runtime's before it is timed."""
    if running.answers:
        check_answers(
            running.url,
            digits.bodies,
            digits.answers[version],
            TOLERANCE,
            key=running.key,
            certificate=running.certificate,
        )


def load_of(running: Running, digits: Digits, connections: int) -> Load:
    """The closed loop on a server that answers with version 1."""
    expected = digits.answer_files["1"] if running.answers else ()
    return Load(
        running.url,
        digits.body_files,
        expected,
        connections=connections,
        tolerance=TOLERANCE,
        more=running.load_words,
    )


def measure(running: Running, digits: Digits, options: Options, entry: Entry) -> Figures:
    """Warm-up, then the measured part between two readings of the server's CPU."""
    load = load_of(running, digits, options.connections)
    entry.load = load.command(options.seconds)
    load.run(options.warmup_seconds)
    before = cpu_seconds(running.pid)
    report = load.run(options.seconds)
    used = cpu_seconds(running.pid) - before
    return figures_of(report, used, peak_rss_mb(running.pid))


def figures_of(report: dict[str, Any], server_cpu_seconds: float, peak_mb: float) -> Figures:
    """One turn's figures from the load generator's report.

    Raises:
        BenchError: nothing was sent.
    """
    measured = report["measured"]
    if not measured["sent"]:
        raise BenchError(f"no request was sent to `{report['url']}`")
    return {
        "rate": measured["rate"],
        "server_cpu_us": server_cpu_seconds * 1e6 / measured["sent"],
        "client_cpu_us": report["client"]["cpu_us_per_request"],
        **{f"{name}_us": value for name, value in measured["latency_us"].items()},
        "requests": measured["sent"],
        "failed": measured["failed"] + measured["unsent"],
        "peak_rss_mb": peak_mb,
    }
