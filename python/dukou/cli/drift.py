"""`dukou drift MODEL`: whether what is asked now looks like what the model was trained on."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", metavar="MODEL", help="the model's name")
    parser.add_argument("--windows", type=int, default=10, help="how many of the newest (10)")
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Shows the newest windows, and the features of the last."""
    from dukou.base.errors import StateError
    from dukou.base.settings import dukou_home
    from dukou.cli.show import show_table
    from dukou.monitor.store import CaptureStore
    from dukou.registry.registry import Registry

    home = dukou_home()
    with Registry.open(home) as registry:
        registry.versions(arguments.model)
        windows = registry.windows.list(arguments.model, "drift", limit=max(1, arguments.windows))
    if not windows and not CaptureStore(home, arguments.model).days():
        raise StateError("monitor.no-capture", f"no request of `{arguments.model}` was captured")
    if arguments.json:
        document = [
            {"began": w.began, "ended": w.ended, "alarm": w.alarm, **w.document} for w in windows
        ]
        print(json.dumps({"model": arguments.model, "windows": document}, indent=1))
        return 0
    if not windows:
        print("no window is full yet")
        return 0
    rows = [
        [
            w.ended[:19].replace("T", " "),
            str(w.document["version"]),
            str(w.document["rows"]),
            f"{w.document['moved']} of {w.document['tested']}",
            "ALARM" if w.alarm else "-",
        ]
        for w in windows
    ]
    print(show_table(["ended", "version", "rows", "moved", "alarm"], rows))
    last = windows[-1].document
    print("\nthe last window, the furthest first:")
    shown = [
        [f["name"], f"{f['p_value']:.2g}", f"{f['effect']:.3f}", "moved" if f["moved"] else "-"]
        for f in last["features"]
    ]
    print(show_table(["feature", "p", "stability index", ""], shown))
    needed = last["rows_needed"]
    print(
        f"\na false alarm has a chance of {last['level']:.2g} a window; a stability index of "
        f"{needed['effect']:g} is found in {needed['rows']} rows, four times out of five"
    )
    return 0
