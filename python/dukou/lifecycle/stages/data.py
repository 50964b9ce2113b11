"""Data: read, looked at, and cut in two: rows to learn from and rows to judge by."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.evaluate.checks import require_numbers
from dukou.lifecycle.cache import CAPTURED
from dukou.lifecycle.runner import digest_of
from dukou.lifecycle.stage import Line

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.data import Table

    Array = np.ndarray[Any, Any]

TRAIN, TEST = "train.csv", "test.csv"
# More numbers than this, some of them only once, are hardly classes.
_MANY_CLASSES = 20
_TARGET_BINS = 20


class DataStage:
    """Leaves `train.csv` and `test.csv`, seeded; classes have the same share in both."""

    name = "data"
    needs = ()
    revision = 2
    cached = True

    def depends(self, line: Line) -> Mapping[str, Any]:
        """The files and all of `[data]`, but for where the files lie."""
        data = line.project.data
        files = [f for f in (data.path, data.held_out) if f is not None]
        rules = data.model_dump(exclude={"path", "held_out", "reference", "golden"})
        return {
            "files": [digest_of([line.project.path(file)]) for file in files],
            "rules": rules,
            "task": line.project.model.task,
        }

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:
        """Raises InputError `data.*` with the rows, where the data is not what it should be, and
        `evaluate.*-slice` for a slice that cannot be made of it.
        """
        from dukou.evaluate.checks import DataRules, check_data
        from dukou.evaluate.conditions import check_parts
        from dukou.evaluate.data import load_table

        data, task = line.project.data, line.project.model.task
        path = line.project.path(data.path)
        table = load_table(path)
        table.split_target(data.target, drop=data.drop)
        if table.rows < data.min_rows:
            raise InputError(
                "data.quality",
                f"`{path}` has {table.rows} rows, `data.min_rows` is {data.min_rows}",
            )
        rules = DataRules(
            max_missing=data.max_missing, max_duplicates=data.max_duplicates, ranges=data.ranges
        )
        if data.held_out is not None:
            train, test = table, load_table(line.project.path(data.held_out))
        else:
            learn, judge = split_rows(table, data.target, data.test_fraction, data.seed, task)
            train, test = table.take(learn), table.take(judge)
        report = check_data(train, test, target=data.target, task=task, rules=rules)
        # Here, and not when everything is trained: a slice that cannot be is a mistake in the project.
        held_out = test.split_target(data.target, drop=data.drop)
        check_parts(held_out, line.project.evaluate.slices, allow_empty=line.champion is not None)
        facts = {
            "rows": train.rows + test.rows,
            "train_rows": train.rows,
            "test_rows": test.rows,
            "features": [n for n in table.columns if n != data.target and n not in data.drop],
            "counts": dict(report.classes),
            "target": None if task == "classification" else describe_target(train, data.target),
            "findings": report.to_json()["findings"],
            "digest": table.digest,
            # Callers' rows, in a retraining: they do not stay (`dukou.lifecycle.privacy`).
            CAPTURED: path.is_relative_to(line.home / "cache"),
        }
        line.noted[self.name] = facts
        report.require()
        for file, rows in ((TRAIN, train), (TEST, test)):
            write_csv(rows, into / file, drop=data.drop)
        return facts

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        odd = len(facts["findings"])
        return (
            f"{facts['rows']:,} rows, {len(facts['features'])} features: {facts['train_rows']:,} to "
            f"learn from, {facts['test_rows']:,} held out"
            + (f"; {odd} warning{'s' * (odd > 1)}, see the report" if odd else "")
        )


def split_rows(
    table: Table, target: str, fraction: float, seed: int, task: str = "classification"
) -> tuple[Array, Array]:
    """Row numbers to learn from and to judge by, each class in the same share in both.

    Raises:
        InputError: `data.quality`, where a class is too small to be in both; `data.text-target`, where
            a regression's target is not numbers.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    from dukou.evaluate.labels import as_labels

    if task != "classification":
        require_numbers(table, target)
        learn, judge = train_test_split(
            np.arange(table.rows), test_size=fraction, random_state=seed
        )
        return np.sort(learn), np.sort(judge)
    labels = as_labels(table.columns[target])
    names, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        rare = names[int(counts.argmin())]
        raise InputError(
            "data.quality",
            f"class `{rare}` has one row, and needs one to learn from and one to judge by",
            hint='is a number to be predicted? `[model] task = "regression"`'
            if table.columns[target].dtype.kind in "iuf" and len(names) > _MANY_CLASSES
            else None,
        )
    try:
        learn, judge = train_test_split(
            np.arange(table.rows), test_size=fraction, random_state=seed, stratify=labels
        )
    except ValueError as error:
        raise InputError(
            "data.quality",
            f"{table.rows} rows of {len(names)} classes cannot be cut with "
            f"`data.test_fraction` = {fraction:g}: {error}",
        ) from None
    return np.sort(learn), np.sort(judge)


def describe_target(table: Table, target: str) -> dict[str, Any]:
    """A histogram of the numbers to predict: `edges` (one more than `counts`), `counts`, `mean`."""
    import numpy as np

    values = table.columns[target].astype(np.float64)
    counts, edges = np.histogram(values, bins=_TARGET_BINS)
    return {"edges": edges.tolist(), "counts": counts.tolist(), "mean": float(values.mean())}


def write_csv(table: Table, path: Path, *, drop: list[str] | None = None) -> None:
    """Writes columns as a CSV that `load_table` reads back to the same values.

    Raises:
        InputError: `data.unreadable`, for columns that hold more than one value a row.
    """
    columns = {n: c for n, c in table.columns.items() if n not in (drop or ())}
    for name, column in columns.items():
        if column.ndim != 1:
            raise InputError(
                "data.unreadable",
                f"column `{name}` of `{table.source}` holds {list(column.shape[1:])} values a row; "
                "the training contract hands over rows of single values",
            )
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        cells = [_cells(column) for column in columns.values()]
        writer.writerows(zip(*cells, strict=True))


def _cells(column: Array) -> list[str]:
    if column.dtype.kind == "f":
        return ["" if value != value else repr(value) for value in column.tolist()]
    return ["" if value is None else str(value) for value in column.tolist()]
