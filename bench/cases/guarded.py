"""guarded: what TLS, keys and limits cost a request, and what good clients notice of an attack."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench.digits import Digits, load_digits
from bench.figures import difference, paired, ratio
from bench.harness import Entry, Options, compare, fresh_folder, load_of, say
from bench.load import Load, read_report
from bench.peers import open_peer
from bench.peers.peer import Running
from bench.report import Goal, Panel, Result, Table, shown
from bench.workplace import Unavailable

NAME = "guarded"
PEERS = ("dukou", "dukou-guarded")
_ATTACK_S = 10.0
_SLOW_HEADS = 200
_FLOODERS = 64
# What the good client sends meanwhile: few enough to wait for nothing but the attack.
_RATE = 100.0
_SAYS = (
    "64 floats in, 10 out, V2 JSON over keep-alive connections, closed loop: with the defaults of "
    "loopback, and with TLS 1.3, a key, its rate and address lists. A handshake is paid once a "
    "connection; kept connections spread it over their requests. Then an attack "
    f"of {_ATTACK_S:g} s beside a good client of {_RATE:g} requests/s on 4 connections: "
    f"{_SLOW_HEADS} connections whose heads never end, and {_FLOODERS} connections that show bad keys as "
    "fast as they are answered."
)
Attack = dict[str, dict[str, Any]]


def run(options: Options) -> Result:
    """Both in interleaved rounds, then the attacks on the guarded one."""
    digits = load_digits()
    entries = compare(NAME, digits, options)
    attacks = [_attacked(digits, at, options) for at in range(min(3, options.rounds))]
    bars = {entry.name: entry.spread("server_cpu_us") for entry in entries if entry.rounds}
    panels = [Panel("server CPU a request (µs, less is better)", bars)]
    tables = [_costs(entries), _attack_table(attacks)]
    return Result(NAME, _SAYS, options, entries, tables, _goals(entries, attacks), panels)


def _attacked(digits: Digits, at: int, options: Options) -> Attack:
    """A good client alone, beside slow heads, beside a flood of bad keys."""
    peer = open_peer("dukou-guarded")
    with peer.start(digits, fresh_folder(NAME, f"attacked-{at}")) as running:
        good = replace(load_of(running, digits, 4), rate=_RATE)
        good.run(options.warmup_seconds)
        seconds = min(_ATTACK_S, 2 * options.seconds)
        found = {"alone": good.run(seconds)["measured"]}
        with _slow_heads(running):
            found["slow heads"] = good.run(seconds)["measured"]
        with _flood(running, digits, seconds + 2.0) as flood:
            found["bad keys"] = good.run(seconds)["measured"]
        flooded = flood()
        found["the flood itself"] = flooded["measured"]
    p99 = {name: m["latency_us"]["p99"] / 1e3 for name, m in found.items() if m["latency_us"]}
    say(f"attack {at + 1}  " + "  ".join(f"{name} p99 {v:.2f} ms" for name, v in p99.items()))
    return found


@contextlib.contextmanager
def _slow_heads(running: Running) -> Iterator[None]:
    parts = urllib.parse.urlsplit(running.url)
    address = (str(parts.hostname), int(parts.port or 0))
    connections = [socket.create_connection(address, timeout=10) for _ in range(_SLOW_HEADS)]
    try:
        for connection in connections:
            # The first bytes of a handshake that announces more: on this port a head is behind it.
            connection.sendall(b"\x16\x03\x01\x02\x00\x01")
        yield
    finally:
        for connection in connections:
            connection.close()


@contextlib.contextmanager
def _flood(running: Running, digits: Digits, seconds: float) -> Iterator[Any]:
    """Bad keys, as fast as they are answered; gives what reads its report once it is over."""
    bad = replace(running, key="dk_000000000000_" + "A" * 43)
    load = Load(bad.url, digits.body_files[:1], connections=_FLOODERS, more=bad.load_words)
    process = subprocess.Popen(
        load.command(seconds), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )

    def report() -> dict[str, Any]:
        stdout, stderr = process.communicate(timeout=120)
        return read_report(process.returncode, stdout, stderr)

    try:
        yield report
    finally:
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
        if process.poll() is None:
            process.kill()
            raise Unavailable("the flood did not end")


def _costs(entries: list[Entry]) -> Table:
    header = ("server", "server CPU µs/request", "requests/s", "p50 ms", "p99 ms", "failed")
    rows = [
        (
            entry.name,
            shown(entry.spread("server_cpu_us")),
            shown(entry.spread("rate"), 0),
            f"{entry.spread('p50_us').median / 1e3:.2f}",
            f"{entry.spread('p99_us').median / 1e3:.2f}",
            f"{sum(entry.values('failed')):.0f}",
        )
        for entry in entries
        if entry.rounds
    ]
    return Table("What TLS, keys and limits cost", header, rows)


def _attack_table(attacks: list[Attack]) -> Table:
    header = ("beside", "p50 ms", "p99 ms", "max ms", "requests", "failed")
    rows = []
    for at, attack in enumerate(attacks):
        for name, measured in attack.items():
            latency = measured["latency_us"]
            rows.append(
                (
                    f"{name} ({at + 1})",
                    *(f"{latency[q] / 1e3:.2f}" if latency else "-" for q in ("p50", "p99", "max")),
                    str(measured["sent"]),
                    str(measured["failed"]),
                )
            )
    return Table("What a good client notices (every request of the flood is refused)", header, rows)


def _goals(entries: list[Entry], attacks: list[Attack]) -> list[Goal]:
    goals = []
    plain, guarded = (next((e for e in entries if e.name == n and e.rounds), None) for n in PEERS)
    if plain is not None and guarded is not None:
        cpu = [guarded.values("server_cpu_us"), plain.values("server_cpu_us")]
        more = paired(*cpu, difference)
        times = paired(*cpu, ratio)
        if more is not None and times is not None:
            part = 100 * (times.median - 1)
            came = f"{part:+.0f} % ({more.median:+.1f} µs)"
            goals.append(Goal("server CPU of TLS, keys and limits", "≤ +20 %", came, part <= 20))
    for name in ("slow heads", "bad keys"):
        ratios = sorted(
            attack[name]["latency_us"]["p99"] / attack["alone"]["latency_us"]["p99"]
            for attack in attacks
        )
        if ratios:
            middle = ratios[len(ratios) // 2]
            goals.append(Goal(f"p99 beside {name}", "≤ 3 ×", f"{middle:.1f} ×", middle <= 3))
    lost = sum(attack[name]["failed"] for attack in attacks for name in ("slow heads", "bad keys"))
    goals.append(Goal("good requests lost to an attack", "0", str(lost), lost == 0))
    return goals
