"""`dukou labels add FILE`: the truth, when it is known, for requests that were answered before.

FILE is a CSV with a header: `request_id` (as in the answer's `dukou-request-id`, or the client's own id),
`label`, and `row` for requests of several rows (0 is the first). Labels join the captured requests.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    adding = actions.add_parser("add", help="join labels to captured requests")
    adding.add_argument(
        "file", type=Path, metavar="FILE", help="CSV: request_id, label and maybe row"
    )
    adding.add_argument("--model", required=True, metavar="NAME", help="whose requests they are of")
    adding.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Adds labels and says what they joined."""
    from dukou.base.settings import dukou_home
    from dukou.monitor.labels import add_labels
    from dukou.registry.registry import Registry
    from dukou.trust.privacy.policy import PrivacyPolicy

    home = dukou_home()
    with Registry.open(home) as registry:
        registry.versions(arguments.model)
        kept = registry.deployment(arguments.model)
        models = kept.document["models"] if kept is not None else []
        capturing = any(model.get("capture") for model in models)
    said: dict[str, Any] = next((model["privacy"] for model in models if model.get("privacy")), {})
    policy = PrivacyPolicy.from_json(said)
    done = add_labels(home, arguments.model, arguments.file, capturing=capturing, policy=policy)
    if arguments.json:
        print(json.dumps(done.to_json(), indent=1, ensure_ascii=False))
        return 0
    print(f"{done.added} labels of `{arguments.model}` added, {done.joined} join captured requests")
    if done.unknown:
        shown = ", ".join(f"`{key}`" for key in done.unknown[:5])
        more = " …" if len(done.unknown) > 5 else ""
        print(f"{len(done.unknown)} name no captured request: {shown}{more}")
    if done.twice:
        print(f"{done.twice} stand there twice: the last one counts")
    return 0
