"""The outer fields of a protobuf file, walked without parsing: whether it is an ONNX graph, and whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# ModelProto's fields: number → wire type (0 varint, 2 length-delimited). From onnx.proto3.
_FIELDS = {1: 0, 2: 2, 3: 2, 4: 2, 5: 0, 6: 2, 7: 2, 8: 2, 14: 2, 20: 2, 25: 2, 26: 2}
GRAPH, OPSET_IMPORT = 7, 8
# A model has a handful of fields and some hundred functions; more is not a model of ours.
_MOST_FIELDS = 100_000


@dataclass(frozen=True, slots=True)
class Outline:
    """What the walk met.

    Attributes:
        fields: numbers in order.
        whole: whether the last field ends where the file does.
        wanted_bytes: how long the file must at least be by its own word.
    """

    fields: tuple[int, ...]
    whole: bool
    wanted_bytes: int

    @property
    def is_onnx(self) -> bool:
        """Whether these are a ModelProto's fields; a SavedModel has only 1 and 2."""
        if len(self.fields) < 2:
            return False
        if self.whole:
            return GRAPH in self.fields or OPSET_IMPORT in self.fields
        return self.fields[0] == 1 or GRAPH in self.fields


def read_outline(path: Path) -> Outline:
    """Walks the outer fields, seeking over their contents: cheap at any size."""
    size = path.stat().st_size
    fields: list[int] = []
    wanted = size
    with path.open("rb") as file:
        while len(fields) < _MOST_FIELDS:
            start = file.tell()
            if start >= size:
                return Outline(tuple(fields), start == size and bool(fields), max(wanted, start))
            tag = _read_varint(file)
            if tag is None or _FIELDS.get(tag >> 3) != tag & 7:
                break
            value = _read_varint(file)
            if value is None:
                break
            if tag & 7 == 0:
                if tag >> 3 == 1 and not 1 <= value <= 1000:
                    break
            else:
                wanted = max(wanted, file.tell() + value)
                file.seek(value, 1)
            fields.append(tag >> 3)
            if file.tell() > size:
                break
    return Outline(tuple(fields), False, wanted)


def _read_varint(file: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 64, 7):
        byte = file.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
