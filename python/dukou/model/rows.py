"""Rows of a table become what a model takes: by column name, stacked, or reshaped, never guessed.

Knows signatures and arrays; not where the rows came from or who runs the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.model.signature import Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Features = Mapping[str, Array] | Array


def fit_rows(signature: Signature, features: Features) -> dict[str, Array]:
    """The model's inputs for all rows of `features`.

    Args:
        signature: of the model.
        features: columns by name, each with rows on its first axis, or one array for a model with
            one input. Where the names are the model's inputs, each goes to its own (others are left
            out); where the model has one input, the columns are stacked in their order.

    Returns:
        Arrays by input name, of the signature's dtypes, shaped `(rows, …)`.

    Raises:
        InputError: `data.mismatch`, with both sides, where the columns do not fit.
    """
    import numpy as np

    specs = signature.inputs
    if isinstance(features, np.ndarray):
        if len(specs) != 1:
            raise InputError(
                "data.mismatch",
                f"one array was given, the model takes {len(specs)} inputs: {_names(specs)}",
            )
        features = {specs[0].name: features}
    if all(spec.name in features for spec in specs):
        return {spec.name: fit_array(spec, np.asarray(features[spec.name])) for spec in specs}
    if len(specs) == 1 and features:
        return {specs[0].name: fit_array(specs[0], _stack(specs[0], features))}
    missing = [spec.name for spec in specs if spec.name not in features]
    raise InputError(
        "data.mismatch",
        f"the model takes {_names(specs)}; the data has no {', '.join(f'`{m}`' for m in missing)}, "
        f"only {', '.join(f'`{name}`' for name in list(features)[:12])}",
    )


def fit_array(spec: TensorSpec, array: Array) -> Array:
    """`array` with the dtype and the shape of `spec`, its first axis being rows.

    Raises:
        InputError: `data.mismatch`, where no value-preserving reading exists.
    """
    return _shape(spec, _cast(spec, array))


def count_rows(inputs: Mapping[str, Array]) -> int | None:
    """The common length of the first axes; none where they differ or an input is a scalar."""
    lengths = {array.shape[0] if array.ndim else None for array in inputs.values()}
    return lengths.pop() if len(lengths) == 1 else None


def _names(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"`{s.name}` ({s.dtype} {list(s.shape)})" for s in specs)


def _stack(spec: TensorSpec, features: Mapping[str, Array]) -> Array:
    import numpy as np

    columns = []
    for name, column in features.items():
        column = np.asarray(column)
        if column.dtype.kind in "OUS" and spec.dtype != "BYTES":
            raise InputError(
                "data.mismatch",
                f"column `{name}` holds text, input `{spec.name}` takes {spec.dtype}",
                hint="leave the column out, or encode it inside the model",
            )
        columns.append(column[:, None] if column.ndim == 1 else column)
    if len(columns) == 1:
        return np.asarray(columns[0])
    flat = [c.reshape(len(c), -1) for c in columns]
    if len({len(c) for c in flat}) != 1:
        raise InputError("data.mismatch", "the columns have different numbers of rows")
    return np.concatenate(flat, axis=1)


def _cast(spec: TensorSpec, array: Array) -> Array:
    import numpy as np

    wanted = spec.to_numpy()
    if spec.dtype == "BYTES":
        if array.dtype == object:
            return array
        return array.astype(str).astype(object)
    if array.dtype.kind in "OUS":
        try:
            return array.astype(np.float64).astype(wanted)
        except (TypeError, ValueError) as error:
            raise InputError(
                "data.mismatch",
                f"input `{spec.name}` takes {spec.dtype}, the data holds text ({error})",
            ) from error
    if array.dtype == wanted:
        return array
    with np.errstate(all="ignore"):
        cast = array.astype(wanted)
    if wanted.kind in "iub" and not np.array_equal(cast.astype(array.dtype), array):
        raise InputError(
            "data.mismatch",
            f"input `{spec.name}` takes {spec.dtype}, the data's {array.dtype} values do not all fit",
        )
    return cast


def _shape(spec: TensorSpec, array: Array) -> Array:
    wanted, got = spec.shape, array.shape
    if not wanted:
        if array.size == 1:
            return array.reshape(())
    elif len(wanted) == len(got):
        if all(not isinstance(w, int) or w == g for w, g in zip(wanted[1:], got[1:], strict=True)):
            return array
    elif got:
        rest = [d for d in wanted[1:] if isinstance(d, int)]
        count, width = 1, 1
        for extent in rest:
            count *= extent
        for extent in got[1:]:
            width *= extent
        # Only where every extent after the rows is fixed is there one way to fold a row.
        if len(rest) == len(wanted) - 1 and count == width:
            return array.reshape(got[0], *rest)
    raise InputError(
        "data.mismatch",
        f"input `{spec.name}` takes {spec.dtype} {list(wanted)}, the data's rows are {list(got)}",
    )
