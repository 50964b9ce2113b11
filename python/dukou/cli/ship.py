"""`dukou ship`: the whole line of a project, from data to a deployed version."""

from __future__ import annotations

import argparse
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "project", nargs="?", default=".", help="the project's folder or file; here if absent"
    )
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage")
    parser.add_argument("--fresh", action="store_true", help="take nothing from the cache")
    parser.add_argument("--seed", type=int, help="train with this seed instead of the project's")
    parser.add_argument(
        "--json", action="store_true", help="one JSON document on stdout at the end"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the line, a line of progress a stage on stderr, the outcome on stdout."""
    import json

    from dukou.base.settings import dukou_home
    from dukou.lifecycle.project import load_project
    from dukou.lifecycle.runner import ship

    project = load_project(arguments.project)
    if arguments.seed is not None:
        train = project.train.model_copy(update={"seed": arguments.seed})
        project = project.model_copy(update={"train": train})
    shipment = ship(
        project,
        dukou_home(),
        until=arguments.until,
        fresh=arguments.fresh,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    if arguments.json:
        document = {
            "model": project.model.name,
            "version": shipment.version,
            "digest": shipment.digest,
            "record": str(shipment.record),
            "report": str(shipment.report),
            "facts": {name: result.facts for name, result in shipment.results.items()},
            "folders": {name: str(result.folder) for name, result in shipment.results.items()},
        }
        print(json.dumps(document, indent=1))
        return 0
    if shipment.version is not None:
        print(f"shipped {project.model.name}:{shipment.version}, {shipment.digest}")
        print(f"next    dukou serve {project.model.name}")
    print(f"report  {shipment.report}")
    return 0
