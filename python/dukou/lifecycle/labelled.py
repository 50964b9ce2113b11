"""Captured requests whose truth is known, as rows of the project's data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Labelled requests in the order of time.

    Attributes:
        total: labels that there are of the model, also of requests that are not kept any more.
        times: ISO 8601 in UTC, a row each.
        keys: `REQUEST_ID:ROW`, a row each.
        versions: which version answered.
        said: what it said, as text; of a regression as numbers.
        truth: what was right, likewise.
        features: by the project's columns.
        source: where they come from, for messages.
    """

    total: int
    times: Sequence[str]
    keys: Sequence[str]
    versions: Array
    said: Array
    truth: Array
    features: dict[str, Array]
    source: str

    @property
    def count(self) -> int:
        """How many rows."""
        return len(self.keys)


def count_labelled(home: Path, model: str) -> int:
    """How many labels there are of the model. Cheap."""
    from dukou.monitor.store import CaptureStore

    return CaptureStore(home, model).count_labels()


def load_labelled(
    home: Path,
    model: str,
    *,
    features: Sequence[str],
    labels: Sequence[str],
    newest: int,
    task: str = "classification",
) -> LabelledRows:
    """The newest labelled requests of the model; of a regression those whose label is a number.

    Args:
        home: DUKOU_HOME.
        model: its name.
        features: the columns of the project's data, in order.
        labels: the model's classes, where known.
        newest: how many rows at most.
        task: `classification` or `regression`.

    Raises:
        InputError: `data.mismatch`, where what was captured does not fit the columns.
    """
    import numpy as np

    from dukou.monitor.store import CaptureStore

    store = CaptureStore(home, model)
    total = store.count_labels()
    labelled = store.read_labelled(newest_rows=newest)
    requests, truth = labelled.requests, labelled.truth
    if task == "regression":
        from dukou.monitor.quality import as_numbers

        numbers = as_numbers(truth)
        good = np.flatnonzero(np.isfinite(numbers))
        requests, truth = requests.take(good), numbers[good]
    columns = _columns(requests.inputs, features, model) if requests.rows else {}
    said: Any = []
    if requests.rows:
        said = requests.numbers() if task == "regression" else requests.said(labels)
    return LabelledRows(
        total=total,
        times=requests.times,
        keys=requests.keys,
        versions=requests.versions,
        said=np.array(said if said is not None else [""] * requests.rows, dtype=object),
        truth=truth,
        features=columns,
        source=f"labelled requests of `{model}`",
    )


def _columns(inputs: dict[str, Array], features: Sequence[str], model: str) -> dict[str, Array]:
    """The tensors as columns: by name where the model takes each by itself, else in their order."""
    if all(name in inputs for name in features):
        return {name: inputs[name].reshape(len(inputs[name]), -1)[:, 0] for name in features}
    if len(inputs) == 1:
        array = next(iter(inputs.values()))
        flat = array.reshape(len(array), -1)
        if flat.shape[1] == len(features):
            return {name: flat[:, index] for index, name in enumerate(features)}
    came = ", ".join(f"`{name}` {list(array.shape[1:])}" for name, array in inputs.items())
    raise InputError(
        "data.mismatch",
        f"the requests of `{model}` carry {came}, the project's data has {len(features)} columns",
    )
