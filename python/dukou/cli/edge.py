"""`dukou edge`: a folder that a device runs from, alone, and that keeps itself up to date.

dukou edge build digits --output device --from registry.example/models/digits
  copy `device` to the machine and start `device/run`: no Python is needed there
dukou edge status device      slots, versions, the last update, what waits to be reported
dukou edge collect --into reports.jsonl --port 8081
  takes what devices report (on this machine; a proxy before it lets others in)

The device follows a tag (`champion`), fetches only the chunks that changed, has a new version reproduce its
golden samples, and goes back to the one before where it does not. It serves on when nothing can be reached.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from dukou.cli.remote_login import add_login_arguments, read_login


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="write a device's folder")
    build.add_argument("model", metavar="NAME[:VERSION|@ALIAS]", help="what it serves first")
    build.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where to")
    build.add_argument(
        "--from",
        dest="source",
        metavar="REMOTE",
        help="HOST[:PORT]/REPOSITORY[:TAG] that it follows (tag: champion); nothing, if absent",
    )
    build.add_argument("--report", metavar="URL", help="where it reports to")
    build.add_argument("--device", metavar="NAME", help="its name in reports (the folder's)")
    build.add_argument("--listen", default="127.0.0.1:8080", metavar="ADDRESS:PORT")
    build.add_argument(
        "--threads", type=int, default=0, help="that answer requests (one a processor)"
    )
    build.add_argument(
        "--every", type=int, default=300, metavar="SECONDS", help="between two looks (300)"
    )
    build.add_argument(
        "--record", type=int, default=60, metavar="SECONDS", help="between two records (60)"
    )
    build.add_argument(
        "--bandwidth", metavar="SIZE", help="a second, of a download, as 500k (as it comes)"
    )
    build.add_argument(
        "--store-size", metavar="SIZE", help="its store's, at most, as 200m (what the disk has)"
    )
    build.add_argument(
        "--cacert", type=Path, metavar="PATH", help="certificates (PEM) that it trusts too"
    )
    add_login_arguments(build)
    build.add_argument("--json", action="store_true", help="as one JSON document")
    status = actions.add_parser("status", help="what a device's folder says of itself")
    status.add_argument("folder", type=Path, metavar="FOLDER")
    status.add_argument("--json", action="store_true", help="as one JSON document")
    collect = actions.add_parser("collect", help="take what devices report")
    collect.add_argument("--into", type=Path, required=True, metavar="FILE", help="a JSON a line")
    collect.add_argument("--port", type=int, default=8081, help="8081; 0 takes a free one")


def run(arguments: argparse.Namespace) -> int:
    """Builds, shows or collects."""
    if arguments.action == "build":
        return _build(arguments)
    if arguments.action == "status":
        return _status(arguments)
    return _collect(arguments)


def _build(arguments: argparse.Namespace) -> int:
    from dukou.base.errors import InputError
    from dukou.base.settings import dukou_home
    from dukou.edge.folder import EdgeSettings, build_folder
    from dukou.lifecycle.contents import choose_contents, runtime_version
    from dukou.package.remotes.address import parse_address

    for name in ("threads", "every", "record"):
        least = 0 if name == "threads" else 1
        if getattr(arguments, name) < least:
            raise InputError(
                "usage.invalid", f"`--{name} {getattr(arguments, name)}` is less than {least}"
            )
    login = read_login(arguments)
    model = arguments.model.partition(":")[0].partition("@")[0]
    follow = None
    if arguments.source is not None:
        follow = parse_address(arguments.source, model=model, insecure=arguments.insecure)
    choice = choose_contents([arguments.model], home=dukou_home())
    settings = EdgeSettings(
        device=arguments.device or arguments.output.absolute().name,
        listen=arguments.listen,
        threads=arguments.threads,
        follow=follow,
        every_s=arguments.every,
        bytes_per_s=_size(arguments.bandwidth, "--bandwidth"),
        report=arguments.report,
        record_s=arguments.record,
        store_bytes=_size(arguments.store_size, "--store-size"),
    )
    facts = build_folder(
        choice.contents,
        arguments.output,
        settings,
        engine=choice.engine,
        runtime=choice.runtime,
        runtime_version=runtime_version(choice.engine, choice.runtime),
        credentials=login,
        authorities=arguments.cacert,
    )
    (served,) = choice.contents.models
    if arguments.json:
        document = {
            "folder": str(arguments.output),
            "model": served.name,
            "version": served.version,
            "digest": served.digest,
            "bytes": dict(facts.bytes),
            "settings": settings.to_json(None if login is None else login.username),
        }
        print(json.dumps(document, indent=1))
        return 0
    from dukou.cli.show import show_bytes, show_table

    names = {"engine": "engine", "runtime": "ONNX Runtime", "models": "model", "other": "the rest"}
    rows = [(text, show_bytes(facts.bytes[part])) for part, text in names.items()]
    print(
        show_table(["part", "size"], [*rows, ("together", show_bytes(sum(facts.bytes.values())))])
    )
    print()
    print(f"{arguments.output} serves {served.name}:{served.version} on {arguments.listen}:")
    print(f"  {arguments.output}/run")
    if follow is not None:
        tag = follow.tag or "champion"
        print(f"it follows `{tag}` of {follow.host}/{follow.repository} every {arguments.every} s")
    return 0


def _size(text: str | None, key: str) -> int:
    from dukou.base.sizes import parse_size

    return 0 if text is None else parse_size(text, key=key, code="usage.invalid")


def _status(arguments: argparse.Namespace) -> int:
    from dukou.edge.folder import read_status

    status = read_status(arguments.folder)
    print(json.dumps(status, indent=1) if arguments.json else "\n".join(_shown(status)))
    return 0


def _shown(status: dict[str, Any]) -> list[str]:
    from dukou.cli.show import show_bytes, show_table

    rows = []
    for name, slot in status["slots"].items():
        mark = "serves" if name == status["current"] else ""
        held = ["", "", ""] if slot is None else [slot["version"], slot["digest"][:19], ""]
        rows.append([name, held[0], held[1], mark])
    lines = [
        f"{status['device']}: {'runs' if status['running'] else 'does not run'}",
        show_table(["slot", "version", "digest", ""], rows),
    ]
    follow = status["follow"]
    if follow is not None:
        lines.append(f"follows `{follow['tag']}` of {follow['registry']}/{follow['repository']}")
    poll = status["last_poll"]
    if poll is not None:
        lines.append(f"looked {_ago(poll['time'])} ago: {_went(poll, 'answered')}")
    update = status["last_update"]
    if update is not None:
        moved = f"{show_bytes(update['moved_bytes'])} moved"
        lines.append(
            f"updated {_ago(update['time'])} ago to {update['digest'][:19]}: {_went(update, moved)}"
        )
    report = status["report"]
    lines.append(
        f"reports: {report['waiting']} wait ({show_bytes(report['waiting_bytes'])}), "
        f"{report['dropped']} were dropped"
    )
    disk = status["disk"]
    lines.append(
        f"disk: the store has {show_bytes(disk['store_bytes'])}, "
        f"{show_bytes(disk['free_bytes'])} are free"
    )
    return lines


def _went(happened: dict[str, Any], well: str) -> str:
    return well if happened["code"] is None else f"{happened['message']} [{happened['code']}]"


def _ago(seconds: int) -> str:
    import time

    from dukou.cli.show import show_age

    return show_age(max(0.0, time.time() - seconds))


def _collect(arguments: argparse.Namespace) -> int:
    from dukou.edge.collect import collecting

    with collecting(arguments.into, arguments.port) as server:
        url = f"http://127.0.0.1:{server.server_port}/"
        print(f"reports are taken at {url}, into {arguments.into}", flush=True)
        server.serve_forever()
    return 0
