"""The formats that dukou reads and writes: one line each. Packages add theirs as entry points."""

from __future__ import annotations

from dukou.base.extensions import list_extensions, load_extension
from dukou.formats.reader import Reader
from dukou.formats.writer import Writer

GROUP = "dukou.readers"
WRITERS_GROUP = "dukou.writers"

# name → class, imported on first use. The order is the order of asking.
READERS = {
    "onnx": "dukou.formats.onnx:OnnxReader",
    "sklearn": "dukou.formats.sklearn:SklearnReader",
    "keras": "dukou.formats.keras:KerasReader",
    "torch": "dukou.formats.torch:TorchReader",
}


def list_readers() -> tuple[str, ...]:
    """The names of all readers, built in and registered."""
    return tuple(list_extensions(GROUP, READERS))


def load_reader(name: str) -> Reader:
    """The reader of this name."""
    reader: Reader = load_extension(GROUP, READERS, name)
    return reader


# Where a model can go onwards from ONNX.
WRITERS = {
    "openvino": "dukou.formats.openvino:OpenVinoWriter",
}


def list_writers() -> tuple[str, ...]:
    """The names of all writers, built in and registered."""
    return tuple(list_extensions(WRITERS_GROUP, WRITERS))


def load_writer(name: str) -> Writer:
    """The writer of this name."""
    writer: Writer = load_extension(WRITERS_GROUP, WRITERS, name)
    return writer
