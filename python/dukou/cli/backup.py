"""`dukou backup`: keeps this installation, and proves that it can be put back.

dukou backup --to FOLDER     takes a snapshot; FOLDER is remembered
dukou backup list            what is there
dukou backup verify          restores the newest one into a scratch folder and proves it

A snapshot holds the registry, the store, trusted keys, captured requests and run records; signing keys
too where an encryption key is configured, for then all of it is sealed. What did not change since an
earlier snapshot takes no more space. `dukou restore` puts one back.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dukou.registry.backup.folder import Backups


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "action",
        nargs="?",
        choices=("take", "list", "verify"),
        default="take",
        help="take a snapshot (also where nothing is said), list them, or verify one",
    )
    parser.add_argument(
        "snapshot", nargs="?", metavar="SNAPSHOT", help="which is verified; the newest if absent"
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where backups are kept; the last one if absent"
    )
    parser.add_argument(
        "--keep", type=int, metavar="N", help="so many snapshots stay, older ones go (all)"
    )
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Takes, lists or verifies."""
    from dukou.base.errors import InputError
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.backup import open_backups, take_backup, verify_backup

    if arguments.snapshot is not None and arguments.action != "verify":
        raise InputError(
            "usage.invalid",
            f"`{arguments.snapshot}` follows `{arguments.action}`, which takes no snapshot",
            hint="`dukou backup verify SNAPSHOT` proves one, `dukou restore` puts it back",
        )
    if arguments.keep is not None and arguments.keep < 1:
        raise InputError("usage.invalid", f"`--keep {arguments.keep}`: one snapshot at least stays")
    home = dukou_home()
    backups = open_backups(home, arguments.to)
    if arguments.action == "list":
        return _list(backups, as_json=arguments.json)
    if arguments.action == "verify":
        proof = verify_backup(home, backups, arguments.snapshot, say=_say)
        if arguments.json:
            print(json.dumps({"snapshot": proof.id, "time": proof.time, **proof.found}, indent=1))
        else:
            print(f"snapshot {proof.id} holds")
        return 0
    taken = take_backup(home, backups, keep=arguments.keep, say=_say)
    snapshot = taken.snapshot
    if arguments.json:
        document = {
            "snapshot": snapshot.id,
            "folder": str(backups.folder),
            "files": len(snapshot.files),
            "bytes": snapshot.size,
            "new_bytes": taken.new_bytes,
            "sealed": snapshot.sealed,
            "left_out": list(snapshot.left_out),
        }
        print(json.dumps(document, indent=1))
        return 0
    from dukou.cli.show import show_bytes

    print(
        f"snapshot {snapshot.id}: {len(snapshot.files):,} files, {show_bytes(snapshot.size)}, "
        f"{show_bytes(taken.new_bytes)} of them new, in {backups.folder}"
    )
    for text in snapshot.left_out:
        print(f"  not kept: {text}")
    print("  `dukou backup verify` proves that it can be put back")
    return 0


def _list(backups: Backups, *, as_json: bool) -> int:
    from datetime import UTC, datetime

    from dukou.base.errors import DukouError
    from dukou.cli.show import show_age, show_bytes, show_table

    rows: list[list[str]] = []
    documents: list[dict[str, Any]] = []
    proved = backups.newest_verified()
    now = datetime.now(UTC)
    for name in backups.ids():
        try:
            snapshot = backups.read(name)
        except DukouError as error:
            rows.append([name, "", "", "", f"cannot be read: {error.code}"])
            documents.append({"snapshot": name, "problem": str(error)})
            continue
        verified = proved is not None and proved.id == name
        documents.append(
            {
                "snapshot": name,
                "created": snapshot.created,
                "files": len(snapshot.files),
                "bytes": snapshot.size,
                "sealed": snapshot.sealed,
                "verified": proved.time if verified and proved is not None else None,
            }
        )
        age = show_age((now - snapshot.time).total_seconds())
        sealed = "encrypted" if snapshot.sealed else "in the clear"
        rows.append(
            [name, f"{age} ago", show_bytes(snapshot.size), sealed, "verified" if verified else ""]
        )
    if as_json:
        print(json.dumps({"folder": str(backups.folder), "snapshots": documents}, indent=1))
    elif not rows:
        print(f"there is no backup in {backups.folder}")
    else:
        print(show_table(["snapshot", "taken", "size", "", ""], rows))
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
