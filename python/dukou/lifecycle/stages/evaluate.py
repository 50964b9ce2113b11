"""Evaluate: the converted model on the held-out rows, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.lifecycle.stage import Line
from dukou.lifecycle.stages.convert import load_converted
from dukou.lifecycle.stages.data import TEST

if TYPE_CHECKING:
    from dukou.evaluate.data import DataSet
    from dukou.evaluate.predict import Predictions
    from dukou.model.model import Model


class EvaluateStage:
    """Judges; whether it is good enough is the next stage's."""

    name = "evaluate"
    needs = ("data", "convert")
    revision = 3
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """The bootstrap's size and seed, and the version to compare with."""
        evaluate = line.project.evaluate
        return {
            "bootstrap": evaluate.bootstrap,
            "seed": evaluate.seed,
            "champion": line.champion and line.champion.digest,
        }

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:  # noqa: ARG002 (facts are all it leaves)
        """Raises InputError `data.mismatch`, where the rows do not fit the model."""
        return judge_model(line, load_converted(line))

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        metrics = facts["metrics"]
        said = ", ".join(
            f"{name} {metrics[name]['value']:.4f} [{metrics[name]['low']:.4f}, "
            f"{metrics[name]['high']:.4f}]"
            for name in ("accuracy", "f1_macro")
            if name in metrics
        )
        return f"{said} on {facts['rows']:,} held-out rows"


def judge_model(
    line: Line, model: Model, *, predictions: Predictions | None = None
) -> dict[str, Any]:
    """The facts of an evaluation on the held-out rows, of whichever form the model has by now.

    Args:
        line: the run.
        model: what is judged.
        predictions: its answers, where they are to be others than it gives now (the stage `improve`).
    """
    from dukou.evaluate.tasks import evaluate_model

    evaluate = line.project.evaluate
    found = evaluate_model(
        model,
        load_held_out(line),
        task=line.project.model.task,
        champion=line.champion.model if line.champion else None,
        resamples=evaluate.bootstrap,
        seed=evaluate.seed,
        predictions=predictions,
    )
    return found.to_json()


def load_held_out(line: Line) -> DataSet:
    """The rows that the training never saw."""
    from dukou.evaluate.data import load_table

    return load_table(line.folder("data") / TEST).split_target(line.project.data.target)
