"""Rows for a server that does not say what its models take: as they stand, the server has the last word."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError
from dukou.cli.rows import decode_text, read_stdin


def read_rows(text: str, *, rows: int, drop: Sequence[str] = ()) -> list[list[Any]]:
    """The rows of an input, at most `rows` of them in a part.

    Args:
        text: a path, `-`, or JSON itself: a list of rows, `{"instances": [...]}`, or one row's object.
        rows: of one part.
        drop: columns of a CSV that are no inputs.

    Raises:
        InputError: `formats.not-found`, `data.unreadable`, `data.empty`, `data.mismatch`.
    """
    found = _read(text, drop)
    if not found:
        raise InputError("data.empty", f"`{text[:60]}` has no rows")
    return [found[begin : begin + rows] for begin in range(0, len(found), rows)]


def _read(text: str, drop: Sequence[str]) -> list[Any]:
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(text, "the input")
    if text == "-":
        content = read_stdin()
        return (
            _from_json(content, "stdin")
            if content.lstrip()[:1] in ("{", "[")
            else _from_csv(content, "stdin", drop)
        )
    path = Path(text)
    if not path.is_file():
        raise InputError("formats.not-found", f"there is no file `{path}`")
    if path.suffix.lower() == ".npy":
        return _from_numpy(path)
    content = decode_text(path.read_bytes(), f"`{path}`")
    if path.suffix.lower() == ".json" or content.lstrip()[:1] in ("{", "["):
        return _from_json(content, f"`{path}`")
    return _from_csv(content, f"`{path}`", drop)


def _from_json(text: str, where: str) -> list[Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("data.unreadable", f"{where} is not JSON: {error}") from error
    if isinstance(document, dict):
        document = document.get("instances", [document])
    if not isinstance(document, list):
        raise InputError("data.unreadable", f"{where} is neither a list of rows nor an object")
    return document


def _from_csv(content: str, where: str, drop: Sequence[str]) -> list[Any]:
    table = [row for row in csv.reader(io.StringIO(content)) if any(cell.strip() for cell in row)]
    if not table:
        return []
    header = [cell.strip() for cell in table[0]]
    for name in drop:
        if name not in header:
            raise InputError("data.mismatch", f"{where} has no column `{name}` to drop")
    kept = [place for place, name in enumerate(header) if name not in drop]
    named = not any(isinstance(_value(cell), int | float) for cell in header)
    try:
        return [[_value(row[place]) for place in kept] for row in table[1 if named else 0 :]]
    except IndexError:
        raise InputError(
            "data.unreadable", f"{where}: a row has fewer columns than the first"
        ) from None


def _value(cell: str) -> int | float | str:
    text = cell.strip()
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return cell


def _from_numpy(path: Path) -> list[Any]:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError("data.unreadable", f"`{path}` cannot be read as NPY: {error}") from error
    found = array.tolist()
    return found if isinstance(found, list) else [found]
