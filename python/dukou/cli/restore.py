"""`dukou restore FOLDER [SNAPSHOT]`: puts a backup back as a home folder.

Every byte is proved before anything appears. Where the home folder is not empty nothing is touched,
unless `--replace` says so: then what is there is moved aside, and kept.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where backups are kept")
    parser.add_argument(
        "snapshot", nargs="?", metavar="SNAPSHOT", help="its id; the newest if absent"
    )
    parser.add_argument(
        "--into", type=Path, metavar="HOME", help="the home folder to be; DUKOU_HOME if absent"
    )
    parser.add_argument(
        "--replace", action="store_true", help="move what is there aside, and take its place"
    )
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Restores."""
    from dukou.base.settings import dukou_home_path
    from dukou.lifecycle.backup import open_backups, restore_backup

    into = (arguments.into or dukou_home_path()).expanduser().absolute()
    backups = open_backups(dukou_home_path(), arguments.folder)
    # Chosen once: another may be taken while this one is put back.
    snapshot = backups.find(arguments.snapshot)
    aside = restore_backup(backups, snapshot, into, replace=arguments.replace, say=_say)
    if arguments.json:
        document = {"snapshot": snapshot.id, "home": str(into), "aside": aside and str(aside)}
        print(json.dumps(document, indent=1))
    else:
        print(f"snapshot {snapshot.id} is `{into}` now; `dukou models` shows what it holds")
        for text in snapshot.left_out:
            print(f"  was not kept: {text}")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
