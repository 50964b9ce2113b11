"""cache-hit: inputs that come again, answered from memory."""

from __future__ import annotations

from collections.abc import Sequence

from bench.cases.small_json import find, over_echo, panels_of, tables_of
from bench.digits import load_digits
from bench.figures import paired, ratio
from bench.harness import Entry, Options, compare
from bench.report import Goal, Result

NAME = "cache-hit"
PEERS = ("echo", "dukou", "dukou-cached")
_SAYS = (
    "64 floats in, 10 out, V2 JSON over keep-alive HTTP/1.1, closed loop, 16 requests in turn: after the "
    "first turn every answer is known. Beside it the same server without a cache, which runs every request."
)


def run(options: Options) -> Result:
    """All in interleaved rounds."""
    entries = compare(NAME, load_digits(), options)
    return Result(
        NAME, _SAYS, options, entries, tables_of(entries), _goals(entries), panels_of(entries)
    )


def _goals(entries: Sequence[Entry]) -> list[Goal]:
    cached, plain = find(entries, "dukou-cached"), find(entries, "dukou")
    if cached is None:
        return []
    goals = []
    _, part = over_echo(entries, cached)
    if part is not None:
        goals.append(Goal("rate of echo's", "≥ 0.70", f"{part.median:.2f}", part.median >= 0.7))
    if plain is not None:
        less = paired(cached.values("server_cpu_us"), plain.values("server_cpu_us"), ratio)
        if less is not None:
            came = f"{less.median:.2f} ×"
            goals.append(Goal("server CPU against running it", "≤ 1 ×", came, less.median <= 1))
    failed = sum(cached.values("failed"))
    goals.append(Goal("failed requests", "0", f"{failed:.0f}", failed == 0))
    return goals
