"""The source formats that dukou reads: one line each. Packages add theirs as entry points."""

from __future__ import annotations

from dukou.base.extensions import list_extensions, load_extension
from dukou.formats.reader import Reader

GROUP = "dukou.readers"

# name → class, imported on first use. The order is the order of asking.
READERS = {
    "onnx": "dukou.formats.onnx:OnnxReader",
    "sklearn": "dukou.formats.sklearn:SklearnReader",
}


def list_readers() -> tuple[str, ...]:
    """The names of all readers, built in and registered."""
    return tuple(list_extensions(GROUP, READERS))


def load_reader(name: str) -> Reader:
    """The reader of this name."""
    reader: Reader = load_extension(GROUP, READERS, name)
    return reader
