"""`python -m bench [CASE …]`: measures, prints a table, writes `bench/results`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.cases import CASES, open_case
from bench.harness import Options
from bench.peers import PEERS
from bench.report import publish
from bench.workplace import RESULTS, BenchError, build_programs


def main(words: list[str] | None = None) -> int:
    """Runs the cases that are named; the first of them where none is."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="measures serving side by side; docs/benchmarks.md"
    )
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; `all` for all"
    )
    parser.add_argument("--rounds", type=int, default=5, help="turns of each server (5)")
    parser.add_argument("--seconds", type=float, default=5.0, help="measured in a turn (5)")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds before it (2)")
    parser.add_argument("--connections", type=int, default=32, help="of the load (32)")
    parser.add_argument("--only", help=f"servers, by comma, of {', '.join(PEERS)}")
    parser.add_argument("--quick", action="store_true", help="2 short rounds, to try it")
    parser.add_argument("--no-build", action="store_true", help="measure what was built before")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the pages")
    given = parser.parse_args(words)
    names = list(CASES) if given.cases == ["all"] else given.cases or list(CASES)[:1]
    try:
        cases = [open_case(name) for name in names]
        if not given.no_build:
            build_programs()
        for case in cases:
            options = Options(
                rounds=2 if given.quick else given.rounds,
                seconds=1.5 if given.quick else given.seconds,
                warmup_seconds=0.5 if given.quick else given.warmup,
                connections=given.connections,
                peers=given.only.split(",") if given.only else case.PEERS,
            )
            print(publish(case.run(options), given.results), end="\n\n")
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
