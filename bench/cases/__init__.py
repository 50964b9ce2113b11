"""What is measured: one file a case, one line in the table below."""

from __future__ import annotations

import importlib
from typing import Protocol

from bench.harness import Options
from bench.report import Result
from bench.workplace import BenchError

# name on the command line → where it is. The first is what `make bench` runs.
CASES = {
    "small-json": "bench.cases.small_json",
    "small-grpc": "bench.cases.small_grpc",
    "big-binary": "bench.cases.big_binary",
    "swap": "bench.cases.swap",
    "start": "bench.cases.start",
    "guarded": "bench.cases.guarded",
    "cache-hit": "bench.cases.cache_hit",
    "gateway": "bench.cases.gateway",
    "ray": "bench.cases.ray",
}


class Case(Protocol):
    """A module of this folder."""

    PEERS: tuple[str, ...]

    def run(self, options: Options) -> Result:
        """Measures."""


def open_case(name: str) -> Case:
    """The case of this name.

    Raises:
        BenchError: there is none.
    """
    if name not in CASES:
        raise BenchError(f"`{name}` is not one of {', '.join(CASES)}")
    case: Case = importlib.import_module(CASES[name])
    return case
