"""`dukou logs [MODEL]`: the errors that come most, the slowest requests, messages of a new kind, and one
line of advice, from the logs of the servers that run here (or of a folder of logs). With --security: what
was refused, to whom, and how often.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="only requests of this model")
    parser.add_argument("--since", default="1h", metavar="TIME", help="how far back (1h); `all`")
    parser.add_argument("--folder", type=Path, metavar="PATH", help="logs of a server that ended")
    parser.add_argument(
        "--security", action="store_true", help="what was refused, to whom, and how often"
    )
    parser.add_argument("--json", action="store_true", help="as one JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Reads the logs and shows what stands out."""
    from datetime import UTC, datetime

    from dukou.base.durations import parse_duration
    from dukou.monitor.logs import summarize

    since = None
    if arguments.since != "all":
        length = parse_duration(arguments.since, key="--since", code="usage.invalid")
        since = datetime.now(UTC) - length
    if arguments.security:
        return _security(arguments, since)
    access, texts = _files(arguments.folder)
    summary = summarize(access, texts, since=since, model=arguments.model)
    if arguments.json:
        print(json.dumps(summary.to_json(), indent=1, ensure_ascii=False))
        return 0
    print(_show(summary, arguments.since))
    return 0


def _security(arguments: argparse.Namespace, since: datetime | None) -> int:
    from dukou.base.errors import InputError
    from dukou.monitor.security import summarize_security

    if arguments.model is not None:
        raise InputError("usage.invalid", "`--security` is of the whole server, not of a model")
    events = summarize_security(_security_files(arguments.folder), since=since)
    if arguments.json:
        print(json.dumps([kind.to_json() for kind in events], indent=1))
        return 0
    from dukou.cli.show import show_table

    if not events:
        print(f"nothing was refused{'' if since is None else f' in {arguments.since}'}")
        return 0
    rows = [
        [
            kind.code,
            str(kind.count),
            kind.peer,
            kind.first[:19].replace("T", " "),
            kind.last[11:19],
            kind.detail,
        ]
        for kind in events
    ]
    print(show_table(["refused for", "count", "address", "first (UTC)", "last", "detail"], rows))
    return 0


def _security_files(folder: Path | None) -> list[Path]:
    from dukou.base.errors import InputError, StateError

    if folder is not None:
        if not folder.is_dir():
            raise InputError("usage.invalid", f"there is no folder `{folder}`")
        return sorted(folder.glob("security-*.jsonl"))
    from dukou.serve.folder import running_servers

    logs = [Path(d["security_log"]) for _, d in running_servers() if "security_log" in d]
    if not logs:
        raise StateError(
            "server.not-running", "no dukou server runs here", hint="`--folder` reads other logs"
        )
    return [path for log in logs for path in (log.with_suffix(".1.jsonl"), log)]


def _files(folder: Path | None) -> tuple[list[Path], list[Path]]:
    """Access logs and other logs: of a folder, or of the servers that run."""
    from dukou.base.errors import InputError, StateError

    if folder is not None:
        if not folder.is_dir():
            raise InputError("usage.invalid", f"there is no folder `{folder}`")
        # The turned-over log is older: `access.1.jsonl` before `access.jsonl`.
        files = [path for path in folder.glob("*.jsonl") if not path.name.startswith("security-")]
        access = sorted(files, key=lambda path: (len(path.suffixes) < 2, path))
        return access, sorted(folder.glob("*.log"))
    from dukou.serve.folder import running_servers

    access, texts = [], []
    for _, document in running_servers():
        log = Path(document["access_log"])
        access += [log.with_suffix(".1.jsonl"), log]
        text = Path(document["log"])
        texts += [text, *sorted(text.parent.glob(f"{text.stem}*control*.log"))]
    if not access:
        raise StateError(
            "server.not-running", "no dukou server runs here", hint="`--folder` reads other logs"
        )
    return access, texts


def _show(summary: Any, since: str) -> str:
    from dukou.cli.show import show_duration, show_table

    lines = [f"{summary.requests} requests in {since}" if since != "all" else "all requests"]
    if summary.errors:
        rows = [
            [code, str(e.count), e.first[11:19], e.last[11:19], e.example]
            for code, e in summary.errors.items()
        ]
        lines += ["", show_table(["error", "count", "first", "last", "example"], rows)]
    if summary.slowest:
        rows = [
            [
                str(entry.get("id")),
                str(entry.get("model", "-")),
                show_duration(entry["request_us"]),
                show_duration(entry.get("queue_us")),
                show_duration(entry.get("compute_us")),
            ]
            for entry in summary.slowest[:5]
        ]
        lines += ["", show_table(["slowest", "model", "took", "queue", "compute"], rows)]
    if summary.new:
        lines += ["", "messages of a new kind:"]
        lines += [f"  {kind.count} × {kind.example}" for kind in summary.new.values()]
    if summary.broken:
        lines += ["", f"{summary.broken} lines of the access log cannot be read"]
    return "\n".join([*lines, "", f"advice: {summary.advice}"])
