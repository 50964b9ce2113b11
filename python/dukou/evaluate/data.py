"""Data comes in: CSV, NPZ or Parquet become columns of arrays, with the row named where it cannot be.

Knows files and columns; not models.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# Cells that say that there is no value.
MISSING_WORDS = frozenset({"", "NA", "N/A", "NaN", "nan", "NULL", "null", "None"})
# Tried in order. UTF-8 refuses what is not UTF-8; GB 18030 holds GBK and GB 2312.
_ENCODINGS = ("utf-8-sig", "gb18030")


@dataclass(frozen=True, slots=True)
class Table:
    """Columns by name, all with the same number of rows on their first axis.

    Attributes:
        columns: numbers as int64 or float64 (NaN where missing), text as object (None where
            missing); from NPZ whatever was saved, of any rank.
        source: where it was read from, for messages.
        digest: `sha256:` of the file; empty for a table made in memory.
        lines: `(rows,)`: the line of the CSV that each row ends on, the header being line 1; none for
            what has no lines.
        places: `(rows,)`: the row of the file that each is, where rows were taken out of it.
    """

    columns: Mapping[str, Array]
    source: str = "data"
    digest: str = ""
    lines: Array | None = None
    places: Array | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def take(self, rows: Array | Sequence[int]) -> Table:
        """These rows, in this order; digest and row numbers stay those of the whole file."""
        import numpy as np

        chosen = np.asarray(rows, dtype=np.int64)
        return Table(
            {n: c[chosen] for n, c in self.columns.items()},
            self.source,
            self.digest,
            None if self.lines is None else self.lines[chosen],
            chosen if self.places is None else self.places[chosen],
        )

    @property
    def counted(self) -> str:
        """What `numbers` counts: `line` of a CSV, else `row`."""
        return "row" if self.lines is None else "line"

    def numbers(self) -> Array:
        """`(rows,)`: each row's number as a person finds it: the line in the CSV, where an editor shows
        it (the header is line 1), else the row of the file, counted from 1.
        """
        import numpy as np

        if self.lines is not None:
            return self.lines
        return (np.arange(self.rows) if self.places is None else self.places) + 1

    def split_target(self, target: str, *, drop: Sequence[str] = ()) -> DataSet:
        """Features and the column to predict.

        Raises:
            InputError: `data.missing-column`, listing the columns, with the nearest.
        """
        for name in (target, *drop):
            if name not in self.columns:
                names = ", ".join(f"`{column}`" for column in list(self.columns)[:40])
                if len(self.columns) > 40:
                    names += f" and {len(self.columns) - 40} more"
                raise InputError(
                    "data.missing-column",
                    f"`{self.source}` has no column `{name}`, only {names}",
                    hint=_did_you_mean(name, list(self.columns)),
                )
        features = {n: c for n, c in self.columns.items() if n != target and n not in drop}
        return DataSet(features, self.columns[target], target, self.source, self.digest)


@dataclass(frozen=True, slots=True)
class DataSet:
    """Features with the truth.

    Attributes:
        features: columns by name, rows on the first axis.
        target: `(rows,)`: classes as integers or text, or numbers.
        target_name: the column that it was.
        source: where it was read from.
        digest: `sha256:` of the file.
    """

    features: Mapping[str, Array]
    target: Array
    target_name: str = "target"
    source: str = "data"
    digest: str = ""

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.target)

    def take(self, rows: Array | Sequence[int]) -> DataSet:
        """These rows, in this order."""
        import numpy as np

        chosen = np.asarray(rows, dtype=np.int64)
        features = {name: column[chosen] for name, column in self.features.items()}
        return DataSet(features, self.target[chosen], self.target_name, self.source, self.digest)


def _did_you_mean(name: str, columns: list[str]) -> str | None:
    folded = {column.casefold(): column for column in columns}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.5)
    return f"did you mean `{folded[near[0]]}`?" if near else None


def load_table(path: str | os.PathLike[str]) -> Table:
    """Reads a table; what it is shows in its content, not its name.

    Args:
        path: CSV (comma, semicolon or tab; UTF-8 with or without mark, GB 18030) with a header;
            NPZ with arrays of equal first extent; Parquet, where `pyarrow` is installed.

    Raises:
        InputError: `data.unreadable` with the row, `data.empty`, `formats.not-found`,
            `formats.missing-extra`.
    """
    import numpy as np

    file = Path(path)
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise InputError("formats.not-found", f"there is nothing at `{file}`") from error
    except OSError as error:
        raise InputError("data.unreadable", f"`{file}` cannot be read: {error.strerror}") from error
    lines = None
    if content.startswith(b"PAR1"):
        columns = _read_parquet(file, content)
    elif content.startswith(b"PK\x03\x04"):
        columns = _read_npz(file, content)
    else:
        header, rows = read_cells(content, str(file))
        columns = _parse_columns(header, rows)
        lines = np.array([number for number, _ in rows], dtype=np.int64)
    table = Table(columns, str(file), f"sha256:{hashlib.sha256(content).hexdigest()}", lines)
    if not table.rows:
        raise InputError("data.empty", f"`{file}` has no rows")
    return table


def parse_csv(content: bytes, source: str) -> dict[str, Array]:
    """Columns of a CSV with a header.

    Raises:
        InputError: `data.unreadable`, naming the row (1 is the header) and what is wrong with it.
    """
    return _parse_columns(*read_cells(content, source))


def _parse_columns(header: list[str], rows: list[tuple[int, list[str]]]) -> dict[str, Array]:
    cells_by_column = list(zip(*(cells for _, cells in rows), strict=True))
    if not cells_by_column:
        cells_by_column = [()] * len(header)
    return {name: _parse_column(c) for name, c in zip(header, cells_by_column, strict=True)}


def read_cells(content: bytes, source: str) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """A CSV as text: the header, and each row's number in the file (1 is the header) with its cells.

    Raises:
        InputError: `data.empty`, `data.unreadable`.
    """
    text = _decode(content, source)
    rows = _read_rows(text, source)
    if not rows:
        raise InputError("data.empty", f"`{source}` is empty")
    header = [name.strip() for name in rows[0][1]]
    if len(set(header)) != len(header):
        twice = sorted({name for name in header if header.count(name) > 1})
        raise InputError(
            "data.unreadable",
            f"`{source}` row 1: the header has {', '.join(f'`{n}`' for n in twice)} twice",
        )
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise InputError(
                "data.unreadable",
                f"`{source}` row {number} has {len(cells)} cells, the header has {len(header)}",
            )
    return header, rows[1:]


def _decode(content: bytes, source: str) -> str:
    if b"\0" in content[:4096]:
        raise InputError(
            "data.unreadable",
            f"`{source}` is neither CSV, NPZ nor Parquet: it holds binary zeros",
        )
    for encoding in _ENCODINGS:
        try:
            return content.decode(encoding)
        except UnicodeDecodeError as error:
            last = error
    line = content[: last.start].count(b"\n") + 1
    raise InputError(
        "data.unreadable", f"`{source}` row {line}: the text is neither UTF-8 nor GB 18030"
    )


def _read_rows(text: str, source: str) -> list[tuple[int, list[str]]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows.extend((reader.line_num, cells) for cells in reader if cells)
    except csv.Error as error:
        raise InputError("data.unreadable", f"`{source}` row {reader.line_num}: {error}") from error
    return rows


def _parse_column(cells: Sequence[str]) -> Array:
    """int64 where every cell is a whole number, float64 where every one is a number, else text."""
    import numpy as np

    stripped = [cell.strip() for cell in cells]
    missing = [cell in MISSING_WORDS for cell in stripped]
    if not any(missing):
        # NumPy would take `1_000`; a person would not.
        plain = not any("_" in cell for cell in stripped)
        for dtype in (np.int64, np.float64):
            try:
                if plain:
                    return np.array(stripped, dtype=dtype)
            except (ValueError, OverflowError):
                continue
    elif not all(missing):
        try:
            return np.array(
                ["nan" if gone else cell for cell, gone in zip(stripped, missing, strict=True)],
                dtype=np.float64,
            )
        except ValueError:
            pass
    else:
        return np.full(len(cells), np.nan)
    text = [None if gone else cell for cell, gone in zip(cells, missing, strict=True)]
    return np.array(text, dtype=object)


def _read_npz(file: Path, content: bytes) -> dict[str, Array]:
    import zipfile

    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError("data.unreadable", f"`{file}` is not a readable NPZ: {said}") from error
    lengths = {name: (len(a) if a.ndim else None) for name, a in columns.items()}
    if len(set(lengths.values())) > 1 or None in lengths.values():
        shapes = ", ".join(f"`{name}` {list(a.shape)}" for name, a in columns.items())
        raise InputError(
            "data.unreadable", f"`{file}` holds arrays of different numbers of rows: {shapes}"
        )
    return columns


def _read_parquet(file: Path, content: bytes) -> dict[str, Array]:
    import numpy as np

    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            "formats.missing-extra",
            f"`{file}` is a Parquet table, `pyarrow` is not installed",
            hint="pip install pyarrow",
        ) from error
    try:
        table = parquet.read_table(pyarrow.BufferReader(content))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            "data.unreadable", f"`{file}` is not a readable Parquet table: {said}"
        ) from error
    columns: dict[str, Array] = {}
    for name in table.column_names:
        column = table.column(name)
        array = column.to_numpy(zero_copy_only=False)
        if array.dtype.kind == "f" or (array.dtype.kind in "iub" and not column.null_count):
            columns[name] = array
        else:
            columns[name] = np.array(
                [None if value is None else str(value) for value in array.tolist()], dtype=object
            )
    return columns
