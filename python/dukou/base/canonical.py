"""Canonical JSON: equal documents give equal bytes, so that a digest of them means something."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def dump_canonical(document: Mapping[str, Any]) -> bytes:
    """Sorted keys, no spaces, ASCII.

    Numbers of NumPy become Python's; NaN and infinity, which JSON has not, become null.
    """
    plain = _plain(document)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "tolist"):  # NumPy's scalars and arrays, without importing it
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
