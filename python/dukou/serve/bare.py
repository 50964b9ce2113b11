"""A serving table for bare ONNX files: no registry, no pydantic, no look into the file.

The engine reads the signature from its session. A test proves these documents valid against the
schema that `dukou.deploy.table` declares.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError
from dukou.base.ids import ModelName, parse_model_name
from dukou.deploy import defaults
from dukou.deploy.door import LOOPBACK, Door
from dukou.deploy.override import NO_OVERRIDE, Override

# A bare file has no number of its own; clients that name a version name this one.
VERSION = "1"


def name_of_file(path: Path) -> ModelName:
    """A model's name made of a file's: what a name cannot hold becomes `-`."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:128]
    if not name:
        raise InputError(
            "config.invalid",
            f"no model's name can be made of the file name `{path.name}`",
            hint="give one with `--name`",
        )
    return parse_model_name(name)


def bare_model(name: ModelName, path: Path, override: Override = NO_OVERRIDE) -> dict[str, Any]:
    """A model with one version: the ONNX file at `path`."""
    return {
        "name": name,
        "versions": [
            {
                "version": VERSION,
                "source": {"file": str(path.absolute())},
                "backend": defaults.backend_document(providers=override.providers),
                "golden": "off",
            }
        ],
        "aliases": {},
        "split": [{"version": VERSION, "arm": "main", "weight": 1}],
        "batching": defaults.batching_document(),
        "limits": defaults.model_limits_document(),
        "labels": [],
        "shadow": None,
        "capture": None,
        "cache": override.cache,
    }


def bare_table(
    models: Mapping[ModelName, Path],
    *,
    listeners: list[str],
    connections: int = defaults.CONNECTIONS,
    access_log: Path | None = None,
    security_log: Path | None = None,
    door: Door = LOOPBACK,
    principals: Sequence[dict[str, Any]] = (),
    sequence: int = 1,
    override: Override = NO_OVERRIDE,
) -> dict[str, Any]:
    """The table that serves these files on these listeners."""
    return {
        "format": 1,
        "revision": "bare",
        "sequence": sequence,
        "listeners": [door.listener_document(name) for name in listeners],
        "principals": list(principals),
        "limits": defaults.server_limits_document(connections),
        "trust": {"require_signature": True, "keys": []},
        "observability": {
            "access_log": None if access_log is None else str(access_log),
            "security_log": None if security_log is None else str(security_log),
        },
        "models": [bare_model(name, path, override) for name, path in models.items()],
    }
