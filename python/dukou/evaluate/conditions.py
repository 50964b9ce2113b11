"""Parts of the rows: those that a project names, those of the classes, and those found by themselves.

sex                     every value of it (every quarter, for many numbers)
age > 60                a comparison: > >= < <= == !=
age > 60 and sex == F   several, all of which hold
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.data import DataSet

    Array = np.ndarray[Any, Any]

# A found part, and the rest beside it, has at least so many rows.
FEWEST_ROWS = 20
# Numbers with no more distinct values than this are parted by value, others by quarters.
_FEW_VALUES = 5
_MOST_VALUES = 20
_COMPARISON = re.compile(r"(?P<column>.+?)\s*(?P<relation>>=|<=|==|!=|=|>|<)\s*(?P<value>.+)\Z")
_SAID = {">=": "≥", "<=": "≤", "==": "=", "=": "=", "!=": "≠", ">": ">", "<": "<"}


@dataclass(frozen=True, slots=True)
class Part:
    """Some of the rows.

    Attributes:
        name: as a person would say it.
        origin: `named`, `class` or `found`.
        mask: `(rows,)` of truth values.
    """

    name: str
    origin: str
    mask: Array


def find_parts(
    data: DataSet, *, named: Sequence[str] = (), classes: bool, allow_empty: bool = False
) -> list[Part]:
    """All parts of the rows that are worth a look.

    Args:
        data: the rows.
        named: what the project asks for.
        classes: whether each class is a part.
        allow_empty: whether a named part may have no rows.

    Raises:
        InputError: `evaluate.unknown-slice`, `evaluate.empty-slice`.
    """
    columns = _columns(data)
    parts = parse_parts(columns, data.source, named, allow_empty=allow_empty)
    if classes:
        parts += _by_class(data)
    said = {part.mask.tobytes() for part in parts}
    for name, column in data.features.items():
        for part in _by_value(name, column, "found"):
            rows = int(part.mask.sum())
            # The same rows under another name would be counted twice.
            if min(rows, data.rows - rows) >= FEWEST_ROWS and part.mask.tobytes() not in said:
                parts.append(part)
    return parts


def check_parts(data: DataSet, named: Sequence[str], *, allow_empty: bool = False) -> None:
    """Refuses what a project asks for and cannot have, before anything is trained.

    Raises:
        InputError: `evaluate.unknown-slice`, `evaluate.empty-slice`.
    """
    parse_parts(_columns(data), data.source, named, allow_empty=allow_empty)


def parse_parts(
    columns: Mapping[str, Array], source: str, named: Sequence[str], *, allow_empty: bool = False
) -> list[Part]:
    """The parts that a project names.

    Raises:
        InputError: `evaluate.unknown-slice` for a column that there is not, or what is no comparison;
            `evaluate.empty-slice` for one without rows.
    """
    parts = []
    for text in map(str.strip, named):
        if text in columns:
            parts += _by_value(text, columns[text], "named")
            continue
        terms = [_compare(columns, source, text, term) for term in re.split(r"\s+and\s+", text)]
        mask = terms[0][1]
        for _, more in terms[1:]:
            mask = mask & more
        if not mask.any() and not allow_empty:
            _refuse_empty(columns, source, text, len(mask))
        parts.append(Part(" and ".join(name for name, _ in terms), "named", mask))
    return parts


def _columns(data: DataSet) -> dict[str, Array]:
    return {**data.features, data.target_name: data.target}


def _compare(columns: Mapping[str, Array], source: str, text: str, term: str) -> tuple[str, Array]:
    """The name and the rows of one comparison."""
    import numpy as np

    found = _COMPARISON.match(term.strip())
    name = found["column"].strip() if found else term.strip()
    if name not in columns:
        there = ", ".join(f"`{column}`" for column in list(columns)[:40])
        raise InputError(
            "evaluate.unknown-slice",
            f"`{text}` names the column `{name}`; `{source}` has {there}",
        )
    if found is None:
        raise InputError(
            "evaluate.unknown-slice",
            f"`{text}`: `{name}` alone stands for all its values and cannot be joined by `and`",
        )
    column = columns[name].reshape(len(columns[name]), -1)[:, 0]
    relation, value = found["relation"], found["value"].strip().strip("\"'")
    said = f"{name} {_SAID[relation]} {value}"
    if column.dtype.kind in "iufb":
        try:
            number = float(value)
        except ValueError:
            raise InputError(
                "evaluate.unknown-slice",
                f"`{text}` compares `{name}` with `{value}`; `{name}` holds numbers",
            ) from None
        numbers = column.astype(np.float64)
        with np.errstate(invalid="ignore"):
            masks = {
                ">": numbers > number,
                ">=": numbers >= number,
                "<": numbers < number,
                "<=": numbers <= number,
                "=": numbers == number,
                "!=": (numbers != number) & ~np.isnan(numbers),
            }
        return said, masks["=" if relation == "==" else relation]
    if relation not in ("=", "==", "!="):
        raise InputError(
            "evaluate.unknown-slice",
            f"`{text}` compares `{name}` by `{relation}`; `{name}` holds text, which is `==` or `!=`",
        )
    same = np.array([str(cell) == value for cell in column.tolist()])
    return said, ~same if relation == "!=" else same


def _refuse_empty(columns: Mapping[str, Array], source: str, text: str, rows: int) -> None:
    import numpy as np

    names = [name for name in columns if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)]
    there = []
    for name in names[:3]:
        column = columns[name]
        if column.dtype.kind in "iuf" and np.isfinite(column).any():
            there.append(f"`{name}` goes from {np.nanmin(column):g} to {np.nanmax(column):g}")
        else:
            values = sorted({str(cell) for cell in column.reshape(-1).tolist()})[:8]
            there.append(f"`{name}` is {', '.join(f'`{value}`' for value in values)}")
    raise InputError(
        "evaluate.empty-slice",
        f"`{text}` has none of the {rows} held-out rows of `{source}`; there {' and '.join(there)}",
    )


def _by_class(data: DataSet) -> list[Part]:
    from dukou.evaluate.labels import as_labels, sort_labels

    labels = as_labels(data.target)
    return [
        Part(f"class {label}", "class", labels == label)
        for label in sort_labels(set(labels.tolist()))
    ]


def _by_value(name: str, column: Array, origin: str) -> list[Part]:
    """A part a value for text and few numbers, else quarters; what is missing is a part too."""
    import numpy as np

    from dukou.evaluate.checks import missing_mask

    if column.ndim > 1 and column.size != len(column):
        return []
    column = column.reshape(-1)
    missing = missing_mask(column)
    parts = [Part(f"{name} is missing", origin, missing)] if missing.any() else []
    if column.dtype.kind not in "iufb":
        texts = np.array([str(cell) for cell in column.tolist()], dtype=object)
        values, counts = np.unique(texts[~missing], return_counts=True)
        most = sorted(zip(-counts, values, strict=True))[:_MOST_VALUES]
        return parts + [
            Part(f"{name} = {value}", origin, (texts == value) & ~missing)
            for value in sorted(value for _, value in most)
        ]
    numbers = column.astype(np.float64)
    values = np.unique(numbers[~missing])
    if len(values) <= _FEW_VALUES:
        return parts + [Part(f"{name} = {value:g}", origin, numbers == value) for value in values]
    cuts = np.unique(np.quantile(numbers[~missing], [0.25, 0.5, 0.75]))
    # A cut at the largest value leaves nothing above it.
    cuts = cuts[cuts < values[-1]]
    for low, high in zip([None, *cuts], [*cuts, None], strict=True):
        mask = ~missing
        if low is not None:
            mask = mask & (numbers > low)
        if high is not None:
            mask = mask & (numbers <= high)
        if mask.any():
            parts.append(Part(_say_range(name, low, high), origin, mask))
    return parts


def _say_range(name: str, low: float | None, high: float | None) -> str:
    if low is None:
        return f"{name} ≤ {high:.4g}"
    if high is None:
        return f"{name} > {low:.4g}"
    return f"{low:.4g} < {name} ≤ {high:.4g}"
