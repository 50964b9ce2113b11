"""Evaluate: the converted model on the held-out rows, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.lifecycle.stage import Line
from dukou.lifecycle.stages.convert import load_converted
from dukou.lifecycle.stages.data import TEST, TRAIN

if TYPE_CHECKING:
    from dukou.evaluate.data import DataSet
    from dukou.evaluate.predict import Predictions
    from dukou.model.model import Model


class EvaluateStage:
    """Judges; whether it is good enough is the next stage's."""

    name = "evaluate"
    needs = ("data", "convert")
    revision = 4
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """The bootstrap's size and seed, the slices, and the version to compare with."""
        evaluate = line.project.evaluate
        return {
            "bootstrap": evaluate.bootstrap,
            "seed": evaluate.seed,
            "slices": evaluate.slices,
            "champion": line.champion and line.champion.digest,
        }

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:  # noqa: ARG002 (facts are all it leaves)
        """Raises InputError `data.mismatch`, where the rows do not fit the model; `evaluate.*-slice`."""
        return judge_model(line, load_converted(line))

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        metrics = facts["metrics"]
        said = ", ".join(
            f"{name} {metrics[name]['value']:.4f} [{metrics[name]['low']:.4f}, "
            f"{metrics[name]['high']:.4f}]"
            for name in ("accuracy", "f1_macro", "r2", "mae")
            if name in metrics
        )
        worse = [part["name"] for part in facts["slices"]["slices"] if part["worse"]]
        where = f"; worse where {', '.join(f'`{name}`' for name in worse[:3])}" if worse else ""
        return f"{said} on {facts['rows']:,} held-out rows{where}"


def judge_model(
    line: Line, model: Model, *, predictions: Predictions | None = None
) -> dict[str, Any]:
    """The evaluation of a model on the held-out rows, as JSON, with its `limitations`.

    Args:
        line: the run.
        model: what is judged.
        predictions: its answers, where they are to be others than it gives now; see
            `dukou.evaluate.improve`.

    Raises:
        InputError: `data.mismatch`, where the rows do not fit the model; `evaluate.*-slice`.
    """
    from dukou.evaluate.limitations import find_limitations
    from dukou.evaluate.tasks import evaluate_model

    evaluate, held_out = line.project.evaluate, load_held_out(line)
    found = evaluate_model(
        model,
        held_out,
        task=line.project.model.task,
        champion=line.champion.model if line.champion else None,
        resamples=evaluate.bootstrap,
        seed=evaluate.seed,
        slices=evaluate.slices,
        # What labelled requests judge a retraining may have none of a part.
        allow_empty=line.champion is not None,
        predictions=predictions,
    )
    limits = find_limitations(found, load_learned(line), held_out)
    return {**found.to_json(), "limitations": limits}


def load_held_out(line: Line) -> DataSet:
    """The rows that the training never saw."""
    from dukou.evaluate.data import load_table

    return load_table(line.folder("data") / TEST).split_target(line.project.data.target)


def load_learned(line: Line) -> DataSet:
    """The rows that the training was given."""
    from dukou.evaluate.data import load_table

    return load_table(line.folder("data") / TRAIN).split_target(line.project.data.target)
