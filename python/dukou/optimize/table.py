"""The passes that dukou tries: one line each. Packages add theirs as entry points."""

from __future__ import annotations

from dukou.base.extensions import list_extensions, load_extension
from dukou.optimize.contract import Pass

GROUP = "dukou.passes"

# name → class, imported on first use. The order is the order of trying, and of chaining.
PASSES = {
    "simplify": "dukou.optimize.passes.simplify:SimplifyPass",
    "int8": "dukou.optimize.passes.int8:Int8Pass",
    "int8-static": "dukou.optimize.passes.int8_static:Int8StaticPass",
}


def list_passes() -> tuple[str, ...]:
    """The names of all passes, built in and registered."""
    return tuple(list_extensions(GROUP, PASSES))


def load_pass(name: str) -> Pass:
    """The pass of this name."""
    found: Pass = load_extension(GROUP, PASSES, name)
    return found
