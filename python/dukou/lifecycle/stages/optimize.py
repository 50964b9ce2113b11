"""Optimize: smaller forms are made, judged on the held-out rows, and measured in the engine."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError
from dukou.lifecycle.keep import save_model
from dukou.lifecycle.measure import EngineMeasure
from dukou.lifecycle.stage import Line
from dukou.lifecycle.stages.convert import load_converted
from dukou.lifecycle.stages.evaluate import load_held_out


class OptimizeStage:
    """Leaves the chosen form as a kept model in `chosen/`: the original where nothing beats it."""

    name = "optimize"
    needs = ("convert", "data", "gates")
    revision = 1
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """`[optimize]`, and what a measurement holds for: this runtime on this kind of machine."""
        return {
            "optimize": line.project.optimize.model_dump(),
            "runtime": metadata.version("onnxruntime"),
            "machine": [platform.machine(), _processor()],
        }

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:
        """Raises InputError `project.invalid` for a pass that there is not."""
        from dukou.optimize.contract import Budget
        from dukou.optimize.search import optimize_model
        from dukou.optimize.table import list_passes, load_pass

        wanted = line.project.optimize
        known = list_passes()
        for name in wanted.passes:
            if name not in known:
                raise InputError(
                    "project.invalid",
                    f"`optimize.passes` names `{name}`, which is not a pass",
                    hint=f"the passes are {', '.join(known)}",
                )
        found = optimize_model(
            load_converted(line),
            load_held_out(line),
            into=into / "forms",
            measure=EngineMeasure(),
            budget=Budget(accuracy_loss=wanted.accuracy_budget),
            passes=[load_pass(name) for name in wanted.passes],
            task=line.project.model.task,
        )
        save_model(found.chosen, into / "chosen")
        return found.to_json()

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        return str(facts["summary"])


def _processor() -> str:
    """The processor's name: a variant that is faster on one may be slower on another."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
