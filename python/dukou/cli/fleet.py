"""`dukou fleet`: several replicas of what is served.

dukou fleet manifests digits --image IMAGE    Kubernetes objects, sized by what the model costs
"""

from __future__ import annotations

import argparse

from dukou.cli import manifests


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    manifests.add_arguments(
        actions.add_parser("manifests", help="Kubernetes objects for a model's image")
    )


def run(arguments: argparse.Namespace) -> int:
    """Writes manifests."""
    return manifests.run(arguments)
