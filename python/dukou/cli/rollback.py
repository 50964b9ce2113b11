"""`dukou rollback MODEL`: away from what does not do.

Ends the rollout that is under way; where none is, the champion becomes the version that it was before.
"""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", metavar="MODEL", help="the model's name")


def run(arguments: argparse.Namespace) -> int:
    """Rolls back, and says to what."""
    from dukou.base.settings import dukou_home
    from dukou.control.promote import roll_back
    from dukou.registry.registry import Registry

    with Registry.open(dukou_home()) as registry:
        print(roll_back(registry, arguments.model))
    return 0
