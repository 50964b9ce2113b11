"""The order of the files: those that take minutes begin first, so that no process ends with one of them alone."""

from __future__ import annotations

from pathlib import Path

import pytest

# Longest first; all others follow in their own order.
_LONG = (
    "journey/test_docs.py",
    "journey/test_retraining.py",
    "chaos/test_edge_kills.py",
    "journey/test_demo.py",
    "journey/test_pipelines.py",
    "journey/test_frameworks.py",
    "chaos/test_rollout.py",
    "journey/test_containers.py",
    "boundary/test_bad_input.py",
    "chaos/test_ray.py",
    "journey/test_second_model.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts files, and leaves tests within one as they are."""
    root = Path(__file__).parent
    place = {root / name: index for index, name in enumerate(_LONG)}
    items.sort(key=lambda item: place.get(item.path, len(_LONG)))
