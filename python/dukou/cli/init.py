"""`dukou init`: a project file to begin from."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "folder", nargs="?", default=".", help="where (made if needed); here if absent"
    )
    parser.add_argument("--name", help="the model's name; the folder's name if absent")
    parser.add_argument(
        "--example",
        choices=["digits", "diabetes"],
        help="a complete project on real data that comes with scikit-learn, instead of a blank one: "
        "classes (digits) or a number (diabetes)",
    )
    parser.add_argument(
        "--ci",
        choices=["github", "gitlab", "jenkins"],
        help="write a pipeline for this system too, and new versions go by canary; in a project that "
        "is there, the pipeline alone",
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")


def run(arguments: argparse.Namespace) -> int:
    """Writes the files and says what to do next."""
    from dukou.lifecycle.create import create_project
    from dukou.lifecycle.project import FILE_NAME

    written = create_project(
        arguments.folder,
        name=arguments.name,
        example=arguments.example,
        ci=arguments.ci,
        force=arguments.force,
    )
    folder, where = Path(arguments.folder), _shown(arguments.folder)
    for path in written:
        print(f"wrote {path}")
    if folder / FILE_NAME not in written:
        _say_strategy(folder)
        return 0
    if folder / "train.py" not in written:
        print(f"left  {folder / 'train.py'} as it is")
    if not arguments.example:
        print("next: put your data and training code where dukou.toml says, then")
    print(f"next: {where}dukou ship")
    return 0


def _shown(folder: str) -> str:
    return "" if folder == "." else f"cd {shlex.quote(folder)} && "


def _say_strategy(folder: Path) -> None:
    """A pipeline was added to a project that is there: does a new version go by canary in it?"""
    from dukou.lifecycle.project import read_project

    if read_project(folder).deploy.strategy != "canary":
        print(
            'note: new versions take over at once; `strategy = "canary"` under `[deploy]` goes by steps'
        )
    print("next: commit, and push to the runner's system")
