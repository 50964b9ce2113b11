"""How old the last backup is, and the last proof of one: for `dukou status` and the metrics.

Reads what `lifecycle/backup.py` wrote down; standard library only.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

FILE_NAME = "backup.json"


def read_backup_facts(home: Path) -> dict[str, Any] | None:
    """What was done last: `folder`, and ISO times `taken` and `verified`; None where nothing ever was."""
    try:
        document = json.loads((home / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def backup_times(home: Path) -> dict[str, float]:
    """`taken` and `verified` as seconds since 1970; without those that never were."""
    found: dict[str, float] = {}
    for name in ("taken", "verified"):
        said = (read_backup_facts(home) or {}).get(name)
        try:
            found[name] = datetime.fromisoformat(str(said)).timestamp()
        except ValueError:
            continue
    return found
