"""`dukou migrate`: stands in front of an old server, compares its answers with ours, and takes over on a word.

  dukou serve ./models --port 8080                   ours, of the same models
  dukou migrate --from http://old:8501 --to http://127.0.0.1:8080
                                                     clients come here; the old server answers them
  dukou migrate --report                             how many answers were equal, which were not, how long each took
  dukou migrate --flip                               ours answers from the next request on
  dukou migrate --back                               the old one again

The old server may be TensorFlow Serving, TorchServe, Triton, KServe or whoever speaks what they speak. One migration
stands in front of one port: that of HTTP/1.1, or that of gRPC, beside the other:

  dukou migrate --from grpc://old:8500 --to http://127.0.0.1:8080
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dukou.serve.migrate.process import Order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--from", dest="old", metavar="URL", help="the old server; begins")
    what.add_argument("--report", action="store_true", help="where the running migration stands")
    what.add_argument("--flip", action="store_true", help="have ours answer from now on")
    what.add_argument("--back", action="store_true", help="have the old one answer again")
    parser.add_argument(
        "--to", metavar="URL", help="ours; the only dukou server of this machine where absent"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (127.0.0.1)")
    parser.add_argument(
        "--port", type=int, help="the old server's where absent; 0 takes a free one"
    )
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="other machines may come, in clear: as to the old one",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-4,
        help="how far numbers may be apart and still be equal, of the larger one (0.0001)",
    )
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the inferences, so many are copied: 0 to 1 (1)"
    )
    parser.add_argument("--key", help="the key that ours asks for; DUKOU_KEY where absent")
    parser.add_argument(
        "--cacert", metavar="PATH", help="what certificates are checked against; DUKOU_CACERT"
    )
    parser.add_argument(
        "--force", action="store_true", help="with --flip: although answers differ, or none came"
    )
    parser.add_argument(
        "--ready-file",
        type=Path,
        metavar="PATH",
        help="write the address here, as JSON, once ready",
    )
    parser.add_argument("--json", action="store_true", help="reports as one line of JSON")


def run(arguments: argparse.Namespace) -> int:
    """Begins a migration, or says a word to the one that runs."""
    from dukou.serve.migrate.control import find_migration, tell

    if arguments.old is None:
        word = "flip" if arguments.flip else "back" if arguments.back else "report"
        report = tell(find_migration(arguments.port), word, force=arguments.force)
        _show(report, as_json=arguments.json)
        return 0
    from dukou.serve.migrate.process import migrate

    def on_ready(report: dict[str, Any]) -> None:
        facts = {"event": "ready", "url": report["url"], "pid": os.getpid()}
        facts |= {key: report[key] for key in ("server", "from", "to")}
        if arguments.ready_file is not None:
            incoming = arguments.ready_file.with_name(f".{arguments.ready_file.name}.{os.getpid()}")
            incoming.write_text(json.dumps(facts) + "\n", encoding="utf-8")
            incoming.replace(arguments.ready_file)
        if arguments.json:
            print(json.dumps(facts), flush=True)
            return
        print(
            f"{report['url']} stands in front of {report['server']} at {report['from']}\n"
            f"  what it answers is asked of {report['to']} too, and compared\n"
            "  report   dukou migrate --report\n"
            "  flip     dukou migrate --flip\n"
            f"  stop     Ctrl-C here, or `kill {os.getpid()}`",
            flush=True,
        )

    _show(migrate(_order(arguments), on_ready), as_json=arguments.json)
    return 0


def _show(report: dict[str, Any], *, as_json: bool) -> None:
    from dukou.serve.migrate.tally import show_report

    print(json.dumps(report) if as_json else show_report(report), flush=True)


def _order(arguments: argparse.Namespace) -> Order:
    from dukou.base.errors import InputError
    from dukou.serve.client import client_tls, key_of, trusted_pem
    from dukou.serve.migrate.address import parse_address
    from dukou.serve.migrate.compare import Tolerance
    from dukou.serve.migrate.process import Order

    for flag, value, most in (
        ("--tolerance", arguments.tolerance, 1e6),
        ("--share", arguments.share, 1),
    ):
        if not 0 <= value <= most:
            raise InputError("usage.invalid", f"`{flag} {value}` is not between 0 and {most:g}")
    old = parse_address("--from", arguments.old)
    new = parse_address("--to", arguments.to or _only_server())
    if (old.host, old.port) == (new.host, new.port):
        raise InputError("usage.invalid", f"`{old.url}` cannot be both sides of a migration")
    if new.speaks_grpc and not old.speaks_grpc:
        raise InputError(
            "usage.invalid", f"`{old.url}` is asked over HTTP, and `{new.url}` names gRPC"
        )
    secure = old.is_secure or new.is_secure
    tls: ssl.SSLContext | None = None
    roots = None
    if old.speaks_grpc:
        from dukou.serve.calls import Roots, check_grpc

        check_grpc()
        from dukou.serve.migrate.grpc.peer import detect_grpc_peer

        roots = Roots(trusted_pem(arguments.cacert)) if secure else None
        server = detect_grpc_peer(old, roots)
    else:
        from dukou.serve.migrate.http.peer import detect_peer

        tls = client_tls(arguments.cacert) if secure else None
        server = detect_peer(old, tls)
    return Order(
        old=old,
        new=new,
        server=server,
        host=arguments.host,
        port=old.port if arguments.port is None else arguments.port,
        insecure=arguments.insecure,
        tolerance=Tolerance(arguments.tolerance, min(arguments.tolerance / 10, 1e-5)),
        share=arguments.share,
        key=key_of(arguments.key, "https" if new.is_secure else "http", new.host),
        tls=tls,
        roots=roots,
    )


def _only_server() -> str:
    """The address of the one dukou server of this user that runs here."""
    from dukou.base.errors import StateError
    from dukou.serve.folder import running_servers

    urls = [str(document["url"]) for _, document in running_servers()]
    if len(urls) == 1:
        return urls[0]
    shown = f"{len(urls)} run: {', '.join(urls)}" if urls else "none runs here"
    raise StateError(
        "server.not-running",
        f"no one dukou server is meant; {shown}",
        hint="name ours with `--to`, as `--to http://127.0.0.1:8080`",
    )
