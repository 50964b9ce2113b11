"""Optimize: smaller forms are made, judged on the held-out rows, and measured in the engine."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.lifecycle.keep import save_model
from dukou.lifecycle.measure import EngineMeasure
from dukou.lifecycle.runner import digest_of
from dukou.lifecycle.stage import Line
from dukou.lifecycle.stages.data import TRAIN
from dukou.lifecycle.stages.evaluate import load_held_out
from dukou.lifecycle.stages.improve import load_improved
from dukou.serve.find import find_engine

if TYPE_CHECKING:
    from dukou.evaluate.data import DataSet

CALIBRATION_ROWS = 512


class OptimizeStage:
    """Leaves the chosen form as a kept model in `chosen/`: the original where nothing beats it."""

    name = "optimize"
    needs = ("improve", "data", "gates")
    revision = 2
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """`[optimize]`, what makes the forms, and what a measurement holds for: this engine and
        runtime on this kind of machine. The training rows are the data stage's, which it needs.
        """
        return {
            "optimize": line.project.optimize.model_dump(),
            "calibration": {"rows": CALIBRATION_ROWS, "seed": line.project.data.seed},
            "packages": {
                name: metadata.version(name) for name in ("onnxruntime", "onnx", "onnxslim")
            },
            "engine": digest_of([find_engine()]),
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
            load_improved(line),
            load_held_out(line),
            into=into / "forms",
            measure=EngineMeasure(),
            budget=Budget(accuracy_loss=wanted.accuracy_budget),
            passes=[load_pass(name) for name in wanted.passes],
            calibration=load_calibration(line),
            task=line.project.model.task,
        )
        save_model(found.chosen, into / "chosen")
        return found.to_json()

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        return str(facts["summary"])


def load_calibration(line: Line) -> DataSet:
    """Some of the rows that the training saw: what the model will be asked, and none that judges."""
    import numpy as np

    from dukou.evaluate.data import load_table

    data = load_table(line.folder("data") / TRAIN).split_target(line.project.data.target)
    chance = np.random.default_rng(line.project.data.seed)
    chosen = chance.permutation(data.rows)[:CALIBRATION_ROWS]
    return data.take(np.sort(chosen))


def _processor() -> str:
    """The processor's name: a variant that is faster on one may be slower on another."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
