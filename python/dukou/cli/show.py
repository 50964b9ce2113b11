"""Text for people: tables with aligned columns, answers of a model, times and sizes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from dukou.serve.example import nest

# Past this a vector is shown by its first elements.
_WIDEST_VECTOR = 6
_PROBABILITIES = ("prob", "score")


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns; what looks like a number is set right."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(_width(line[column]) for line in lines) for column in range(len(header))]
    right = [
        all(_is_figure(line[column]) for line in lines[1:]) and len(lines) > 1
        for column in range(len(header))
    ]
    shown = (
        "  ".join(
            " " * (width - _width(cell)) + cell if is_right else cell + " " * (width - _width(cell))
            for cell, width, is_right in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )
    return "\n".join(shown)


def _width(text: str) -> int:
    """Columns of a terminal: a Chinese character takes two."""
    if text.isascii():
        return len(text)
    import unicodedata

    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _is_figure(cell: str) -> bool:
    return cell in ("", "-") or cell[0].isdigit() or (cell[0] in "-+." and len(cell) > 1)


def show_answers(
    answers: list[list[dict[str, Any]]], specs: list[dict[str, Any]], style: str, out: TextIO
) -> None:
    """Prints what a model answered, a line a row.

    Args:
        answers: the outputs of each request, in order.
        specs: the model's outputs, in its order.
        style: `table`, `json` (one object a row) or `csv`.
        out: where to.
    """
    order = {spec["name"]: place for place, spec in enumerate(specs)}
    rows: list[dict[str, Any]] = []
    for outputs in answers:
        ordered = sorted(outputs, key=lambda output: order.get(output["name"], len(order)))
        rows += _rows_of(ordered)
    if style == "json":
        for row in rows:
            print(json.dumps(row, ensure_ascii=False), file=out)
    elif style == "csv":
        writer = csv.writer(out, lineterminator="\n")
        flat = [_flat_columns(row) for row in rows]
        writer.writerow(flat[0] if flat else [])
        writer.writerows(row.values() for row in flat)
    else:
        names = list(rows[0]) if rows else []
        cells = (
            [str(index), *(_cell(name, row[name]) for name in names)]
            for index, row in enumerate(rows, 1)
        )
        print(show_table(["row", *names], cells), file=out)


def _rows_of(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """An object a row, where every output has the same number of rows; else one for all of it."""
    counts = {output["shape"][0] if output["shape"] else None for output in outputs}
    if len(counts) != 1 or None in counts:
        return [{o["name"]: nest(o["data"], o["shape"]) for o in outputs}]
    count = counts.pop() or 0
    nested = {o["name"]: nest(o["data"], o["shape"]) for o in outputs}
    return [{name: values[row] for name, values in nested.items()} for row in range(count)]


def _flat_columns(row: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if not isinstance(value, list):
            flat[name] = value
        elif len(value) == 1 and not isinstance(value[0], list):
            flat[name] = value[0]
        else:
            for index, element in enumerate(value):
                flat[f"{name}_{index}"] = (
                    json.dumps(element) if isinstance(element, list) else element
                )
    return flat


def _cell(name: str, value: Any) -> str:
    if not isinstance(value, list):
        return _scalar(value)
    if len(value) == 1:
        return _cell(name, value[0])
    if any(isinstance(element, list | str) for element in value):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= 60 else text[:57] + "..."
    if any(word in name.lower() for word in _PROBABILITIES):
        best = max(range(len(value)), key=value.__getitem__)
        return f"{_scalar(value[best])} (class {best})"
    shown = ", ".join(_scalar(element) for element in value[:_WIDEST_VECTOR])
    more = f", … {len(value)} in all" if len(value) > _WIDEST_VECTOR else ""
    return f"[{shown}{more}]"


def _scalar(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def show_duration(microseconds: float | None) -> str:
    """`85 µs`, `1.2 ms`, `3.4 s`."""
    if microseconds is None:
        return "-"
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if microseconds >= size:
            return f"{microseconds / size:.3g} {unit}"
    return f"{microseconds:.3g} µs"


def show_age(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h`, `2 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def show_bytes(count: int) -> str:
    """`512 B`, `3.4 kB`, `1.2 GB`: powers of a thousand, as disks are sold."""
    if count < 1000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if size < 999.5 or unit == "GB":
            break
    return f"{size:.3g} {unit}" if size < 999.5 else f"{size:.0f} {unit}"
