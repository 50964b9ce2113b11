"""`dukou retrain`: the project's training again, on the labelled requests that came since.

What the training leaves goes through every gate, must not lose against the version that serves, and
is deployed as `[deploy]` says. `--watch` stays and does this by itself whenever `[retrain]` in the
project file finds a reason: a drift alarm with enough new labels, or its interval.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dukou.lifecycle.retrain import Retraining


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "project", nargs="?", default=".", help="the project's folder or file; here if absent"
    )
    when = parser.add_mutually_exclusive_group()
    when.add_argument(
        "--if-due", action="store_true", help="only where `[retrain]` finds a reason (for cron)"
    )
    when.add_argument(
        "--watch", action="store_true", help="stay, and retrain whenever there is a reason"
    )
    parser.add_argument(
        "--poll", default="10s", metavar="TIME", help="how often --watch looks (10s)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Retrains; exit status 2 where the result was refused."""
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.project import load_project
    from dukou.lifecycle.retrain import Trigger, retrain, retrain_if_due

    project, home = load_project(arguments.project), dukou_home()
    if arguments.watch:
        return _watch(project, home, arguments.poll)
    done: Retraining | None
    if arguments.if_due:
        done = retrain_if_due(project, home, say=_say)
    else:
        trigger = Trigger("asked for by a person", "person")
        done = retrain(project, home, trigger=trigger, say=_say)
    _show(done, as_json=arguments.json)
    return 2 if done is not None and done.refused else 0


def _watch(project: Any, home: Any, poll: str) -> int:
    import signal
    import threading

    from dukou.base.durations import parse_duration
    from dukou.lifecycle.retrain import watch

    pause = parse_duration(poll, key="--poll", code="usage.invalid")
    ending = threading.Event()

    def end(*_: object) -> None:
        ending.set()
        # A training may take an hour: it is ended too, and its lock and half-written files go.
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    _say(f"watching  `{project.model.name}`, every {poll}; Ctrl-C ends")
    with contextlib.suppress(KeyboardInterrupt):
        watch(project, home, poll=pause, ended=ending.wait, say=_say)
    return 0


def _show(done: Retraining | None, *, as_json: bool) -> None:
    from dukou.base.codes import CODES

    if as_json:
        import json

        document: dict[str, Any] = {"due": done is not None}
        if done is not None:
            document |= {
                "version": done.version,
                "refused": done.refused or None,
                "code": done.code or None,
                "labelled": done.labelled,
                "record": None if done.record is None else str(done.record),
            }
        print(json.dumps(document, indent=1))
    elif done is None:
        print("nothing is due")
    elif done.refused:
        # Why stands above, in the progress.
        print(f"refused, what serves stays [{done.code}]")
        print(f"hint: {CODES[done.code][1]}")
    else:
        print(f"version {done.version}, from {done.labelled} labelled requests beside the data")
    if done is not None and done.record is not None and not as_json:
        print(f"report  {done.record / 'report.html'}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
