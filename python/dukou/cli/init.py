"""`dukou init`: a project file to begin from."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "folder", nargs="?", default=".", help="where (made if needed); here if absent"
    )
    parser.add_argument("--name", help="the model's name; the folder's name if absent")
    parser.add_argument(
        "--example",
        choices=["digits"],
        help="a complete project on real data that comes with scikit-learn, instead of a blank one",
    )
    parser.add_argument(
        "--ci",
        choices=["github", "gitlab", "jenkins"],
        help="write a pipeline for this system too; new versions go by canary",
    )
    parser.add_argument("--force", action="store_true", help="overwrite a project that is there")


def run(arguments: argparse.Namespace) -> int:
    """Writes the files and says what to do next."""
    from dukou.lifecycle.create import create_project

    written = create_project(
        arguments.folder,
        name=arguments.name,
        example=arguments.example,
        ci=arguments.ci,
        force=arguments.force,
    )
    for path in written:
        print(f"wrote {path}")
    where = "" if arguments.folder == "." else f"cd {arguments.folder} && "
    if not arguments.example:
        print("next: put your data and training code where dukou.toml says, then")
    print(f"next: {where}dukou ship")
    return 0
