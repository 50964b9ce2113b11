"""`dukou serve`: answers requests with model files or versions of the registry.

MODEL is a file of any kind that dukou reads, or a version of the registry:
  digits.onnx        a bare ONNX file, as it is
  model.joblib       converted first, the answers proved equal (a pickle: with --trust-pickle)
  digits             the registry's `digits`: its `champion`, followed as the alias moves
  digits:3           version 3, and no other
  digits@challenger  whatever has this alias
  ./digits           a project's folder: its model, as `[deploy]` says
  ./models           a folder of models: each by its folder's name, numbered folders its versions
  models.config      TensorFlow Serving's list of models: names, folders, versions, labels
  gateway.toml       a deployment: models of the registry, files, other servers, graphs (docs/services.md)

Ctrl-C or SIGTERM answers what is in flight and ends.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.deploy.dropin.like import FIRST, PEERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dukou.base.errors import DukouError
    from dukou.serve.bare import Settings
    from dukou.serve.supervisor import Supervisor


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="model files or registry versions"
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        help="what the model is served as; once a MODEL, in their order",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on (127.0.0.1); off loopback with TLS and keys",
    )
    parser.add_argument("--port", type=int, help="8080; 0 takes a free one")
    parser.add_argument(
        "--like",
        choices=list(PEERS),
        help="open the usual ports of this server, and let its clients' paths mean what they mean there; "
        "with --port the first of them elsewhere, the others as far from it",
    )
    parser.add_argument(
        "--model-store",
        action="append",
        type=Path,
        default=[],
        metavar="FOLDER",
        help="clients may register and load the ONNX models of this folder (docs/dialects.md)",
    )
    parser.add_argument(
        "--trust-pickle",
        "--trust-code",
        dest="trust_pickle",
        action="store_true",
        help="load pickles and programs: this runs the code that they carry",
    )
    parser.add_argument(
        "--versions",
        metavar="WHICH",
        help="of a folder's numbered versions: `latest`, `all`, or how many of the latest",
    )
    parser.add_argument(
        "--no-follow",
        dest="follow",
        action="store_false",
        help="of a folder of models, leave out what is put there later",
    )
    parser.add_argument("--secure", action="store_true", help="TLS and keys on loopback too")
    parser.add_argument(
        "--insecure", action="store_true", help="off loopback for anybody, in clear"
    )
    parser.add_argument(
        "--tls-certificate", type=Path, metavar="PATH", help="PEM; the own one is made where absent"
    )
    parser.add_argument(
        "--tls-key", type=Path, metavar="PATH", help="the certificate's private key"
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="NETWORK",
        help="who may connect: 10.0.0.0/8",
    )
    parser.add_argument(
        "--deny", action="append", default=[], metavar="NETWORK", help="who may not connect"
    )
    parser.add_argument(
        "--cache", metavar="SIZE", help="keep so much of answers for whoever asks the same: 64m"
    )
    parser.add_argument(
        "--cache-ttl", metavar="TIME", help="how long a kept answer is good: 10min (for ever)"
    )
    parser.add_argument(
        "--provider",
        action="append",
        default=[],
        metavar="NAME",
        help="what to run on, by preference: cuda, openvino:device_type=GPU; the CPU ends the list",
    )
    parser.add_argument("--threads", type=int, help="worker threads of the engine")
    parser.add_argument("--engine", metavar="PATH", help="another engine program")
    parser.add_argument("--runtime", metavar="PATH", help="another ONNX Runtime: library or folder")
    parser.add_argument(
        "--ready-file",
        type=Path,
        metavar="PATH",
        help="write the address here, as JSON, once ready",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the address as one line of JSON; errors too"
    )


def run(
    arguments: argparse.Namespace,
    *,
    ports: dict[str, int] | None = None,
    settings: Settings | None = None,
) -> int:
    """Serves until told to end.

    Args:
        arguments: of the command line.
        ports: of its sockets by their names, in place of what `--port` and `--like` say.
        settings: what is said of every model of a folder beside it.
    """
    from dukou.base.errors import DukouError

    try:
        return _serve(arguments, ports, settings)
    except DukouError as raised:
        error = _with_folder(raised, arguments.models)
        if arguments.json:
            failure = {"code": error.code, "message": error.message, "hint": error.hint}
            print(json.dumps({"event": "error", **failure}), flush=True)
            return error.exit_status
        if error is raised:
            raise
        raise error from raised


def _with_folder(error: DukouError, words: list[str]) -> DukouError:
    """A folder's plain name is a reference first; where the registry has none, the folder was meant."""
    from dukou.base.errors import relay_error

    folders = [word for word in words if Path(word).is_dir() and f"`{word}`" in error.message]
    if error.code != "registry.unknown-model" or not folders:
        return error
    name = folders[0]
    return relay_error(
        error.code,
        error.message,
        f"a folder of this name is here: `dukou serve ./{shlex.quote(name)}` reads what is in it",
    )


def _serve(
    arguments: argparse.Namespace, ports: dict[str, int] | None, settings: Settings | None
) -> int:
    from dukou.base.settings import dukou_home
    from dukou.deploy.door import furnish
    from dukou.deploy.override import Override, cache_of_words, providers_of_words
    from dukou.serve.announce import announce
    from dukou.serve.bare import NO_SETTINGS
    from dukou.serve.choose import choose, choose_door
    from dukou.serve.supervisor import supervise

    home = dukou_home()
    door = choose_door(
        arguments.host,
        secure=arguments.secure,
        insecure=arguments.insecure,
        certificate=arguments.tls_certificate,
        key=arguments.tls_key,
        allow=arguments.allow,
        deny=arguments.deny,
    )
    peer = None if arguments.like is None else PEERS[arguments.like]
    if ports is None:
        port = 8080 if arguments.port is None else arguments.port
        ports = {FIRST: port} if peer is None else peer.ports_at(arguments.port)
    if peer is not None:
        door = door._replace(dialects=peer.dialects())
    order = choose(
        arguments.models,
        names=arguments.name,
        host=arguments.host,
        port=ports.pop(FIRST),
        ports=ports,
        follow=arguments.follow,
        engine=arguments.engine,
        runtime=arguments.runtime,
        threads=arguments.threads,
        home=home,
        trust_pickle=arguments.trust_pickle,
        versions=arguments.versions,
        settings=settings or NO_SETTINGS,
        door=door,
        override=Override(
            cache=cache_of_words(arguments.cache, arguments.cache_ttl),
            providers=providers_of_words(arguments.provider),
        ),
    )
    for note in order.notes:
        print(f"note: {note}", file=sys.stderr, flush=True)
    door, first_key = furnish(door, home, arguments.host)
    order = order._replace(door=door, stores=_stores(arguments.model_store, order.stores))

    def on_ready(server: Supervisor, models: list[dict[str, Any]], golden: dict[str, Any]) -> None:
        facts = {
            "event": "ready",
            "url": server.url,
            "ports": server.ports,
            "pid": os.getpid(),
            "models": [model["name"] for model in models],
            "socket": str(server.layout.folder.socket),
            "log": str(server.layout.log),
        }
        if door.certificate is not None:
            facts["certificate"] = door.certificate
        for line in _passed_over(models):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        if arguments.ready_file is not None:
            incoming = arguments.ready_file.with_name(f".{arguments.ready_file.name}.{os.getpid()}")
            incoming.write_text(json.dumps(facts) + "\n", encoding="utf-8")
            incoming.replace(arguments.ready_file)
        if arguments.json:
            # Shown once, to whoever started it; never in a file.
            shown = {} if first_key is None else {"key": first_key.text}
            print(json.dumps({**facts, **shown}), flush=True)
            return
        text = announce(
            url=server.url,
            models=models,
            golden=golden,
            state_dir=server.layout.state_dir,
            log=server.layout.log,
            access_log=server.layout.access_log,
            door=door,
            like=None if peer is None else f"{peer.title}'s: {peer.shown(server.ports)}",
            first_key=None if first_key is None else first_key.text,
            pid=os.getpid(),
            seconds=_seconds_since_start(),
        )
        print(text, flush=True)

    return supervise(order, home, on_ready, lambda text: print(text, file=sys.stderr, flush=True))


def _stores(folders: Sequence[Path], served: Sequence[Path]) -> list[Path]:
    """The folders from which models can be registered, those that are served among them; each once."""
    from dukou.base.errors import InputError

    for folder in folders:
        if not folder.is_dir():
            raise InputError("config.invalid", f"the model store `{folder}` is no folder")
    return list(dict.fromkeys([*served, *(folder.resolve() for folder in folders)]))


def _passed_over(models: list[dict[str, Any]]) -> list[str]:
    """What of the providers that were asked for does not run a model, and why."""
    from dukou.deploy.providers import short_name

    return [
        f"{model['name']}:{version['version']} does not run on "
        f"{short_name(passed_over['provider'])}: {passed_over['reason']}"
        for model in models
        for version in model["versions"]
        for passed_over in version.get("passed_over", ())
    ]


def _seconds_since_start() -> float | None:
    """Since this process was started, by the kernel's clock; None where /proc does not tell."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return max(0.0, uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK"))
