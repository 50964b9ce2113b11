"""`dukou pull`: fetches a version from a registry or a shared folder; only what is lacking here travels.

dukou pull registry.example/models/digits            its champion, or its highest number
dukou pull registry.example/models/digits:3          a tag, or @sha256:… for a digest
dukou pull /mnt/share/digits --as their-digits       from a folder, under another name

Nothing is believed that nobody signed whose key lies in DUKOU_HOME/trust. The version gets the next number
here; what serves changes only when you promote it.
"""

from __future__ import annotations

import argparse
import json

from dukou.cli.remote_login import add_login_arguments, read_login, show_traffic, traffic_document


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "remote", metavar="REMOTE", help="HOST[:PORT]/REPOSITORY[:TAG], or a folder[:TAG]"
    )
    parser.add_argument(
        "--as", dest="name", metavar="NAME", help="the model's name here (its own, if absent)"
    )
    add_login_arguments(parser)
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Pulls."""
    from dukou.base.settings import dukou_home
    from dukou.lifecycle.travel import pull_address

    arrived = pull_address(
        dukou_home(),
        arguments.remote,
        name=arguments.name,
        credentials=read_login(arguments),
        insecure=arguments.insecure,
    )
    if arguments.json:
        document = {
            "model": arrived.model,
            "version": arrived.number,
            "digest": arrived.digest,
            "remote": str(arrived.address),
            "signed_by": arrived.signed_by,
            **traffic_document(arrived.traffic),
        }
        print(json.dumps(document, indent=1))
        return 0
    print(f"{arrived.address} is {arrived.model}:{arrived.number} here")
    print(f"  signed by key {arrived.signed_by[:16]}, which is trusted here")
    print(f"  {show_traffic(arrived.traffic)}")
    return 0
