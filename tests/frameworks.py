"""Tests of frameworks that may not be installed: run where they are, said aloud where they are not."""

from __future__ import annotations

import importlib.util
import os

import pytest

# Where this is set nothing may be left out: CI sets it once it has installed torch.
EVERYTHING = "DUKOU_TEST_EVERYTHING"


def require(*modules: str) -> None:
    """Goes on where all of them can be imported; the summary names what was left out, and why."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if not missing:
        return
    words = f"left out: {', '.join(missing)} not installed"
    if os.environ.get(EVERYTHING):
        pytest.fail(f"{words}, and {EVERYTHING} is set")
    pytest.skip(words)
