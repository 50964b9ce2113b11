"""A model answers rows, here and now, by ONNX Runtime; its answers are read as classes or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.evaluate.labels import as_labels, sort_labels
from dukou.model.rows import count_rows, fit_rows

if TYPE_CHECKING:
    import numpy as np

    from dukou.model.model import Model
    from dukou.model.rows import Features
    from dukou.model.signature import TensorSpec

    Array = np.ndarray[Any, Any]

BATCH_ROWS = 256
_FLOATS = ("FP16", "FP32", "FP64")


@dataclass(frozen=True, slots=True)
class Predictions:
    """What a classifier said of each row.

    Attributes:
        labels: the classes, in the model's order.
        chosen: `(rows,)` int64: the index of the class in `labels`.
        scores: `(rows, classes)` float64: larger is likelier; none where the model gives none.
        probabilities: the same where each row is a distribution.
    """

    labels: tuple[str, ...]
    chosen: Array
    scores: Array | None
    probabilities: Array | None

    def names(self) -> Array:
        """`(rows,)` of text: the class of each row."""
        import numpy as np

        return np.array(self.labels, dtype=str)[self.chosen]


def run_model(
    model: Model, features: Features, *, batch_rows: int = BATCH_ROWS, threads: int = 1
) -> dict[str, Array]:
    """The model's raw answers for all rows.

    Args:
        model: whose graph runs.
        features: rows, as columns by name or one array (`dukou.model.rows`).
        batch_rows: how many go in at once; a graph with a fixed first extent gets that many.
        threads: of the runtime.

    Returns:
        Arrays by output name, rows on the first axis.

    Raises:
        InputError: `data.mismatch`, where the rows do not fit or the model refuses them.
    """
    import numpy as np
    import onnxruntime

    inputs = fit_rows(model.signature, features)
    rows = count_rows(inputs)
    if not rows:
        raise InputError("data.empty", "there are no rows to ask the model about")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        str(model.graph), options, providers=["CPUExecutionProvider"]
    )
    names = [spec.name for spec in model.signature.outputs]
    fixed = [s.shape[0] for s in model.signature.inputs if s.shape and isinstance(s.shape[0], int)]
    step = int(fixed[0]) if fixed else batch_rows
    parts: dict[str, list[Array]] = {name: [] for name in names}
    for start in range(0, rows, step):
        part = {name: array[start : start + step] for name, array in inputs.items()}
        short = min(step, rows - start)
        if fixed and short < step:
            # The graph takes exactly `step` rows: the last one is repeated and cut off again.
            part = {
                name: np.concatenate([array, np.repeat(array[-1:], step - short, axis=0)])
                for name, array in part.items()
            }
        for name, answer in zip(names, _run(session, names, part), strict=True):
            parts[name].append(answer[:short] if answer.ndim else answer.reshape(1))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _run(session: Any, names: list[str], inputs: Mapping[str, Array]) -> list[Array]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        answers: list[Array] = session.run(names, dict(inputs))
    except (state.Fail, state.InvalidArgument, state.RuntimeException, RuntimeError) as error:
        said = " ".join(str(error).split())[:300]
        raise InputError("data.mismatch", f"the model refuses the rows: {said}") from error
    return answers


def predict_classes(
    model: Model, features: Features, *, batch_rows: int = BATCH_ROWS, threads: int = 1
) -> Predictions:
    """The model's answers, read as classes; see `read_classes`."""
    return read_classes(model, run_model(model, features, batch_rows=batch_rows, threads=threads))


def read_classes(model: Model, outputs: Mapping[str, Array]) -> Predictions:
    """Reads a classifier's outputs: a label per row, a number per class, or one number for two.

    Raises:
        InputError: `data.mismatch`, where no output can be read so.
    """
    import numpy as np

    said_by, scored_by = find_label_output(model, outputs), find_number_output(model, outputs)
    label = None if said_by is None else outputs[said_by.name].reshape(-1)
    numbers = None
    if scored_by is not None:
        numbers = outputs[scored_by.name].reshape(len(outputs[scored_by.name]), -1)
    if label is None and numbers is None:
        said = ", ".join(f"`{s.name}` {s.dtype} {list(s.shape)}" for s in model.signature.outputs)
        raise InputError(
            "data.mismatch", f"no output says a class or a number per class, only {said}"
        )
    labels = model.card.labels
    if numbers is not None:
        numbers, probabilities = _as_scores(numbers, is_raw=label is None)
        if len(labels) != numbers.shape[1]:
            labels = tuple(map(str, range(numbers.shape[1])))
    else:
        probabilities = None
    if label is None:
        assert numbers is not None  # noqa: S101 - one of the two is there
        return Predictions(labels, numbers.argmax(axis=1), numbers, probabilities)
    said_labels = as_labels(label)
    if numbers is None:
        labels = labels or sort_labels(set(said_labels.tolist()))
    unknown = set(said_labels.tolist()) - set(labels)
    if unknown:
        names = ", ".join(f"`{name}`" for name in sort_labels(unknown)[:5])
        raise InputError(
            "data.mismatch",
            f"the model answers {names}, its classes are {', '.join(f'`{n}`' for n in labels[:20])}",
        )
    index = {name: i for i, name in enumerate(labels)}
    chosen = np.array([index[name] for name in said_labels.tolist()], dtype=np.int64)
    return Predictions(labels, chosen, numbers, probabilities)


def predict_numbers(
    model: Model, features: Features, *, batch_rows: int = BATCH_ROWS, threads: int = 1
) -> Array:
    """`(rows,)` float64: a regressor's answers.

    Raises:
        InputError: `data.mismatch`, where no output is one number a row.
    """
    import numpy as np

    outputs = run_model(model, features, batch_rows=batch_rows, threads=threads)
    for spec in model.signature.outputs:
        array = outputs[spec.name]
        if spec.dtype != "BYTES" and array.size == len(array):
            return array.reshape(-1).astype(np.float64)
    said = ", ".join(f"`{s.name}` {list(s.shape)}" for s in model.signature.outputs)
    raise InputError("data.mismatch", f"no output is one number a row, only {said}")


def find_label_output(model: Model, outputs: Mapping[str, Array]) -> TensorSpec | None:
    """The output that says a class a row, where one does."""
    for spec in model.signature.outputs:
        array = outputs[spec.name]
        if spec.dtype in ("INT32", "INT64", "BYTES", "BOOL") and array.size == len(array):
            return spec
    return None


def find_number_output(model: Model, outputs: Mapping[str, Array]) -> TensorSpec | None:
    """The output that has a number a class, or one for two classes, where one has."""
    preferred = model.golden.classes if model.golden else None
    specs = sorted(model.signature.outputs, key=lambda s: s.name != preferred)
    for spec in specs:
        if spec.dtype in _FLOATS and outputs[spec.name].ndim in (1, 2):
            return spec
    return None


def _as_scores(numbers: Array, *, is_raw: bool) -> tuple[Array, Array | None]:
    """Scores per class, and probabilities where they are or where logits can be made so."""
    import numpy as np
    from scipy.special import expit, softmax

    scores = numbers.astype(np.float64)
    if scores.shape[1] == 1:
        inside = bool((scores >= 0).all() and (scores <= 1).all())
        positive = scores if inside else expit(scores)
        both = np.concatenate([1 - positive, positive], axis=1)
        return both, both if inside or is_raw else None
    if (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1.0, atol=1e-3):
        return scores, scores
    if is_raw:
        return scores, softmax(scores, axis=1)
    return scores, None
