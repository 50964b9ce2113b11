"""`dukou fleet manifests`: plain Kubernetes objects for a model's image, sized by what it costs here.

  dukou fleet manifests digits --image registry.example.com/digits:3
  dukou fleet manifests digits --image registry.example.com/digits:3 --replicas 3:12 --rps 5000
  dukou fleet manifests digits --image digits:3 --output k8s     one file an object

A Deployment, a Service, a HorizontalPodAutoscaler, a PodDisruptionBudget and a NetworkPolicy, in one
stream or one file each. Beside every number stands where it comes from. Secrets are yours to make: the
commands are shown.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dukou.fleet.kubernetes import Wishes
    from dukou.lifecycle.contents import Choice


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", metavar="NAME", help="what the image was built of")
    parser.add_argument(
        "--image", required=True, metavar="IMAGE", help="where a cluster finds the image"
    )
    parser.add_argument("--name", help="of the objects (the model's)")
    parser.add_argument("--namespace", help="where they are (the context's)")
    parser.add_argument(
        "--replicas", metavar="N[:M]", help="at least N, at most M (the deployment's, else 2:6)"
    )
    parser.add_argument("--cpu", metavar="N", help="processors a replica asks for: 0.5, 250m, 2")
    parser.add_argument("--memory", metavar="SIZE", help="that a replica may take: 256m")
    parser.add_argument("--rps", type=float, metavar="N", help="requests a second to size it for")
    parser.add_argument("--port", type=int, default=8000, help="on which the image answers (8000)")
    parser.add_argument(
        "--insecure", action="store_true", help="in clear and without keys, inside the cluster"
    )
    parser.add_argument(
        "--from-namespace",
        action="append",
        default=[],
        metavar="NAMESPACE",
        help="whose pods may ask, besides its own",
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="a folder: one file an object")
    parser.add_argument(
        "--trust-pickle",
        action="store_true",
        help="load pickles: this runs the code that they carry",
    )
    parser.add_argument("--json", action="store_true", help="as one JSON list")


def run(arguments: argparse.Namespace) -> int:
    """Sizes a replica and writes the objects."""
    from dukou.base.settings import dukou_home
    from dukou.fleet.kubernetes import (
        Wishes,
        name_of_model,
        object_name,
        plan_manifests,
        secrets_to_make,
    )
    from dukou.fleet.reference import parse_image
    from dukou.fleet.yaml import dump_yaml, without_notes
    from dukou.lifecycle.contents import choose_contents

    image = parse_image(arguments.image, flag="--image", allow_digest=True)
    _check_numbers(arguments)
    namespaces = [object_name(n, flag="--from-namespace") for n in arguments.from_namespace]
    namespace = arguments.namespace and object_name(arguments.namespace, flag="--namespace")
    named = arguments.name and object_name(arguments.name, flag="--name")
    choice = choose_contents(
        [arguments.model], home=dukou_home(), trust_pickle=arguments.trust_pickle
    )
    least, most = _replicas(arguments.replicas, choice)
    cpu, memory = _sized(arguments, choice, least)
    wishes = Wishes(
        name=named or name_of_model(choice.contents.name),
        image=image,
        least=least,
        most=most,
        cpu=cpu,
        memory=memory,
        model_bytes=sum(model.bytes for model in choice.contents.models),
        namespace=namespace,
        insecure=arguments.insecure,
        is_encrypted=choice.contents.is_encrypted,
        port=arguments.port,
        callers=tuple(dict.fromkeys(namespaces)),
        asks_others=choice.contents.asks_others,
    )
    objects = plan_manifests(wishes)
    if arguments.json:
        print(json.dumps([without_notes(each) for each in objects.values()], indent=1))
        return 0
    head = _head(arguments.model, choice)
    texts = {name: dump_yaml(each, head) for name, each in objects.items()}
    if arguments.output is None:
        sys.stdout.write("---\n".join(texts.values()))
    else:
        _write(arguments.output, texts)
    _say_what_is_left(wishes, secrets_to_make(wishes), arguments.output)
    return 0


def _check_numbers(arguments: argparse.Namespace) -> None:
    from dukou.base.errors import InputError

    if not 1 <= arguments.port <= 65535:
        raise InputError("usage.invalid", f"`--port {arguments.port}` is not between 1 and 65535")
    if arguments.rps is not None and not 0 < arguments.rps <= 10_000_000:
        raise InputError(
            "usage.invalid", f"`--rps {arguments.rps:g}` is not a number of requests above 0"
        )


def _replicas(said: str | None, choice: Choice) -> tuple[int, int]:
    from dukou.fleet.kubernetes import parse_replicas

    if said is not None:
        return parse_replicas(said)
    wanted = max((d.replicas for d in choice.contents.deployments), default=1)
    return parse_replicas(str(wanted)) if wanted > 1 else (2, 6)


def _sized(arguments: argparse.Namespace, choice: Choice, replicas: int) -> tuple[Any, Any]:
    from dukou.base.settings import dukou_home
    from dukou.base.sizes import parse_size
    from dukou.fleet.kubernetes import Amount
    from dukou.lifecycle.sizing import size_replica

    size = size_replica(
        arguments.model,
        choice.contents,
        home=dukou_home(),
        replicas=replicas,
        cpu=None if arguments.cpu is None else _parse_cpu(arguments.cpu),
        memory_bytes=None
        if arguments.memory is None
        else parse_size(arguments.memory, key="--memory", code="usage.invalid"),
        rps=arguments.rps,
        trust_pickle=arguments.trust_pickle,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    return Amount(*size.cpu), Amount(*size.memory)


def _parse_cpu(text: str) -> float:
    from dukou.base.errors import InputError

    number, factor = (text[:-1], 1000.0) if text.endswith("m") else (text, 1.0)
    try:
        cpu = float(number) / factor
    except ValueError:
        cpu = -1.0
    if not 0.001 <= cpu <= 256:
        raise InputError(
            "usage.invalid",
            f"`--cpu {text}` is not a number of processors from 1m to 256",
            hint="for example `--cpu 0.5` or `--cpu 500m`",
        )
    return cpu


def _head(word: str, choice: Choice) -> str:
    from dukou import __version__

    models = ", ".join(f"{m.name}:{m.version} {m.digest}" for m in choice.contents.models)
    return f"written by dukou {__version__}: dukou fleet manifests {word}\n{models}"


def _write(folder: Path, texts: dict[str, str]) -> None:
    from dukou.package.disk import translate_errors

    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")


def _say_what_is_left(wishes: Wishes, commands: Any, folder: Path | None) -> None:
    """On stderr: stdout is for `kubectl apply -f -`."""
    lines = []
    if folder is not None:
        lines.append(f"5 files in `{folder}`: `kubectl apply -f {folder}`")
    if commands:
        lines += ["the pods need what no manifest should hold:", *(f"  {c}" for c in commands)]
    if wishes.insecure:
        lines.append("it answers in clear and without keys: whoever the NetworkPolicy lets through")
    for line in lines:
        print(line, file=sys.stderr)
