"""What the security logs of servers hold, by kind and address: what was refused, to whom, how often."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any


@dataclass(slots=True)
class Refused:
    """Refusals of one kind to one address.

    Attributes:
        code: what for.
        peer: the address; `-` where there is none or there were many.
        count: how often.
        first: ISO 8601 in UTC.
        last: the same.
        detail: of the latest that had one.
    """

    code: str
    peer: str
    count: int
    first: str
    last: str
    detail: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def summarize_security(files: Iterable[Path], *, since: datetime | None = None) -> list[Refused]:
    """The refusals of these logs, the most frequent first. A file that is not there holds none."""
    kinds: dict[tuple[str, str], Refused] = {}
    after = "" if since is None else since.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    for event in _events(files):
        time, code = str(event["time"]), str(event["code"])
        if time < after:
            continue
        peer = str(event.get("peer", "-"))
        kind = kinds.setdefault((code, peer), Refused(code, peer, 0, time, time, ""))
        kind.count += int(event["count"])
        kind.first, kind.last = min(kind.first, time), max(kind.last, time)
        kind.detail = str(event.get("detail") or kind.detail)
    return sorted(kinds.values(), key=lambda kind: (-kind.count, kind.code, kind.peer))


def _events(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # the last line of a server that was killed
            if isinstance(event, dict) and {"time", "code", "count"} <= event.keys():
                yield event
