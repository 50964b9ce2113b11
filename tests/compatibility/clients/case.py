"""Runs one client's cases in that client's own environment, and prints what became of each as JSON.

`python case.py MODULE FACTS.json`: MODULE is a file beside this one. It imports nothing of dukou: a client is
whatever its makers published. A case is a function of the facts; what it raises is what became of it.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

# operation → its case, in the order in which they stand.
CASES: dict[str, Callable[[dict[str, Any]], None]] = {}


def case(operation: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A case by the name of the operation that it tries."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        assert operation not in CASES, operation
        CASES[operation] = function
        return function

    return register


def close(found: Any, expected: Any) -> None:
    """Whether numbers are those that ONNX Runtime gives, within what float32 can say."""
    import numpy as np

    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5, atol=1e-6)


def main() -> None:
    """Every case of a module, each by itself: one that fails keeps no other from being tried."""
    warnings.simplefilter("ignore")
    # Loaded under this name by the cases too, so that both see one table.
    sys.modules["case"] = sys.modules["__main__"]
    module = importlib.import_module(sys.argv[1])
    facts = json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    found = {}
    for operation, function in CASES.items():
        try:
            function(facts)
            found[operation] = "works"
        except Exception:
            found[operation] = traceback.format_exc(limit=-3)
    package = module.PACKAGE
    print(json.dumps({"package": package, "version": metadata.version(package), "found": found}))


if __name__ == "__main__":
    main()
