"""The door of this stop: a model and data become an `Evaluation`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.base.lazy import resolve
from dukou.evaluate.evaluation import Evaluation
from dukou.evaluate.gates import check_gates
from dukou.evaluate.intervals import CONFIDENCE, RESAMPLES
from dukou.evaluate.slices import judge_slices

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.compare import Comparison, NumberComparison
    from dukou.evaluate.data import DataSet
    from dukou.evaluate.predict import Predictions
    from dukou.model.model import Model

    Array = np.ndarray[Any, Any]

# task → judge: `(model, data, resamples, seed, confidence, batch_rows)` → the Evaluation, and of each row
# whether the answer was right (or how far off it was), which the slices are judged by.
TASKS = {
    "classification": "dukou.evaluate.tasks:evaluate_classifier",
    "regression": "dukou.evaluate.tasks:evaluate_regressor",
}


def evaluate_model(
    model: Model,
    data: DataSet,
    *,
    task: str | None = None,
    gates: Sequence[str] = (),
    champion: Model | None = None,
    slices: Sequence[str] = (),
    allow_empty: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
    batch_rows: int = 256,
    predictions: Predictions | None = None,
) -> Evaluation:
    """Judges a model on rows that it was not trained on.

    Args:
        model: what is judged.
        data: held-out rows with the truth.
        task: `classification` or `regression`; the card's where absent.
        gates: as in `[evaluate]`; their results are in the evaluation, `require_gates` raises.
        champion: a model to compare with on the same rows.
        slices: parts of the rows to look at, see `dukou.evaluate.conditions`; classes and parts that are
            found are looked at beside them.
        allow_empty: whether such a part may have no rows.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        confidence: of all intervals.
        batch_rows: rows that go into the model at once.
        predictions: a classifier's answers to the rows, where they are to be others than the model
            itself gives now; see `dukou.evaluate.improve`.

    Raises:
        InputError: `data.mismatch`, `data.empty`, `project.invalid`, `evaluate.unknown-metric`,
            `evaluate.unknown-slice`, `evaluate.empty-slice`.
    """
    task = task or model.card.task or "classification"
    if task not in TASKS:
        raise InputError("project.invalid", f"`{task}` is not a task; {', '.join(TASKS)} are")
    if not data.rows:
        raise InputError("data.empty", f"`{data.source}` has no rows to judge by")
    judge: Callable[..., tuple[Evaluation, Array]] = resolve(TASKS[task])
    answers = {} if predictions is None else {"predictions": predictions}
    evaluation, outcomes = judge(model, data, resamples, seed, confidence, batch_rows, **answers)
    evaluation = evaluation.replace(
        slices=judge_slices(
            data,
            outcomes,
            task=task,
            named=slices,
            allow_empty=allow_empty,
            seed=seed,
            confidence=confidence,
            resamples=resamples,
        )
    )
    if champion is not None:
        compare = _compare_numbers if task == "regression" else _compare
        evaluation = evaluation.replace(
            comparison=compare(champion, model, data, confidence, batch_rows, **answers)
        )
    return evaluation.replace(gates=check_gates(evaluation, gates))


def evaluate_classifier(
    model: Model,
    data: DataSet,
    resamples: int,
    seed: int,
    confidence: float,
    batch_rows: int,
    predictions: Predictions | None = None,
) -> tuple[Evaluation, Array]:
    """See `dukou.evaluate.classification`."""
    from dukou.evaluate.classification import judge_classes
    from dukou.evaluate.labels import as_labels
    from dukou.evaluate.predict import predict_classes

    if predictions is None:
        predictions = predict_classes(model, data.features, batch_rows=batch_rows)
    found = judge_classes(
        predictions, data.target, resamples=resamples, seed=seed, confidence=confidence
    )
    evaluation = Evaluation(
        task="classification",
        variant=model.variant,
        rows=data.rows,
        source=data.source,
        data_digest=data.digest,
        metrics=found.metrics,
        per_class=found.per_class,
        labels=found.labels,
        confusion=found.confusion,
        curves=found.curves,
        calibration=found.calibration,
        facts={"seed": seed, "resamples": resamples, "batch_rows": batch_rows},
    )
    return evaluation, predictions.names() == as_labels(data.target)


def evaluate_regressor(
    model: Model, data: DataSet, resamples: int, seed: int, confidence: float, batch_rows: int
) -> tuple[Evaluation, Array]:
    """See `dukou.evaluate.regression`."""
    import numpy as np

    from dukou.evaluate.predict import predict_numbers
    from dukou.evaluate.regression import judge_numbers, sample_answers

    predicted = predict_numbers(model, data.features, batch_rows=batch_rows)
    evaluation = Evaluation(
        task="regression",
        variant=model.variant,
        rows=data.rows,
        source=data.source,
        data_digest=data.digest,
        metrics=judge_numbers(
            predicted, data.target, resamples=resamples, seed=seed, confidence=confidence
        ),
        answers=sample_answers(predicted, data.target, seed=seed),
        facts={"seed": seed, "resamples": resamples, "batch_rows": batch_rows},
    )
    return evaluation, np.abs(predicted - data.target)


def _compare(
    champion: Model,
    challenger: Model,
    data: DataSet,
    confidence: float,
    batch_rows: int,
    predictions: Predictions | None = None,
) -> Comparison:
    from dukou.evaluate.compare import compare_classes
    from dukou.evaluate.labels import as_labels
    from dukou.evaluate.predict import predict_classes

    old = predict_classes(champion, data.features, batch_rows=batch_rows)
    new = predictions or predict_classes(challenger, data.features, batch_rows=batch_rows)
    return compare_classes(old.names(), new.names(), as_labels(data.target), confidence=confidence)


def _compare_numbers(
    champion: Model, challenger: Model, data: DataSet, confidence: float, batch_rows: int
) -> NumberComparison:
    from dukou.evaluate.compare import compare_numbers
    from dukou.evaluate.predict import predict_numbers

    said = [
        predict_numbers(model, data.features, batch_rows=batch_rows)
        for model in (champion, challenger)
    ]
    return compare_numbers(said[0], said[1], data.target, confidence=confidence)
