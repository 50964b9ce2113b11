"""ray: three replicas placed by a Ray cluster, ours behind our gateway and Ray Serve's behind its own."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from bench.cluster import Cluster, ray_cluster
from bench.digits import Digits, load_digits
from bench.figures import paired, ratio
from bench.harness import (
    Entry,
    Figures,
    Options,
    check_running,
    figures_of,
    fresh_folder,
    load_of,
    say,
)
from bench.peers.ray_serve import REPLICAS, DukouInRay, RayServe, cluster_environment
from bench.process import cpu_seconds, peak_rss_mb
from bench.report import Goal, Panel, Result, Table, shown
from bench.workplace import Unavailable, peers_python

NAME = "ray"
# Both sides need a cluster and are of this case alone: `--only` chooses nothing here.
PEERS: tuple[str, ...] = ()
_SAYS = (
    f"64 floats in, 10 out, V2 JSON over keep-alive connections, closed loop, {REPLICAS} replicas in a "
    "Ray cluster of two nodes on this machine. Ours are placed by `dukou fleet up --ray` and asked through "
    "its gateway, Ray Serve's through its proxies. Two clusters, one after the other, in which both sides "
    "take turns: one with Ray's defaults, one with what Ray Serve's documentation says for high throughput "
    "(HAProxy, direct ingress). Server CPU is that of the whole cluster and of the gateway."
)
_WANTED = 20


def run(options: Options) -> Result:
    """Interleaved rounds in each cluster."""
    digits = load_digits()
    entries: list[Entry] = []
    goals: list[Goal] = []
    for tuned in (False, True):
        kind = "tuned" if tuned else "default"
        ours, theirs = _rounds(digits, options, tuned=tuned)
        ours.name = f"{ours.name} ({kind} cluster)"
        entries += [ours, theirs]
        times = paired(ours.values("rate"), theirs.values("rate"), ratio)
        if times is not None:
            goals.append(
                Goal(
                    f"requests/s over {theirs.name}",
                    f"≥ {_WANTED} ×",
                    f"{times.median:.1f} × ({times.least:.1f}-{times.most:.1f})",
                    times.median >= _WANTED,
                )
            )
    bars = {entry.name: entry.spread("rate") for entry in entries if entry.rounds}
    panels = [Panel("requests/s (more is better)", bars)]
    return Result(NAME, _SAYS, options, entries, [_table(entries)], goals, panels)


def _rounds(digits: Digits, options: Options, *, tuned: bool) -> tuple[Entry, Entry]:
    peers = (DukouInRay(), RayServe(tuned=tuned))
    entries = [Entry(peer.name, peer.settings) for peer in peers]
    # Sockets lie below it, whose paths have little room.
    folder = Path(tempfile.mkdtemp(prefix="dk-ray-"))
    try:
        with ray_cluster(peers_python(), folder, cluster_environment(tuned=tuned)) as cluster:
            for at in range(options.rounds):
                for peer, entry in zip(peers, entries, strict=True):
                    if entry.unavailable is None:
                        _turn(peer, entry, digits, options, cluster, at)
    except Unavailable as error:
        for entry in entries:
            entry.unavailable = entry.unavailable or str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    ours, theirs = entries
    return ours, theirs


def _turn(
    peer: DukouInRay | RayServe,
    entry: Entry,
    digits: Digits,
    options: Options,
    cluster: Cluster,
    at: int,
) -> None:
    try:
        entry.versions = entry.versions or peer.versions()
        with peer.start(digits, fresh_folder(NAME, peer.name), cluster) as running:
            entry.command = running.command
            check_running(running, digits, "1")
            load = load_of(running, digits, options.connections)
            entry.load = load.command(options.seconds)
            load.run(options.warmup_seconds)
            pids = [running.pid, *cluster.pids]
            before = sum(map(cpu_seconds, pids))
            report = load.run(options.seconds)
            used = sum(map(cpu_seconds, pids)) - before
            figures: Figures = figures_of(report, used, sum(map(peak_rss_mb, pids)))
    except Unavailable as error:
        entry.unavailable = str(error)
        say(f"round {at + 1}  {peer.name}: {error}")
        return
    entry.rounds.append(figures)
    say(
        f"round {at + 1}/{options.rounds}  {peer.name:<16}{figures['rate']:9.0f} requests/s  "
        f"{figures['server_cpu_us']:8.1f} µs server CPU  p99 {figures['p99_us'] / 1e3:.2f} ms  "
        f"{figures['failed']:.0f} failed"
    )


def _table(entries: list[Entry]) -> Table:
    header = ("server", "requests/s", "server CPU µs/request", "p50 ms", "p99 ms", "failed")
    rows = [
        (
            entry.name,
            shown(entry.spread("rate"), 0),
            shown(entry.spread("server_cpu_us"), 0),
            f"{entry.spread('p50_us').median / 1e3:.2f}",
            f"{entry.spread('p99_us').median / 1e3:.2f}",
            f"{sum(entry.values('failed')):.0f}",
        )
        for entry in entries
        if entry.rounds
    ]
    return Table("Three replicas in a Ray cluster", header, rows)
