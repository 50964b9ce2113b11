"""Data is looked at before anything is learned from it: what is missing, doubled, constant, leaked.

Knows tables and rules; not models.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dukou.base.errors import InputError
from dukou.evaluate.data import Table

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# How many row numbers a finding names.
_NAMED_ROWS = 20

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class DataRules:
    """What the data may look like; what is beyond is an error, what is only odd a warning.

    Attributes:
        max_missing: the share of a feature column that may be missing.
        max_duplicates: the share of rows that may stand twice.
        max_leak: the share of test rows that may also be training rows.
        min_class_share: of the rarest class, in the training rows.
        ranges: column → (lowest, highest) value that is possible.
    """

    max_missing: float = 0.2
    max_duplicates: float = 0.5
    max_leak: float = 0.01
    min_class_share: float = 0.0
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about the data.

    Attributes:
        check: `missing`, `not-finite`, `duplicates`, `constant`, `class-balance`, `out-of-range`,
            `leak`, `columns`.
        severity: an error stops the line.
        message: a sentence with the numbers.
        rows: the numbers of the first rows that it is about, as `counted` says.
        count: of how many rows it is true.
        counted: `line`: lines of the CSV, as an editor shows them, the header being line 1; `row`: rows
            of a file without lines, from 1.
        source: the file that is meant.
    """

    check: str
    severity: Severity
    message: str
    rows: tuple[int, ...] = ()
    count: int = 0
    counted: str = "line"
    source: str = ""


@dataclass(frozen=True, slots=True)
class DataReport:
    """All findings, with how much was looked at."""

    findings: tuple[Finding, ...]
    rows: int
    columns: int
    classes: Mapping[str, int]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop the line."""
        return tuple(f for f in self.findings if f.severity == "error")

    def require(self) -> None:
        """Raises InputError `data.quality` where there are errors, naming all of them."""
        if self.errors:
            raise InputError("data.quality", "; ".join(f.message for f in self.errors))

    def to_json(self) -> dict[str, Any]:
        """For the run record."""
        return asdict(self)


def check_data(
    train: Table,
    test: Table | None = None,
    *,
    target: str,
    task: str = "classification",
    rules: DataRules | None = None,
) -> DataReport:
    """Looks at the rows to learn from and the rows to judge by.

    Args:
        train: rows to learn from.
        test: rows held out; the leak between the two is looked for where given.
        target: the column to predict.
        task: `classification` counts classes; `regression` wants numbers.
        rules: what is an error.

    Raises:
        InputError: `data.missing-column`, where the target is in neither; `data.text-target`, where a
            regression's is not numbers.
    """
    rules = rules or DataRules()
    findings: list[Finding] = []
    for table in (train, test):
        if table is None:
            continue
        table.split_target(target)
        if task == "regression":
            require_numbers(table, target)
        findings += _check_missing(table, target, rules)
        findings += _check_ranges(table, rules)
        findings += _check_duplicates(table, rules)
    findings += _check_constant(train, target)
    classes: dict[str, int] = {}
    if task == "classification":
        classes = _count_classes(train.columns[target])
        findings += _check_classes(train, test, target, classes, rules)
    if test is not None:
        findings += _check_columns(train, test)
        findings += _check_leak(train, test, rules)
        findings += _check_beyond_training(train, test, target)
    return DataReport(tuple(findings), train.rows, len(train.columns), classes)


def require_numbers(table: Table, target: str) -> None:
    """Refuses a regression's target that is not numbers, with the first row that holds none.

    Raises:
        InputError: `data.text-target`.
    """
    column = table.columns[target]
    if column.dtype.kind in "iufb":
        return
    values = column.reshape(table.rows, -1)[:, 0].tolist()
    row, value = next((i, v) for i, v in enumerate(values) if not _is_number(v))
    raise InputError(
        "data.text-target",
        f"`{table.source}`: column `{target}` holds `{value}` ({say_row(table, row)}), a regression "
        "predicts numbers",
    )


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return value is None
    return True


def missing_mask(column: Array) -> Array:
    """`(rows,)`: where a value is missing (None, empty text or NaN)."""
    import numpy as np

    if column.dtype == object:
        flat = column.reshape(len(column), -1).tolist()
        return np.array([any(value is None or value == "" for value in row) for row in flat])
    if column.dtype.kind == "f":
        return np.asarray(np.isnan(column.reshape(len(column), -1)).any(axis=1))
    return np.zeros(len(column), dtype=bool)


def say_row(table: Table, row: int) -> str:
    """`line 17` of a CSV, `row 16` of a file without lines."""
    return f"{table.counted} {int(table.numbers()[row])}"


def _finding(check: str, severity: Severity, message: str, mask: Array, table: Table) -> Finding:
    import numpy as np

    rows = np.flatnonzero(mask)
    named = tuple(int(number) for number in table.numbers()[rows[:_NAMED_ROWS]])
    where = ", ".join(map(str, named[:5])) + (" …" if len(rows) > 5 else "")
    what = table.counted + "s" * (len(rows) > 1)
    return Finding(
        check,
        severity,
        f"{message} ({what} {where})",
        named,
        len(rows),
        table.counted,
        table.source,
    )


def _check_missing(table: Table, target: str, rules: DataRules) -> list[Finding]:
    import numpy as np

    found = []
    for name, column in table.columns.items():
        gone = missing_mask(column)
        if gone.any():
            share = float(gone.mean())
            severity: Severity = (
                "error" if name == target or share > rules.max_missing else "warning"
            )
            message = f"`{table.source}`: column `{name}` lacks {int(gone.sum())} of {table.rows}"
            found.append(_finding("missing", severity, message, gone, table))
        if column.dtype.kind == "f":
            infinite = np.asarray(np.isinf(column.reshape(len(column), -1)).any(axis=1))
            if infinite.any():
                message = f"`{table.source}`: column `{name}` holds infinity"
                found.append(_finding("not-finite", "error", message, infinite, table))
    return found


def _check_ranges(table: Table, rules: DataRules) -> list[Finding]:
    import numpy as np

    found = []
    for name, (low, high) in rules.ranges.items():
        if name not in table.columns or table.columns[name].dtype.kind not in "iuf":
            continue
        column = table.columns[name].reshape(table.rows, -1)
        outside = np.asarray(((column < low) | (column > high)).any(axis=1))
        if outside.any():
            message = f"`{table.source}`: column `{name}` leaves {low:g} to {high:g}"
            found.append(_finding("out-of-range", "error", message, outside, table))
    return found


def _row_keys(table: Table, names: list[str]) -> list[bytes]:
    """Bytes that are equal where rows are: numbers as float64, text as it is."""
    import numpy as np

    numbers, texts = [], []
    for name in names:
        column = table.columns[name]
        if column.dtype.kind in "iufb":
            # Adding zero makes one of the two zeros.
            numbers.append(column.reshape(table.rows, -1).astype(np.float64) + 0.0)
        else:
            texts.append([str(value).encode() for value in column.reshape(table.rows, -1)[:, 0]])
    block = np.concatenate(numbers, axis=1) if numbers else np.zeros((table.rows, 0))
    keys = [row.tobytes() for row in np.ascontiguousarray(block)]
    for column_texts in texts:
        keys = [key + b"\0" + text for key, text in zip(keys, column_texts, strict=True)]
    return keys


def _check_duplicates(table: Table, rules: DataRules) -> list[Finding]:
    import numpy as np

    seen: set[bytes] = set()
    again = np.zeros(table.rows, dtype=bool)
    for row, key in enumerate(_row_keys(table, list(table.columns))):
        again[row] = key in seen
        seen.add(key)
    if not again.any():
        return []
    severity: Severity = "error" if again.mean() > rules.max_duplicates else "warning"
    message = f"`{table.source}`: {int(again.sum())} of {table.rows} rows stand there twice"
    return [_finding("duplicates", severity, message, again, table)]


def _check_constant(table: Table, target: str) -> list[Finding]:
    found = []
    for name, column in table.columns.items():
        flat = column.reshape(table.rows, -1)
        if table.rows > 1 and flat.shape[1] == 1 and (flat == flat[0]).all():
            severity: Severity = "error" if name == target else "warning"
            message = f"`{table.source}`: column `{name}` is `{flat[0, 0]}` in every row"
            found.append(
                Finding("constant", severity, message, (), table.rows, source=table.source)
            )
    return found


def _count_classes(column: Array) -> dict[str, int]:
    from dukou.evaluate.labels import as_labels

    counts: dict[str, int] = {}
    for label in as_labels(column).tolist():
        counts[label] = counts.get(label, 0) + 1
    return dict(sorted(counts.items()))


def _check_classes(
    train: Table, test: Table | None, target: str, classes: dict[str, int], rules: DataRules
) -> list[Finding]:
    import numpy as np

    from dukou.evaluate.labels import as_labels

    found = []
    rarest = min(classes, key=lambda name: classes[name])
    share = classes[rarest] / train.rows
    fair = 1 / len(classes)
    if share < rules.min_class_share or share < fair / 10:
        severity: Severity = "error" if share < rules.min_class_share else "warning"
        message = (
            f"`{train.source}`: class `{rarest}` has {classes[rarest]} of {train.rows} rows "
            f"({share:.1%}; even would be {fair:.1%})"
        )
        rows = as_labels(train.columns[target]) == rarest
        found.append(_finding("class-balance", severity, message, rows, train))
    if test is not None:
        unseen = ~np.isin(as_labels(test.columns[target]), list(classes))
        if unseen.any():
            message = f"`{test.source}`: {int(unseen.sum())} rows are of a class never trained on"
            found.append(_finding("class-balance", "error", message, unseen, test))
    return found


def _check_columns(train: Table, test: Table) -> list[Finding]:
    apart = sorted(set(train.columns) ^ set(test.columns))
    if not apart:
        return []
    names = ", ".join(f"`{name}`" for name in apart[:10])
    message = f"`{train.source}` and `{test.source}` do not both have {names}"
    return [Finding("columns", "error", message)]


def _check_leak(train: Table, test: Table, rules: DataRules) -> list[Finding]:
    import numpy as np

    names = [name for name in train.columns if name in test.columns]
    known = set(_row_keys(train, names))
    leaked = np.array([key in known for key in _row_keys(test, names)])
    if not leaked.any():
        return []
    severity: Severity = "error" if leaked.mean() > rules.max_leak else "warning"
    message = f"{int(leaked.sum())} of {test.rows} rows of `{test.source}` are training rows too"
    return [_finding("leak", severity, message, leaked, test)]


def _check_beyond_training(train: Table, test: Table, target: str) -> list[Finding]:
    """Test values outside of what was trained on; a warning, since the future is wider."""
    import numpy as np

    found = []
    for name, column in train.columns.items():
        other = test.columns.get(name)
        if name == target or other is None or column.dtype.kind not in "iuf" or column.ndim > 1:
            continue
        if other.dtype.kind not in "iuf" or not np.isfinite(column).any():
            continue
        low, high = np.nanmin(column), np.nanmax(column)
        outside = (other < low) | (other > high)
        if outside.any():
            message = f"`{test.source}`: column `{name}` leaves the {low:g} to {high:g} of training"
            found.append(_finding("out-of-range", "warning", message, outside, test))
    return found
