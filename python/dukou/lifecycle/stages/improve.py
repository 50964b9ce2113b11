"""Improve: truer probabilities, a better line between two classes; kept only where that is proved."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.lifecycle.keep import load_model, save_model
from dukou.lifecycle.stage import Line
from dukou.lifecycle.stages.convert import load_converted
from dukou.lifecycle.stages.evaluate import judge_model, load_held_out

if TYPE_CHECKING:
    from dukou.evaluate.improve import Improvement
    from dukou.model.golden import GoldenSamples
    from dukou.model.model import Model

_MODEL = "model"


class ImproveStage:
    """Leaves the improved model in `model/`, where there is one, and the evaluation of what goes on.

    Every later stage reads that evaluation. Where a model was improved it is made of answers by what
    was learnt from other rows (`dukou.evaluate.improve`), so that gates and the comparison with the
    champion are as honest as before.
    """

    name = "improve"
    needs = ("data", "convert", "evaluate")
    revision = 2
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """`[improve]`; all that the evaluation depends on comes with that stage."""
        return {"improve": line.project.improve.model_dump()}

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:
        """Raises InputError `improve.*`, where what is asked for by name cannot be tried."""
        from dukou.evaluate.improve import improve_model

        wanted, evaluate = line.project.improve, line.project.evaluate
        task = line.project.model.task
        evaluation: Mapping[str, Any] = line.facts("evaluate")
        if task != "classification":
            reason = f"A {task} has neither probabilities nor a line between classes."
            return {
                "rows": 0,
                "candidates": [],
                "left_alone": [reason],
                "scaling": None,
                "threshold": None,
                "labels": [],
                "evaluation": evaluation,
            }
        model, held_out = load_converted(line), load_held_out(line)
        found = improve_model(
            model,
            held_out,
            calibrate=wanted.calibrate,
            objective=wanted.parse_objective(),
            accuracy_budget=wanted.accuracy_budget,
            alpha=wanted.alpha,
            resamples=evaluate.bootstrap,
            seed=wanted.seed,
        )
        if found.kept:
            improved = apply_improvement(model, found, into / _MODEL)
            save_model(improved, into / _MODEL)
            evaluation = judge_model(line, improved, predictions=found.improved)
        return {
            "rows": found.rows,
            "candidates": [candidate.to_json() for candidate in found.candidates],
            "left_alone": list(found.left_alone),
            "scaling": found.scaling and found.scaling.to_json(),
            "threshold": found.served_threshold(),
            "labels": list(found.improved.labels),
            "evaluation": evaluation,
        }

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        tried = [
            f"{c['metric']} {c['before']:.4f} to {c['after']:.4f}, {'kept' if c['kept'] else 'not kept'}"
            for c in facts["candidates"]
        ]
        return "; ".join(tried) or " ".join(facts["left_alone"])


def load_improved(line: Line) -> Model:
    """The model that goes on: improved, or as it was converted."""
    folder = line.folder("improve") / _MODEL
    return load_model(folder) if folder.is_dir() else load_converted(line)


def apply_improvement(model: Model, found: Improvement, into: Path) -> Model:
    """The model with what was kept as a part of its graph.

    Args:
        model: as it was tried.
        found: what came of that.
        into: a folder for the graph, which appears.

    Returns:
        A model of the same signature and variant, its golden answers taken anew, its lineage longer.
    """
    import onnx

    from dukou.evaluate.attach import attach_scaling, attach_threshold
    from dukou.optimize.variant import finish_variant, save_graph

    outlets, steps = found.outlets, []
    if outlets is None or not found.kept:
        return model
    proto = onnx.load(str(model.graph))
    if found.threshold is not None:
        attach_threshold(proto, outlets, found.threshold)
        steps.append(f"threshold {found.threshold:.6g} on {found.rows} held-out rows")
    if found.scaling is not None:
        attach_scaling(proto, outlets, found.scaling)
        said = " ".join(f"{name} {value:.6g}" for name, value in found.scaling.to_json().items())
        steps.append(f"calibrate {said} on {found.rows} held-out rows")
    into.mkdir(parents=True, exist_ok=True)
    graph = into / "graph.onnx"
    save_graph(proto, graph)
    steady = model.replace(golden=_off_the_line(model, found))
    improved = finish_variant(steady, graph, name="improve", step="; ".join(steps))
    return improved.replace(variant=model.variant)


def _off_the_line(model: Model, found: Improvement) -> GoldenSamples | None:
    """The golden samples without those that another CPU's rounding could carry over the new line."""
    import numpy as np

    golden, outlets = model.golden, found.outlets
    if golden is None or outlets is None or found.threshold is None:
        return golden
    reach = 10 * (golden.tolerance.absolute + golden.tolerance.relative * abs(found.threshold))

    def is_near(outputs: Mapping[str, Any]) -> bool:
        numbers = outputs[outlets.numbers].reshape(-1, outlets.columns)[:, -1]
        return bool((np.abs(numbers.astype(np.float64) - found.threshold) <= reach).any())

    kept = tuple(sample for sample in golden.samples if not is_near(sample[1]))
    return dataclasses.replace(golden, samples=kept or golden.samples)
