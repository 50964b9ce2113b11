"""`dukou maintain [PROJECT]`: what has to be done again and again, when it is due, and doing it.

`[maintain]` of the project file says how often. For cron: `dukou maintain PROJECT --due` does what is due,
writes it down, and ends with a status other than 0 where something was found wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dukou.lifecycle.maintain import Due

_NONE_ASKED = (
    "the project asks for no chore; for example, in dukou.toml:\n"
    '  [maintain]\n  backup_drill = "30d"\n  rotate_keys = "90d"\n  retention = "30d"'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "project", nargs="?", default=".", help="the project's folder or file; here if absent"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--due", action="store_true", help="do all that is due")
    what.add_argument("--run", metavar="NAME", help="do one, due or not")
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Lists or does."""
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.maintain import list_chores, require_none_failed, run_chore, run_due
    from dukou.lifecycle.project import load_project

    project, home = load_project(arguments.project), dukou_home()
    if arguments.run is not None:
        found = run_chore(project, home, arguments.run, say=_say)
        print(json.dumps(found, indent=1) if arguments.json else f"{arguments.run}: done")
        return 0
    if arguments.due:
        done = run_due(project, home, say=_say)
        if arguments.json:
            document = {name: error and error.code for name, error in done.items()}
            print(json.dumps(document, indent=1))
        elif not done:
            asked = any(project.maintain.intervals().values())
            print("nothing is due" if asked else f"nothing is due: {_NONE_ASKED}")
        else:
            for name, error in done.items():
                print(f"{name}: {'done' if error is None else 'failed'}")
        require_none_failed(done)
        return 0
    _show(list_chores(project, home), as_json=arguments.json)
    return 0


def _show(chores: Sequence[Due], *, as_json: bool) -> None:
    from datetime import UTC, datetime

    from dukou.cli.show import show_age, show_table
    from dukou.lifecycle.maintain import CHORES

    now = datetime.now(UTC)
    if as_json:
        document = [
            {
                "name": chore.name,
                "every_s": chore.every and chore.every.total_seconds(),
                "last": chore.last and chore.last.isoformat(),
                "outcome": chore.outcome or None,
                "due": chore.due and chore.due.isoformat(),
                "is_due": chore.is_due(now),
            }
            for chore in chores
        ]
        print(json.dumps({"chores": document}, indent=1))
        return
    rows = []
    for chore in chores:
        when = "not asked for" if chore.every is None else "after the first version"
        if chore.is_due(now):
            when = "due now"
        elif chore.due is not None:
            when = f"in {show_age((chore.due - now).total_seconds())}"
        last = "never"
        if chore.last is not None:
            last = f"{show_age((now - chore.last).total_seconds())} ago, {chore.outcome}"
        rows.append([chore.name, when, last, CHORES[chore.name][1]])
    print(show_table(["chore", "due", "last", "what"], rows))
    if not any(chore.every for chore in chores):
        print(f"\n{_NONE_ASKED}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
