"""`dukou privacy ACTION`: what is kept of a person, and that it be forgotten; which columns look personal.

    dukou privacy check .                     columns of a project's data (or of a file), with tags for them
    dukou privacy export 王小明 --out me.jsonl  what is kept of a person: a request's row a line
    dukou privacy erase 王小明                  makes it unreadable, copies and backups included
    dukou privacy rotate                      another key for hashes and pseudonyms from now on

A SUBJECT of `-` is read from stdin, so that no name stands in a shell's history.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    checking = actions.add_parser("check", help="say which columns look personal, with tags")
    checking.add_argument(
        "path", nargs="?", default=".", metavar="PROJECT|FILE", help="here if absent"
    )
    exporting = actions.add_parser("export", help="write what is kept of a person")
    exporting.add_argument(
        "subject", metavar="SUBJECT", help="the person, as requests name them; - for stdin"
    )
    exporting.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="JSON lines; must not be there"
    )
    erasing = actions.add_parser("erase", help="make what is kept of a person unreadable")
    erasing.add_argument(
        "subject", metavar="SUBJECT", help="the person, as requests name them; - for stdin"
    )
    rotating = actions.add_parser("rotate", help="another key for hashes and pseudonyms")
    for action in (checking, exporting, erasing, rotating):
        action.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Does what was asked."""
    from dukou.base.settings import dukou_home

    if arguments.action == "check":
        return _check(arguments.path, as_json=arguments.json)
    home = dukou_home()
    if arguments.action == "rotate":
        from dukou.trust.privacy.secret import rotate_privacy_key

        count = len(rotate_privacy_key(home).all)
        if arguments.json:
            print(json.dumps({"keys": count}))
        else:
            print(f"a new key is in use; {count - 1} older stay, to find people by")
        return 0
    subject = _subject(arguments.subject)
    if arguments.action == "export":
        from dukou.lifecycle.privacy import export_subject

        rows = export_subject(home, subject, arguments.out)
        if arguments.json:
            print(json.dumps({"rows": rows, "file": str(arguments.out)}, ensure_ascii=False))
        else:
            print(f"{rows} rows are in `{arguments.out}`")
        return 0
    from dukou.lifecycle.privacy import erase_subject

    done = erase_subject(home, subject)
    if arguments.json:
        print(json.dumps(done.to_json(), indent=1))
        return 0
    if done.keys:
        print("the person's key is destroyed: nothing that it sealed can be read, copies included")
    elif done.before:
        print(f"the person was erased before, at {done.before[:19]}Z; nothing has come since")
    else:
        print("nothing is kept of this person")
    if done.rows or done.copies:
        print(
            f"{done.rows} rows and {done.copies} folders of runs that were killed were taken away here"
        )
    if done.busy:
        print("a training runs, and may hold copies: it takes them away when it ends")
    print("what a model learnt before stays learnt: `dukou retrain` makes one that did not see it")
    return 0


def _subject(said: str) -> str:
    from dukou.base.errors import InputError

    subject = sys.stdin.readline().strip() if said == "-" else said
    if not subject:
        raise InputError("usage.invalid", "SUBJECT is empty", hint="name the person as requests do")
    return subject


def _check(said: str, *, as_json: bool) -> int:
    from dukou.cli.show import show_table
    from dukou.evaluate.data import load_table
    from dukou.lifecycle.project import FILE_NAME, load_project
    from dukou.trust.privacy.inspect import inspect_columns

    path, drop, tags = Path(said), [], {}
    if path.is_dir() or path.name == FILE_NAME:
        project = load_project(path)
        path, drop, tags = (
            project.path(project.data.path),
            project.data.drop,
            project.privacy.fields,
        )
    table = load_table(path)
    found = inspect_columns({n: c for n, c in table.columns.items() if n not in drop})
    if as_json:
        columns = [
            {"column": s.column, "why": s.why, "suggested": s.tag, "share": round(s.share, 4)}
            | {"tag": tags.get(s.column, tags.get("*"))}
            for s in found
        ]
        print(json.dumps({"file": str(path), "columns": columns}, indent=1, ensure_ascii=False))
        return 0
    if not found:
        print(f"no column of `{path}` looks personal by its name or its values")
        return 0
    rows = [[s.column, s.why, s.tag, tags.get(s.column, tags.get("*", "-"))] for s in found]
    print(show_table(["column", "why", "suggested", "tagged"], rows))
    lacking = {s.column: s.tag for s in found if s.column not in tags}
    if lacking:
        fields = ", ".join(f"{_key(name)} = {json.dumps(tag)}" for name, tag in lacking.items())
        print(f"\n[privacy]\nfields = {{ {fields} }}")
    print("\nwhat names and values do not show is not found: you know what your columns hold")
    return 0


def _key(name: str) -> str:
    """A column's name as a key of TOML."""
    plain = name and name.isascii() and all(c.isalnum() or c in "-_" for c in name)
    return name if plain else json.dumps(name, ensure_ascii=False)
