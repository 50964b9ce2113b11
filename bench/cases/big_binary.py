"""big-binary: a picture of 602 KB through a model that hands it through, raw both ways, closed loop."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Sequence
from urllib.parse import urlsplit

from bench.cases.small_json import failed_goal, find, panels_of, rate_goals, tables_of
from bench.harness import (
    Entry,
    Figures,
    Options,
    figures_of,
    rounds,
    shown_load,
)
from bench.load import Load
from bench.peers.peer import Running
from bench.pictures import Pictures, load_pictures
from bench.process import cpu_seconds, peak_rss_mb
from bench.report import Goal, Result

NAME = "big-binary"
PEERS = ("echo-both-ways", "dukou-images", "triton-images")
CONNECTIONS = 4
_SAYS = (
    "1 × 3 × 224 × 224 float32 (602,112 bytes) in and out of a model that does nothing, V2's binary tensor "
    f"data over keep-alive HTTP/1.1, closed loop, {CONNECTIONS} connections. Every answer must end with the "
    "picture's bytes; the echo gives each body back as it came."
)


def run(options: Options) -> Result:
    """All peers in interleaved rounds."""
    pictures = load_pictures()
    entries = rounds(
        NAME,
        pictures,
        options,
        lambda running, entry: _measure(running, pictures, options, entry),
        lambda figures: shown_load(figures, "requests"),
    )
    return Result(
        NAME,
        _SAYS,
        options,
        entries,
        tables_of(entries),
        _goals(entries, pictures),
        panels_of(entries),
    )


def _measure(running: Running, pictures: Pictures, options: Options, entry: Entry) -> Figures:
    more = (
        *("--header", "content-type: application/octet-stream"),
        *("--header", f"inference-header-content-length: {pictures.header_bytes}"),
        *("--expect-tail", str(pictures.tail_file)),
    )
    load = Load(running.url, [pictures.body_file], connections=CONNECTIONS, more=more)
    entry.load = load.command(options.seconds)
    load.run(options.warmup_seconds)
    copied_before, before = _copied(running, entry), cpu_seconds(running.pid)
    report = load.run(options.seconds)
    used = cpu_seconds(running.pid) - before
    figures = figures_of(report, used, peak_rss_mb(running.pid))
    copied = _copied(running, entry)
    for direction, bytes_ in copied.items():
        figures[f"copied_{direction}"] = (bytes_ - copied_before[direction]) / figures["requests"]
    return figures


def _copied(running: Running, entry: Entry) -> dict[str, float]:
    """What our server has copied of large tensors, in bytes by direction; of others nothing is known."""
    if entry.name != "dukou-images":
        return {}
    address = urlsplit(running.url).netloc
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        page = answer.read().decode()
    found = re.findall(r'^dukou_copied_bytes_total\{direction="(\w+)"\} (\d+)$', page, re.M)
    return {direction: float(count) for direction, count in found}


def _goals(entries: Sequence[Entry], pictures: Pictures) -> list[Goal]:
    """What ours must reach, by this run's figures."""
    ours = find(entries, "dukou-images")
    if ours is None:
        return []
    goals = rate_goals(entries, ours, 0.6, {"triton-images": 1.0})
    into = max(ours.values("copied_in")) / pictures.tensor_bytes
    out = max(ours.values("copied_out")) / pictures.tensor_bytes
    goals.append(Goal("copies of the picture, in", "≤ 1", f"{into:.2f}", into <= 1.01))
    goals.append(Goal("copies of the picture, out", "0", f"{out:.2f}", out == 0))
    return [*goals, failed_goal(ours, "requests")]
