"""Drift tests: one file and one line each; `dukou.testing.check_drift_test` holds them to their contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from dukou.base.lazy import resolve

if TYPE_CHECKING:
    from dukou.monitor.drift.contract import DriftTest

# name → where it lives.
DRIFT_TESTS = {"chi-square": "dukou.monitor.drift.chi_square:ChiSquare"}


def load_drift_test(name: str) -> DriftTest:
    """The registered test of this name."""
    return cast("DriftTest", resolve(DRIFT_TESTS[name])())
