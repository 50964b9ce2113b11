"""How much a form loses against the original, on the same rows, with a bound on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dukou.evaluate.data import DataSet
from dukou.model.model import Model

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_RESAMPLES = 2000
# Rows whose answers are compared alone and in company.
_PROBE_ROWS = 64


@dataclass(frozen=True, slots=True)
class Loss:
    """A form against the original.

    Attributes:
        quality: the form's own accuracy or rmse.
        loss: accuracy lost, or growth of the rmse as a share; negative where it gained.
        bound: the most that is lost, at the confidence asked for.
        disagree: rows on which it says another class; 0 for a regression.
        words: how that came, for the reason.
    """

    quality: float
    loss: float
    bound: float
    disagree: int
    words: str


class Judge(Protocol):
    """Knows the original's answers; says what a form loses."""

    metric: str
    quality: float

    def __call__(self, model: Model, batch_rows: int) -> Loss:
        """The loss of a form whose answers are taken `batch_rows` at a time."""
        ...


def make_judge(original: Model, data: DataSet, task: str, confidence: float) -> Judge:
    """The judge for a task."""
    if task == "regression":
        return _RegressionJudge(original, data, confidence)
    return _ClassificationJudge(original, data, confidence)


class _ClassificationJudge:
    metric = "accuracy"

    def __init__(self, original: Model, data: DataSet, confidence: float) -> None:
        from dukou.evaluate.classification import index_truth
        from dukou.evaluate.labels import as_labels
        from dukou.evaluate.predict import predict_classes

        predictions = predict_classes(original, data.features)
        index_truth(predictions, data.target)
        self._data, self._confidence = data, confidence
        self._said, self._truth = predictions.names(), as_labels(data.target)
        self.quality = float((self._said == self._truth).mean())

    def __call__(self, model: Model, batch_rows: int) -> Loss:
        from dukou.evaluate.compare import compare_classes
        from dukou.evaluate.predict import predict_classes

        said = predict_classes(model, self._data.features, batch_rows=batch_rows).names()
        found = compare_classes(self._said, said, self._truth)
        return Loss(
            float((said == self._truth).mean()),
            0.0 - found.difference.value,
            found.loss_bound(self._confidence),
            found.disagree,
            f"{found.lost} rows lost and {found.gained} gained of {found.rows}",
        )


class _RegressionJudge:
    metric = "rmse"

    def __init__(self, original: Model, data: DataSet, confidence: float) -> None:
        import numpy as np

        from dukou.evaluate.predict import predict_numbers

        self._data, self._confidence = data, confidence
        self._truth = data.target.astype(np.float64)
        self._squared = (predict_numbers(original, data.features) - self._truth) ** 2
        self.quality = float(np.sqrt(self._squared.mean()))

    def __call__(self, model: Model, batch_rows: int) -> Loss:
        import numpy as np

        from dukou.evaluate.intervals import iter_resampled_weights
        from dukou.evaluate.predict import predict_numbers

        said = predict_numbers(model, self._data.features, batch_rows=batch_rows)
        squared = (said - self._truth) ** 2
        grown = []
        for weights in iter_resampled_weights(len(squared), _RESAMPLES, seed=0):
            before = np.sqrt(weights @ self._squared)
            after = np.sqrt(weights @ squared)
            grown.append(np.divide(after, before, out=np.ones_like(after), where=before > 0) - 1)
        quality = float(np.sqrt(squared.mean()))
        loss = quality / self.quality - 1 if self.quality else float(quality > 0)
        bound = float(np.quantile(np.concatenate(grown), self._confidence))
        return Loss(quality, loss, max(bound, loss), 0, f"rmse {self.quality:.5g} to {quality:.5g}")


def depends_on_batch(model: Model, data: DataSet) -> bool:
    """Whether a row is answered otherwise in company than alone, beyond the golden tolerance."""
    import numpy as np

    from dukou.evaluate.predict import run_model

    if not model.signature.has_free_rows or data.rows < 2:
        return False
    few = data.take(range(min(_PROBE_ROWS, data.rows)))
    together = run_model(model, few.features, batch_rows=_PROBE_ROWS)
    alone = run_model(model, few.features, batch_rows=1)
    for name, array in together.items():
        if array.dtype.kind == "f":
            if not np.allclose(array, alone[name], rtol=1e-3, atol=1e-4, equal_nan=True):
                return True
        elif not (array == alone[name]).all():
            return True
    return False
