"""Cross-validation: the project's own training, run anew without one fold of the rows, in turn."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.lifecycle.stage import Line
from dukou.lifecycle.stages.convert import convert_trained
from dukou.lifecycle.stages.data import TEST, TRAIN, write_csv
from dukou.lifecycle.train import run_training

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.data import Table

    Array = np.ndarray[Any, Any]

# task → what a fold is scored by.
METRICS = {"classification": "accuracy", "regression": "r2"}


class CrossvalStage:
    """Knows how good the *training* is, and how much that depends on chance."""

    name = "crossval"
    needs = ("data", "train")
    revision = 1
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """How many folds."""
        evaluate = line.project.evaluate
        return {"folds": evaluate.cross_validation, "seed": evaluate.seed}

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:
        """Leaves nothing but facts: a fold's model is of no further use."""
        from dukou.evaluate.crossval import cross_validate, iter_folds
        from dukou.evaluate.data import load_table

        evaluate, target = line.project.evaluate, line.project.data.target
        if evaluate.cross_validation < 2:
            return {"folds": []}
        table = load_table(line.folder("data") / TRAIN)
        truth = table.columns[target]
        task = line.project.model.task
        folds, seed = evaluate.cross_validation, evaluate.seed
        cut = list(iter_folds(truth, folds=folds, seed=seed, task=task))
        # One training a CPU: each is a process of its own.
        with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
            jobs = [
                pool.submit(_predict_fold, line, table, number, learn, judge, into)
                for number, (learn, judge) in enumerate(cut)
            ]
            said = {
                learn.tobytes(): job.result() for (learn, _), job in zip(cut, jobs, strict=True)
            }

        def train(learn: Array) -> Callable[[Array], Array]:
            return lambda _judge: said[learn.tobytes()]

        found = cross_validate(
            train,
            truth,
            folds=folds,
            seed=seed,
            metric=METRICS[task],
            task=task,
        )
        return found.to_json()

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        if not facts["folds"]:
            return "not asked for"
        score = facts["score"]
        return (
            f"{facts['metric']} {score['value']:.4f} [{score['low']:.4f}, {score['high']:.4f}] "
            f"over {len(facts['folds'])} folds"
        )


def _predict_fold(
    line: Line, table: Table, number: int, learn: Array, judge: Array, into: Path
) -> Array:
    """What a training without these rows says of them."""
    from dukou.evaluate.predict import predict_classes, predict_numbers

    work = into / f"fold-{number}"
    work.mkdir()
    write_csv(table.take(learn), work / TRAIN)
    write_csv(table.take(judge), work / TEST)
    output = work / "output"
    output.mkdir()
    source = run_training(
        line.project,
        data=work / TRAIN,
        output=output,
        seed=line.project.train.seed,
        fold=number,
        threads=1,
    )
    model = convert_trained(line, source, rows=work / TEST, into=work / "model")
    rows = table.take(judge).split_target(line.project.data.target)
    if line.project.model.task == "regression":
        said = predict_numbers(model, rows.features)
    else:
        said = predict_classes(model, rows.features).names()
    shutil.rmtree(work)
    return said
