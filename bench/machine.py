"""What the figures were taken on: they mean nothing apart from it."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.workplace import ROOT


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory and kernel."""
    return {
        "processor": _first(r"^model name\s*: (.+)$", "/proc/cpuinfo") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(_first(r"^MemTotal:\s+(\d+)", "/proc/meminfo") or 0) / 1e6, 1),
        "kernel": platform.release(),
    }


def describe_run() -> dict[str, Any]:
    """When, at which commit, with which compilers and interpreter."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "python": platform.python_version(),
        "rustc": _said("rustc", "--version"),
    }


def _first(pattern: str, file: str) -> str | None:
    try:
        found = re.search(pattern, Path(file).read_text("utf-8"), re.MULTILINE)
    except OSError:
        return None
    return found.group(1).strip() if found else None


def _said(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return None
    return done.stdout.strip() or None
