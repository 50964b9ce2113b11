"""`dukou push`: brings a version to a registry or a shared folder; only what is lacking there travels.

dukou push digits registry.example/models/digits     tags: its number and its aliases
dukou push digits:3 registry.example/models/         the model's name follows the `/`
dukou push digits@champion /mnt/share/digits         a folder (an OCI image layout)

What is signed and encrypted stays so. A registry on this machine is spoken to without TLS; another needs
TLS, or `--insecure`.
"""

from __future__ import annotations

import argparse
import json

from dukou.cli.remote_login import add_login_arguments, read_login, show_traffic, traffic_document


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("reference", metavar="NAME[:VERSION|@ALIAS]", help="which version")
    parser.add_argument("remote", metavar="REMOTE", help="HOST[:PORT]/REPOSITORY, or a folder")
    parser.add_argument(
        "--tag",
        action="append",
        default=[],
        metavar="TAG",
        help="that shall lead to it there (its number and its aliases, if absent); may be said again",
    )
    add_login_arguments(parser)
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Pushes."""
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.travel import push_reference

    pushed = push_reference(
        dukou_home(),
        arguments.reference,
        arguments.remote,
        tags=tuple(arguments.tag),
        credentials=read_login(arguments),
        insecure=arguments.insecure,
    )
    if arguments.json:
        document = {
            "model": pushed.model,
            "version": pushed.number,
            "digest": pushed.digest,
            "remote": str(pushed.address),
            "tags": list(pushed.tags),
            **traffic_document(pushed.traffic),
        }
        print(json.dumps(document, indent=1))
        return 0
    tags = ", ".join(pushed.tags)
    print(f"{pushed.model}:{pushed.number} is in {pushed.address} (tags {tags})")
    print(f"  {show_traffic(pushed.traffic)}")
    return 0
