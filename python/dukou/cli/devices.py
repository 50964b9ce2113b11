"""`dukou devices`: what the installed runtime and this machine offer a model to run on.

Each execution provider that dukou knows, with what is missing where it is not ready: the package, the
hardware, or a device node. A model asks for them in `[deploy] providers`, or with `dukou serve
--provider`, in the order of preference; the CPU ends every list.
"""

from __future__ import annotations

import argparse
import json

_WORDS = {
    "ready": "ready",
    "no-device": "no device",
    "no-package": "not installed",
    "absent": "neither",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("--runtime", metavar="PATH", help="another ONNX Runtime: library or folder")
    parser.add_argument("--engine", metavar="PATH", help="another engine program")
    parser.add_argument("--json", action="store_true", help="everything, as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Looks, and shows what was found."""
    from dukou.base.errors import RemoteError
    from dukou.cli.show import show_table
    from dukou.serve.devices import ask_engine, judge, look_for_hardware
    from dukou.serve.find import find_engine, find_plugins, find_runtime

    runtime = find_runtime(arguments.runtime)
    said = ask_engine(find_engine(arguments.engine), runtime, find_plugins())
    if not said.get("runtime"):
        raise RemoteError(
            "engine.runtime-missing",
            f"`{runtime}` cannot be used: {said.get('problem', 'no reason was given')}",
        )
    hardware = look_for_hardware()
    offers = judge(said, hardware)
    if arguments.json:
        document = {
            "runtime": {"version": said["runtime"], "path": str(runtime)},
            "plugins": said.get("plugins", []),
            "cpu": said.get("cpu"),
            "providers": [
                {
                    "name": offer.provider.name,
                    "short": offer.provider.short,
                    "runs_on": offer.provider.runs_on,
                    "state": offer.state,
                    "says": offer.says,
                    "devices": list(offer.devices),
                    "package": offer.provider.package or None,
                    "options": list(offer.provider.options),
                }
                for offer in offers
            ],
            "hardware": {
                kind: {"devices": list(found.devices), "looked": found.looked}
                for kind, found in hardware.items()
            },
        }
        print(json.dumps(document, indent=1))
        return 0
    print(f"ONNX Runtime {said['runtime']} at {runtime}\n")
    rows = [
        [
            offer.provider.short,
            _WORDS[offer.state],
            offer.provider.runs_on,
            "; ".join((*offer.devices[:3], offer.says)),
        ]
        for offer in offers
    ]
    print(show_table(["provider", "state", "runs on", "found"], rows))
    return 0
