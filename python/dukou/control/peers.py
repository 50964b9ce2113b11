"""The other servers of this user, on this machine, that were told to serve the same from the same home."""

from __future__ import annotations

from typing import Any

from dukou.serve.folder import ServerFolder, running_servers
from dukou.serve.local_api import LocalApi

# A peer that hangs is no reason to keep a decision waiting.
_PATIENCE_S = 1.0


def peers_of(folder: ServerFolder) -> dict[str, LocalApi]:
    """Their engines, by the servers' ids; not this server's own."""
    ours = _told(folder)
    return {
        other.id: LocalApi(other.socket, timeout_s=_PATIENCE_S)
        for other, _ in running_servers()
        if other.id != folder.id and _told(other) == ours
    }


def _told(folder: ServerFolder) -> tuple[Any, ...] | None:
    document = folder.read(folder.desired) or {}
    if "references" not in document:
        return None  # bare files alone: no control, no rollout
    return document["home"], document["references"], document["files"], document.get("documents")
