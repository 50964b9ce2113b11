"""`dukou clean`: removes what takes space under DUKOU_HOME and is not needed any more.

`--dry-run` shows what would go, and touches nothing. The registry, keys, captured requests and every
blob that a version or a running server needs are never touched. Refused while a `dukou ship` runs.

The results of stages are a cache: without them the next run does its work again.
"""

from __future__ import annotations

import argparse
import json
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dukou.lifecycle.clean import Cleaning


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--dry-run", action="store_true", help="only show what would be removed")
    parser.add_argument(
        "--keep",
        type=int,
        default=5,
        metavar="N",
        help="the last N runs of each model stay, with their results (5)",
    )
    parser.add_argument(
        "--older-than",
        default="30d",
        metavar="AGE",
        help="what else must be this old to go: 12h, 30d, 8w (30d)",
    )
    parser.add_argument("--paths", action="store_true", help="every path, not a line a kind")
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Finds, removes unless told not to, and shows."""
    from dukou.base.durations import parse_duration
    from dukou.base.errors import InputError
    from dukou.base.settings import dukou_home_path
    from dukou.lifecycle.clean import apply_cleaning, plan_cleaning

    if arguments.keep < 0:
        raise InputError("usage.invalid", f"`--keep {arguments.keep}` is not 0 or more")
    age = parse_duration(arguments.older_than, key="--older-than", code="usage.invalid")
    work = plan_cleaning if arguments.dry_run else apply_cleaning
    cleaning = work(dukou_home_path(), keep=arguments.keep, older_than=age)
    if arguments.json:
        print(json.dumps(_document(cleaning, dry_run=arguments.dry_run), indent=1))
    else:
        print(_show(cleaning, arguments))
    return 0


def _document(cleaning: Cleaning, *, dry_run: bool) -> dict[str, object]:
    return {
        "home": str(cleaning.home),
        "removed": not dry_run,
        "bytes": cleaning.bytes,
        "wastes": [
            {"kind": waste.kind, "path": str(waste.path), "bytes": waste.bytes}
            for waste in cleaning.wastes
        ],
        "notes": cleaning.notes,
    }


def _show(cleaning: Cleaning, arguments: argparse.Namespace) -> str:
    from dukou.cli.show import show_bytes, show_table
    from dukou.lifecycle.clean import KINDS

    notes = [f"note: {note}" for note in cleaning.notes]
    if not cleaning.wastes:
        return "\n".join([f"nothing to remove in `{cleaning.home}`", *notes])
    rows = []
    for kind, group in groupby(cleaning.wastes, key=lambda waste: waste.kind):
        wastes = list(group)
        why = KINDS[kind].format(keep=arguments.keep, age=arguments.older_than)
        if arguments.paths:
            rows += [[show_bytes(w.bytes), kind, str(w.path)] for w in wastes]
        else:
            freed = show_bytes(sum(w.bytes for w in wastes))
            rows.append([freed, str(len(wastes)), kind, why])
    header = ["size", "what", "path"] if arguments.paths else ["size", "entries", "what", "why"]
    total = show_bytes(cleaning.bytes)
    last = (
        f"{total} would be removed; `dukou clean` does it"
        if arguments.dry_run
        else f"{total} removed"
    )
    return "\n".join([show_table(header, rows), *notes, last])
