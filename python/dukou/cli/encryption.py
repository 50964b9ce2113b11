"""`dukou encryption new|status|apply|rotate`: a key for what lies here, and what it seals.

With a key, versions, captures and labels are encrypted before they are written, and decrypted into
memory alone. Without one everything is as before. `DUKOU_ENCRYPTION_KEY` keeps the key elsewhere: a
file, `env:VARIABLE`, or `command:WORDS` that prints it. Who loses the key loses what it sealed.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dukou.lifecycle.encryption import Holding


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    new = actions.add_parser("new", help="make the key")
    new.add_argument(
        "--at", type=Path, metavar="FILE", help="where to; keys/encryption.key in the home folder"
    )
    actions.add_parser("status", help="what is sealed, and what lies here in clear")
    actions.add_parser("apply", help="seal what was written before there was a key")
    actions.add_parser("rotate", help="another key; what the old one sealed opens by the new one")
    for action in actions.choices.values():
        action.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Does it and says what came of it."""
    from dukou.base.settings import dukou_home

    home = dukou_home()
    document, text = _ACTIONS[arguments.action](home, arguments)
    print(json.dumps(document, indent=1) if arguments.json else text)
    return 0


def _new(home: Path, arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from dukou.base.settings import resolve_setting
    from dukou.trust.keyring import create_key, key_path

    at = None if arguments.at is None else arguments.at.expanduser().absolute()
    key, path = create_key(home, at)
    lines = [f"key `{key.id}` made: `{path}`, readable by you alone"]
    said = resolve_setting("encryption_key").value
    if at is not None and str(path) != said and path != key_path(home):
        lines.append(f"say so wherever dukou runs: `export DUKOU_ENCRYPTION_KEY={path}`")
    lines.append("keep a copy away from this machine: without it what it seals is lost")
    if _clear(home):
        lines.append("`dukou encryption apply` seals what is here already")
    return {"key": key.id, "file": str(path)}, "\n".join(lines)


def _status(home: Path, _arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from dukou.cli.show import show_table
    from dukou.lifecycle.encryption import configured, survey

    keyring, holdings = configured(home), survey(home)
    document = {
        "key": keyring and keyring.current.id,
        "also": [] if keyring is None else [key.id for key in keyring.keys[1:]],
        "source": keyring and keyring.source,
        "places": [holding.to_json() for holding in holdings],
    }
    if keyring is None:
        head = (
            "no encryption key: what is written here is in clear; `dukou encryption new` makes one"
        )
    else:
        head = f"key `{keyring.current.id}` from {keyring.source}"
        if document["also"]:
            head += f"; also {', '.join(f'`{key}`' for key in document['also'])}: a rotation is unfinished"
    rows = [[h.place, str(h.sealed), str(h.clear), f"{h.clear_bytes:,}", h.note] for h in holdings]
    table = show_table(["place", "sealed", "in clear", "bytes in clear", ""], rows)
    foreign = sorted(
        {key for h in holdings for key in h.under}
        - {key.id for key in (keyring.keys if keyring else ())}
    )
    missing = [f"sealed under a key that is not here: {', '.join(foreign)}"] if foreign else []
    return document, "\n".join([head, table, *missing])


def _apply(home: Path, _arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from dukou.lifecycle.encryption import protect, survey

    changed = protect(home)
    left = [holding for holding in survey(home) if holding.clear]
    lines = [f"{changed} files sealed"] + [f"{h.place}: {h.clear} in clear; {h.note}" for h in left]
    return {"changed": changed, "left": [h.to_json() for h in left]}, "\n".join(lines)


def _rotate(home: Path, _arguments: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from dukou.lifecycle.encryption import rotate

    done = rotate(home)
    lines = [f"key `{done.key.id}` seals now; {done.turned} things were wrapped anew by it"]
    old = ", ".join(f"`{key}`" for key in done.retired)
    if done.kept:
        places = ", ".join(f"`{path}`" for path in done.kept)
        lines.append(
            f"{old} is needed for backups from before alone, and kept for them in {places}: "
            "take it away when they are gone"
        )
    elif done.taken_away:
        lines.append(f"{old} is needed no more")
    else:
        lines.append(f"take {old} out of {done.source}; nothing here needs it")
    if done.taken_away:
        lines.append("keep a copy of the new one away from this machine")
    document = {
        "key": done.key.id,
        "retired": list(done.retired),
        "turned": done.turned,
        "taken_away": done.taken_away,
        "kept": [str(path) for path in done.kept],
    }
    return document, "\n".join(lines)


def _clear(home: Path) -> list[Holding]:
    from dukou.lifecycle.encryption import survey

    return [holding for holding in survey(home) if holding.clear]


_ACTIONS = {"new": _new, "status": _status, "apply": _apply, "rotate": _rotate}
