"""What the rows that a model was trained on looked like: the reference that drift is measured against.

It travels in the artifact (`profile.json`, `spec/artifact.md`), as counts in bins: no row of the
training data can be read from it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from dukou.model.signature import Signature

    Array = np.ndarray[Any, Any]

FORMAT = 1
# Bins of a number: quantiles of the reference, so that each holds as many rows.
BINS = 10
# Values of a text that are counted one by one; the rest is `other`.
_VALUES = 30
# A text that fewer rows have may be one person's: it is counted with the others, and does not travel.
_FEWEST_ROWS = 5
OTHER = "\0other"


def make_profile(
    signature: Signature,
    columns: Mapping[str, Array],
    predicted: Sequence[str] | Array | None = None,
    *,
    without: Collection[str] = (),
) -> dict[str, Any]:
    """The profile of rows.

    Args:
        signature: of the model: it says which input each column becomes.
        columns: `(rows,)` each, by name, in the order of the training data.
        predicted: what the model says of rows that it was not trained on, one class a row, or an
            array of numbers.
        without: columns of which nothing may travel.

    Returns:
        A document of plain values.
    """
    features = []
    inputs = [spec.name for spec in signature.inputs]
    alone = len(inputs) == 1 and inputs[0] not in columns
    for index, (name, column) in enumerate(columns.items()):
        where = {"input": inputs[0], "index": index} if alone else {"input": name, "index": 0}
        if (not alone and name not in inputs) or name in without:
            continue
        features.append({"name": name, **where, **describe_column(column)})
    document: dict[str, Any] = {"format": FORMAT, "features": features, "predicted": None}
    if predicted is not None:
        import numpy as np

        document["predicted"] = (
            describe_column(predicted)
            if isinstance(predicted, np.ndarray) and predicted.dtype.kind == "f"
            else _count_values(list(predicted))
        )
    return document


def describe_column(column: Array) -> dict[str, Any]:
    """Kind, bins and counts of one column of the reference."""
    import numpy as np

    if column.dtype.kind in "iufb":
        values = column.astype(np.float64)
        missing = int(np.isnan(values).sum())
        edges = bin_edges(values[~np.isnan(values)])
        return {
            "kind": "number",
            "edges": edges,
            "counts": count_numbers(values, edges),
            "missing": missing,
            "low": float(np.nanmin(values)) if missing < len(values) else None,
            "high": float(np.nanmax(values)) if missing < len(values) else None,
        }
    texts = [_text(value) for value in column.tolist()]
    return {"kind": "text", **_count_values(texts, fewest=_FEWEST_ROWS)}


def bin_edges(values: Array) -> list[float]:
    """The upper ends of all bins but the last; few values get a bin each."""
    import numpy as np

    if not len(values):
        return []
    distinct = np.unique(values)
    if len(distinct) == 1:
        # Another value than the only one is drift, on either side.
        return [float(np.nextafter(distinct[0], -np.inf)), float(distinct[0])]
    if len(distinct) <= BINS:
        return [float(v) for v in (distinct[:-1] + distinct[1:]) / 2]
    cuts = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    return [float(cut) for cut in cuts]


def count_numbers(values: Array, edges: Sequence[float]) -> list[int]:
    """How many values lie in each bin; what is missing is in none."""
    import numpy as np

    there = values[~np.isnan(values)]
    places = np.searchsorted(np.asarray(edges), there, side="left")
    return [int(count) for count in np.bincount(places, minlength=len(edges) + 1)]


def count_texts(values: Sequence[str], known: Sequence[str]) -> list[int]:
    """How many are each of `known`; last, how many are none of them."""
    counts = dict.fromkeys(known, 0)
    other = 0
    for value in values:
        if value in counts:
            counts[value] += 1
        else:
            other += 1
    return [*counts.values(), other]


def _count_values(values: list[str], *, fewest: int = 1) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    often = [value for value in counts if counts[value] >= fewest]
    most = sorted(often, key=lambda value: (-counts[value], value))[:_VALUES]
    return {"values": most, "counts": count_texts(values, most)}


def _text(value: object) -> str:
    return "" if value is None else str(value)
