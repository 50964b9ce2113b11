"""The chores that other rooms do, called with a project's intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dukou.base.durations import parse_duration
from dukou.base.errors import StateError
from dukou.lifecycle.project import Project

_RETENTION = "30d"


def retrain_again(project: Project, home: Path, say: Callable[[str], None]) -> Mapping[str, Any]:
    """Trains again.

    Raises:
        StateError: `maintain.failed`, where the result was refused.
    """
    from dukou.lifecycle.retrain import Trigger, retrain

    trigger = Trigger("`maintain.retrain` is due", "schedule")
    done = retrain(project, home, trigger=trigger, say=say)
    if done.refused:
        raise StateError("maintain.failed", f"the new model was refused: {done.refused}")
    return {"version": done.version}


def rotate_keys(_project: Project, home: Path, say: Callable[[str], None]) -> Mapping[str, Any]:
    """Makes a new signing key."""
    from dukou.trust.keys import rotate_signing_key

    old, new = rotate_signing_key(home)
    say(f"signing with {new.id[:16]}… from now on; {old.id[:16]}… stays trusted")
    return {"old": old.id, "new": new.id}


def keep_retention(project: Project, home: Path, say: Callable[[str], None]) -> Mapping[str, Any]:
    """Removes captures, run records and caches older than the interval."""
    from dukou.lifecycle.clean import apply_cleaning
    from dukou.monitor.store import CaptureStore

    text = project.maintain.intervals()["retention"] or _RETENTION
    age = parse_duration(text, key="maintain.retention")
    captures = CaptureStore(home, project.model.name).trim(max_bytes=1 << 62, keep=age)
    cleaned = apply_cleaning(home, older_than=age)
    freed = sum(waste.bytes for waste in cleaned.wastes)
    say(f"removed {captures:,} bytes of captures and {freed:,} of records and caches")
    return {"older_than": text, "captures_bytes": captures, "cache_bytes": freed}
