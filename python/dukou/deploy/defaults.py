"""What a deployment says where nobody said otherwise. Standard library only: `dukou serve` reads it.

Each value is resolved into every table, for the engine has no defaults of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Rows of one run, and bytes of their inputs. An idle instance takes what is queued at once: the caps
# bound what a burst can put into one run, they never make anybody wait.
BATCH_ROWS = 64
BATCH_BYTES = 16 * 1024 * 1024
BATCH_DELAY_US = 0

# What one model may hold. A full queue answers at once; nothing queues without bound.
QUEUE = 1024
CONCURRENCY = 4096
DEADLINE_MS = 30_000

# Tensors that wait for the monitor, of one model.
CAPTURE_BYTES = 8 * 1024 * 1024

# Questions and answers that a cache keeps, where a deployment asks for one and does not say how much.
CACHE_BYTES = 64 * 1024 * 1024
LEAST_CACHE_BYTES = 64 * 1024
LONGEST_CACHE_MS = 365 * 24 * 60 * 60 * 1000

CONNECTIONS = 8192
BODY_BYTES = 64 * 1024 * 1024
JSON_DEPTH = 64
HEADER_MS = 10_000
DRAIN_MS = 20_000

# How often the replicas of a remote model are looked at, and how many of a hundred requests may be asked
# once more: enough for one of three to die unnoticed, too few to drown the others.
HEALTH_MS = 250
RETRY_PERCENT = 20

CPU_ALONE = ({"name": "CPUExecutionProvider", "options": {}},)

# What every listener speaks.
DIALECTS = (
    "v2",
    "tensorflow",
    "keras",
    "v2-grpc",
    "tensorflow-grpc",
    "torchserve",
    "torchserve-grpc",
)


def default_instances() -> int:
    """Runs that can go on at once: the CPUs that this process may use."""
    return min(256, len(os.sched_getaffinity(0)))


def backend_document(
    *,
    instances: int | None = None,
    threads: int = 1,
    providers: Sequence[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """How a version is run, as in a table; on the CPU alone where no providers are given."""
    return {
        "kind": "onnx",
        "instances": instances or default_instances(),
        "threads": threads,
        "providers": [dict(provider) for provider in providers or CPU_ALONE],
        "share_weights": True,
    }


def batching_document() -> dict[str, Any]:
    """The caps of a batch, as in a table."""
    return {"max_rows": BATCH_ROWS, "max_bytes": BATCH_BYTES, "delay_us": BATCH_DELAY_US}


def model_limits_document() -> dict[str, Any]:
    """What one model may hold at once, as in a table."""
    return {"queue": QUEUE, "concurrency": CONCURRENCY, "deadline_ms": DEADLINE_MS}


def repository_document(
    folders: Sequence[Path], *, providers: Sequence[dict[str, Any]] | None = None
) -> dict[str, Any] | None:
    """Where models may be registered from while the table is served; None for nowhere."""
    if not folders:
        return None
    return {
        "folders": [str(folder) for folder in folders],
        "backend": backend_document(providers=providers),
        "batching": batching_document(),
        "limits": model_limits_document(),
    }


def server_limits_document(connections: int = CONNECTIONS) -> dict[str, Any]:
    """What the process may hold at once, as in a table."""
    return {
        "connections": connections,
        "body_bytes": BODY_BYTES,
        "json_depth": JSON_DEPTH,
        "header_ms": HEADER_MS,
        "drain_ms": DRAIN_MS,
    }


def listener_document(
    name: str,
    *,
    access: str = "loopback",
    tls: dict[str, str] | None = None,
    allow: Sequence[str] = (),
    deny: Sequence[str] = (),
    dialects: Sequence[str] = DIALECTS,
) -> dict[str, Any]:
    """A listener, as in a table; a loopback one where nothing is said: anonymous, in clear, foreign
    `Host` and `Origin` refused."""
    return {
        "name": name,
        "dialects": list(dialects),
        "access": access,
        "hosts": [],
        "tls": tls,
        "allow": list(allow),
        "deny": list(deny),
    }
