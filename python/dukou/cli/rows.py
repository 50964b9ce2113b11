"""Files of rows become V2 requests that fit a model's signature; what does not fit is said with both sides."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError

Spec = dict[str, Any]
Tensor = dict[str, Any]

_INTEGERS = ("UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64")
_FLOATS = ("FP16", "BF16", "FP32", "FP64")


def read_input(
    text: str, specs: list[Spec], *, rows: int, drop: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Requests of at most `rows` rows each, where the model takes any number of them.

    Args:
        text: a path, `-`, or JSON itself.
        specs: the model's inputs: `{"name", "datatype", "shape"}`, -1 where an extent is free.
        rows: of one request.
        drop: columns of a CSV that are no inputs.

    Raises:
        InputError: `formats.not-found`, `data.unreadable`, `data.empty`, `data.mismatch`.
    """
    whole = _read(text, specs, drop)
    if isinstance(whole, dict):
        return [whole]
    return [{"inputs": part} for part in _cut(whole, specs, rows)]


def _read(text: str, specs: list[Spec], drop: Sequence[str]) -> list[Tensor] | dict[str, Any]:
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(text, "the input", specs)
    if text == "-":
        content = read_stdin()
        if content.lstrip()[:1] in ("{", "["):
            return _from_json(content, "stdin", specs)
        return _from_csv(content, "stdin", specs, drop)
    path = Path(text)
    if not path.is_file():
        raise InputError("formats.not-found", f"there is no file `{path}`")
    kind = path.suffix.lower()
    if kind in (".npy", ".npz"):
        return _from_numpy(path, specs)
    content = decode_text(path.read_bytes(), f"`{path}`")
    if kind == ".json" or (kind != ".csv" and content.lstrip()[:1] in ("{", "[")):
        return _from_json(content, f"`{path}`", specs)
    return _from_csv(content, f"`{path}`", specs, drop)


# --- JSON ---


def read_stdin() -> str:
    """All of it."""
    # The bytes: what a terminal's encoding makes of them does not matter to a pipe.
    source = getattr(sys.stdin, "buffer", None)
    return sys.stdin.read() if source is None else decode_text(source.read(), "stdin")


def decode_text(content: bytes, source: str) -> str:
    """UTF-8 with or without a mark, or GB 18030, which holds GBK: what tables are kept in."""
    if b"\0" not in content:
        for encoding in ("utf-8-sig", "gb18030"):
            with contextlib.suppress(UnicodeDecodeError):
                return content.decode(encoding)
    raise InputError(
        "data.unreadable",
        f"{source} is not text: neither UTF-8 nor GB 18030",
        hint="CSV, JSON, NPY and NPZ files are read, by their names' endings",
    )


def _from_json(text: str, where: str, specs: list[Spec]) -> list[Tensor] | dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InputError("data.unreadable", f"{where} is not JSON: {error}") from error
    except RecursionError as error:
        raise InputError("data.unreadable", f"{where} is nested too deep") from error
    if isinstance(document, dict):
        inputs = document.get("inputs")
        if isinstance(inputs, list) and all(isinstance(i, dict) and "name" in i for i in inputs):
            return document  # a whole V2 request: the server has the last word on it
        return [_tensor_of(spec, _field(document, spec, specs, where), where) for spec in specs]
    if not isinstance(document, list):
        raise InputError("data.unreadable", f"{where} is neither a JSON object nor a list")
    if not document:
        raise InputError("data.empty", f"{where} has no rows")
    if isinstance(document[0], dict):
        columns = {
            spec["name"]: [
                _field(_row(row, i, where), spec, specs, where) for i, row in enumerate(document)
            ]
            for spec in specs
        }
        return [_tensor_of(spec, columns[spec["name"]], where) for spec in specs]
    if len(specs) != 1:
        raise InputError(
            "data.mismatch",
            f"{where} is a list of rows without names, and the model has {len(specs)} inputs: {_listed(specs)}",
            hint="give objects with these names, or one object with a list for each",
        )
    return [_tensor_of(specs[0], document, where)]


def _row(row: Any, index: int, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise InputError(
            "data.unreadable", f"row {index + 1} of {where} is not an object, and row 1 is"
        )
    return row


def _field(document: dict[str, Any], spec: Spec, specs: list[Spec], where: str) -> Any:
    if spec["name"] in document:
        return document[spec["name"]]
    raise InputError(
        "data.mismatch",
        f"{where} has no `{spec['name']}`: the model takes {_listed(specs)}, "
        f"and {', '.join(f'`{key}`' for key in list(document)[:20]) or 'nothing'} came",
    )


def _tensor_of(spec: Spec, nested: Any, where: str) -> Tensor:
    """Nested lists as a tensor; a row more or less deep than the signature is told."""
    shape: list[int] = []
    probe = nested
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None
    flat: list[Any] = []
    _flatten(nested, shape, spec, where, flat)
    wanted = spec["shape"]
    if len(shape) == 1 and len(wanted) == 2 and _fits_extent(wanted[1], 1):
        shape = [shape[0], 1]  # one number a row
    elif len(shape) == len(wanted) - 1 and _fits_extent(wanted[0], 1):
        shape = [1, *shape]  # one row, not in a list
    _check_shape(spec, shape, where)
    return _tensor(spec, shape, flat)


def _flatten(nested: Any, shape: list[int], spec: Spec, where: str, into: list[Any]) -> None:
    if not shape:
        into.append(_value(nested, spec, where))
        return
    if not isinstance(nested, list) or len(nested) != shape[0]:
        came = f"{len(nested)} elements" if isinstance(nested, list) else f"`{str(nested)[:40]}`"
        raise InputError(
            "data.mismatch",
            f"{where}: `{spec['name']}` is ragged: {shape[0]} elements are first, then {came}",
        )
    for element in nested:
        _flatten(element, shape[1:], spec, where, into)


def _value(value: Any, spec: Spec, where: str) -> Any:
    dtype = spec["datatype"]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if dtype == "BOOL" and (isinstance(value, bool) or (number and value in (0, 1))):
        return bool(value)
    if dtype == "BYTES" and (isinstance(value, str) or number):
        return str(value)
    if dtype in _INTEGERS and number and whole:
        return int(value)
    if dtype in _FLOATS and number and math.isfinite(value):
        return value
    raise InputError(
        "data.mismatch", f"{where}: `{spec['name']}` is {dtype}, and `{str(value)[:40]}` came"
    )


# --- CSV ---


def _from_csv(content: str, where: str, specs: list[Spec], drop: Sequence[str]) -> list[Tensor]:
    table = [row for row in csv.reader(io.StringIO(content)) if any(cell.strip() for cell in row)]
    if not table:
        raise InputError("data.empty", f"{where} has no rows")
    table = _without(table, drop, where)
    columns = _columns_of(specs, where)
    wanted = [name for names in columns for name in names]
    header = [cell.strip() for cell in table[0]]
    first = 1
    if set(wanted) <= set(header):
        order = [header.index(name) for name in wanted]  # by name; others are passed over
    elif _looks_like_header(header, specs) and len(header) == len(wanted):
        order = list(range(len(wanted)))
    elif len(header) == len(wanted):
        order, first = list(range(len(wanted))), 0
    else:
        missing = [name for name in wanted if name not in header]
        raise InputError(
            "data.mismatch",
            f"{where} has {len(header)} columns, and the model takes {len(wanted)}: {_listed(specs)}",
            hint=f"missing by name: {', '.join(missing[:5])}{' …' if missing[5:] else ''}; "
            "without names the order counts, and `--drop COLUMN` leaves one out",
        )
    body = table[first:]
    if not body:
        raise InputError("data.empty", f"{where} has a header and no rows")
    return _tensors_of_cells(body, order, columns, specs, where, first)


def _without(table: list[list[str]], drop: Sequence[str], where: str) -> list[list[str]]:
    header = [cell.strip() for cell in table[0]]
    for name in drop:
        if name not in header:
            raise InputError(
                "data.mismatch",
                f"{where} has no column `{name}` to drop",
                hint=f"its columns are {', '.join(header[:20])}{' …' if header[20:] else ''}",
            )
    left_out = {header.index(name) for name in drop}
    return [[cell for i, cell in enumerate(row) if i not in left_out] for row in table]


def _columns_of(specs: list[Spec], where: str) -> list[list[str]]:
    """The names of the columns of each input: its own, or its own with a number for each element."""
    names = []
    for spec in specs:
        inner = spec["shape"][1:]
        if len(spec["shape"]) > 2 or any(extent < 1 for extent in inner) or not spec["shape"]:
            raise InputError(
                "data.mismatch",
                f"{where} is a table, and `{spec['name']}` is {_shown(spec)}: it is no row of numbers",
                hint="send JSON or NPY",
            )
        width = inner[0] if inner else 1
        names.append(
            [spec["name"]] if width == 1 else [f"{spec['name']}_{i}" for i in range(width)]
        )
    return names


def _looks_like_header(header: list[str], specs: list[Spec]) -> bool:
    """Whether no cell of the first line is a value that the model could take."""
    if any(spec["datatype"] == "BYTES" for spec in specs):
        return False
    return not any(_is_number(cell) for cell in header)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.lower() in ("true", "false")
    return True


def _tensors_of_cells(
    body: list[list[str]],
    order: list[int],
    columns: list[list[str]],
    specs: list[Spec],
    where: str,
    first: int,
) -> list[Tensor]:
    tensors = []
    begin = 0
    for spec, names in zip(specs, columns, strict=True):
        places = order[begin : begin + len(names)]
        begin += len(names)
        flat = []
        for number, row in enumerate(body, first + 1):
            if len(row) <= max(order):
                raise InputError(
                    "data.unreadable",
                    f"{where}: row {number} has {len(row)} columns, and {max(order) + 1} are needed",
                )
            for name, place in zip(names, places, strict=True):
                flat.append(_cell(row[place], spec, f"{where}: row {number}, column `{name}`"))
        tail = [len(names)] if len(spec["shape"]) == 2 else []
        _check_shape(spec, [len(body), *tail], where)
        tensors.append(_tensor(spec, [len(body), *tail], flat))
    return tensors


def _cell(cell: str, spec: Spec, where: str) -> Any:
    if spec["datatype"] == "BYTES":
        return cell
    text = cell.strip()
    if spec["datatype"] == "BOOL" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value: float = int(text)
    except ValueError:
        try:
            value = float(text)
        except ValueError:
            raise InputError(
                "data.unreadable", f"{where}: `{text[:40]}` is no {spec['datatype']}"
            ) from None
    return _value(value, spec, where)


# --- NumPy ---


def _from_numpy(path: Path, specs: list[Spec]) -> list[Tensor]:
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else loaded
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            "data.unreadable", f"`{path}` cannot be read as {path.suffix[1:].upper()}: {error}"
        ) from error
    if not isinstance(arrays, dict):
        if len(specs) != 1:
            raise InputError(
                "data.mismatch",
                f"`{path}` holds one array, and the model has {len(specs)} inputs: {_listed(specs)}",
                hint="put them into one NPZ file, by name",
            )
        arrays = {specs[0]["name"]: arrays}
    tensors = []
    for spec in specs:
        array = np.asarray(_field(arrays, spec, specs, f"`{path}`"))
        fits = {"BOOL": "b", "BYTES": "USO"}.get(
            spec["datatype"], "iu" if spec["datatype"] in _INTEGERS else "iufb"
        )
        if array.dtype.kind not in fits:
            raise InputError(
                "data.mismatch",
                f"`{path}`: `{spec['name']}` is {spec['datatype']}, and an array of {array.dtype} came",
            )
        if array.ndim == len(spec["shape"]) - 1 and _fits_extent(spec["shape"][0], 1):
            array = array[np.newaxis]
        shape = [int(extent) for extent in array.shape]
        _check_shape(spec, shape, f"`{path}`")
        flat = [_value(value, spec, f"`{path}`") for value in array.reshape(-1).tolist()]
        tensors.append(_tensor(spec, shape, flat))
    return tensors


# --- what all of them use ---


def _tensor(spec: Spec, shape: list[int], flat: list[Any]) -> Tensor:
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": flat}


def _check_shape(spec: Spec, shape: list[int], where: str) -> None:
    wanted = spec["shape"]
    if len(shape) != len(wanted) or not all(map(_fits_extent, wanted, shape)):
        raise InputError(
            "data.mismatch",
            f"{where}: `{spec['name']}` is {_shown(spec)}, and {json.dumps(shape)} came",
        )
    if 0 in shape:
        raise InputError("data.empty", f"{where}: `{spec['name']}` has no elements")


def _fits_extent(wanted: int, extent: int) -> bool:
    return wanted in (-1, extent)


def _cut(tensors: list[Tensor], specs: list[Spec], rows: int) -> Iterator[list[Tensor]]:
    """Parts of at most `rows` rows, where every input has free rows and the same number of them."""
    counts = {tensor["shape"][0] if tensor["shape"] else 0 for tensor in tensors}
    free = all(spec["shape"] and spec["shape"][0] == -1 for spec in specs)
    if not free or len(counts) != 1:
        yield tensors
        return
    total = counts.pop()
    for begin in range(0, total, rows):
        end = min(total, begin + rows)
        part = []
        for tensor in tensors:
            size = math.prod(tensor["shape"][1:])
            data = tensor["data"][begin * size : end * size]
            part.append({**tensor, "shape": [end - begin, *tensor["shape"][1:]], "data": data})
        yield part


def _shown(spec: Spec) -> str:
    return f"{spec['datatype']} [{', '.join('?' if e == -1 else str(e) for e in spec['shape'])}]"


def _listed(specs: list[Spec]) -> str:
    return ", ".join(f"`{spec['name']}` {_shown(spec)}" for spec in specs)
