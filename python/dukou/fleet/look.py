"""What `dukou fleet status` says, by asking the gateway's and the replicas' engines; and ending a fleet."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dukou.base.errors import DukouError, StateError
from dukou.fleet.folder import FleetFolder
from dukou.serve.local_api import LocalApi

_WINDOW_S = 1.0
_END_S = 70.0


def look_at_fleets(
    documents: Sequence[dict[str, Any]], *, window_s: float = _WINDOW_S
) -> list[dict[str, Any]]:
    """Each fleet's document with what its engines say.

    Args:
        documents: `fleet.json` each.
        window_s: over which requests a second are counted.

    Returns:
        The documents, with `healthy` (how many), and for each replica `healthy`, `why` (it is not),
        `revision`, `requests`, `requests_per_s` and `rss_bytes`; None where nobody knows.
    """
    if not documents:
        return []
    first = [_by_replica(document) for document in documents]
    began = time.monotonic()
    time.sleep(window_s)
    found = []
    for document, before in zip(documents, first, strict=True):
        after, seconds = _by_replica(document), time.monotonic() - began
        replicas = [
            {**replica, **_look_at(replica, before, after, seconds)}
            for replica in document["replicas"]
        ]
        found.append(
            {
                **document,
                "replicas": replicas,
                "healthy": sum(replica["healthy"] for replica in replicas),
            }
        )
    return found


def _look_at(
    replica: dict[str, Any],
    before: dict[str, dict[str, Any]],
    after: dict[str, dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    url = replica["url"] or ""
    row = after.get(url)
    rate = None
    if row is not None:
        then = before.get(url, row)["requests"]
        rate = max(0, row["requests"] - then) / seconds
    return {
        "healthy": row is not None and row["healthy"],
        "why": None if row is None else row["why"],
        "revision": None if row is None else row["revision"],
        "requests": None if row is None else row["requests"],
        "requests_per_s": rate,
        "rss_bytes": _memory_of(replica["socket"]),
    }


def _by_replica(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The gateway's view: address → its models together."""
    rows: dict[str, dict[str, Any]] = {}
    state = _state(document["gateway"]["socket"]) or {}
    for row in state.get("replicas", []):
        known = rows.setdefault(
            row["replica"], {"requests": 0, "healthy": True, "why": None, "revision": None}
        )
        known["requests"] += row["requests"]
        known["healthy"] &= bool(row["healthy"])
        known["why"] = known["why"] or row.get("why")
        known["revision"] = row.get("revision") or known["revision"]
    return rows


def _memory_of(socket: str | None) -> int | None:
    state = _state(socket)
    return None if state is None else int(state["gauges"]["rss_bytes"])


def _state(socket: str | None) -> dict[str, Any] | None:
    if socket is None:
        return None
    try:
        return LocalApi(Path(socket), timeout_s=2.0).state()
    except DukouError:
        return None


def end_fleet(folder: FleetFolder, pid: int) -> None:
    """Has a fleet answer what it has taken, and end; returns when it has.

    Raises:
        StateError: `fleet.not-ended`.
    """
    if folder.is_alive():
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    while folder.is_alive():
        if time.monotonic() > deadline:
            raise StateError(
                "fleet.not-ended",
                f"process {pid} was asked to end {_END_S:g} s ago, and still runs",
            )
        time.sleep(0.05)
