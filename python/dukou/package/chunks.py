"""Weights leave the graph and are cut into chunks, so that two versions share what did not change.

The same graph gives the same chunks and the same stripped graph, byte for byte, wherever its file
lies and however its weights were stored before. The rule is `spec/artifact.md`'s, "Weights".
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError
from dukou.package.disk import Buffer

if TYPE_CHECKING:
    import onnx

ALIGNMENT = 64
INLINE_BELOW = 1 << 10
BEGINS_CHUNK = 1 << 20
PACKED_BYTES = 4 << 20
ALONE_ABOVE = 64 << 20


@dataclass(slots=True)
class Chunk:
    """Consecutive weights of one file.

    Attributes:
        name: the file's, as the graph's external data says it.
        parts: the bytes, in order, with zeros between aligned tensors.
        size: bytes so far.
    """

    name: str
    parts: list[Buffer] = field(default_factory=list)
    size: int = 0
    _packed: int = 0
    _closed: bool = False

    def takes(self, size: int) -> bool:
        """Whether a tensor of this many bytes belongs behind what is here."""
        if self._closed or size >= BEGINS_CHUNK:
            return False
        return self._packed + size <= PACKED_BYTES

    def add(self, content: Buffer) -> int:
        """Appends a tensor at the next aligned offset, which it returns."""
        gap = -self.size % ALIGNMENT
        if gap:
            self.parts.append(bytes(gap))
        offset = self.size + gap
        self.parts.append(content)
        self.size = offset + len(content)
        if len(content) < BEGINS_CHUNK:
            self._packed += gap + len(content)
        self._closed = len(content) > ALONE_ABOVE
        return offset


@dataclass(frozen=True, slots=True)
class CutGraph:
    """A graph without its larger weights, and the weights."""

    graph: bytes
    chunks: tuple[Chunk, ...]


def cut_graph(path: Path) -> CutGraph:
    """Reads an ONNX file and cuts its weights out.

    Raises:
        InputError: `formats.corrupt`, `formats.external-data-outside`,
            `formats.external-data-missing`.
    """
    import onnx

    proto = load_graph(path)
    files = _ExternalFiles(path.parent)
    chunks: list[Chunk] = []
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.STRING:
            continue
        content = files.read(tensor) if _is_external(tensor) else _raw_bytes(tensor)
        if len(content) < INLINE_BELOW:
            _set_raw(tensor, bytes(content))
            continue
        if not chunks or not chunks[-1].takes(len(content)):
            chunks.append(Chunk(f"weights-{len(chunks)}.bin"))
        offset = chunks[-1].add(content)
        _set_external(tensor, chunks[-1].name, offset, len(content))
    # Elsewhere weights are put back into the graph: runtimes differ in whether they look for
    # external data there.
    for tensor in _inner_tensors(proto):
        if _is_external(tensor):
            _set_raw(tensor, bytes(files.read(tensor)))
    return CutGraph(proto.SerializeToString(deterministic=True), tuple(chunks))


def load_graph(path: Path) -> onnx.ModelProto:
    """The graph's protobuf, external data left where it is.

    Raises:
        InputError: `formats.not-found`, `formats.corrupt`.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        return onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise InputError("formats.not-found", f"there is no `{path}`") from None
    except DecodeError as error:
        raise InputError("formats.corrupt", f"`{path}` is not a whole ONNX file") from error


def external_files(proto: onnx.ModelProto) -> set[str]:
    """The names of the files of weights that a graph reads."""
    return {
        _external_fields(tensor).get("location", "")
        for tensor in (*proto.graph.initializer, *_inner_tensors(proto))
        if _is_external(tensor)
    }


def _inner_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor but the main graph's initializers: sparse ones, those in nodes and in functions."""
    yield from _sparse_tensors(proto.graph.sparse_initializer)
    yield from _node_tensors(proto.graph.node)
    for function in proto.functions:
        yield from _node_tensors(function.node)


def _sparse_tensors(tensors: Iterable[onnx.SparseTensorProto]) -> Iterator[onnx.TensorProto]:
    for sparse in tensors:
        yield sparse.values
        yield sparse.indices


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                yield from _sparse_tensors([attribute.sparse_tensor])
            yield from attribute.tensors
            yield from _sparse_tensors(attribute.sparse_tensors)
            for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graph.initializer
                yield from _sparse_tensors(graph.sparse_initializer)
                yield from _node_tensors(graph.node)


def _is_external(tensor: onnx.TensorProto) -> bool:
    import onnx

    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _external_fields(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _raw_bytes(tensor: onnx.TensorProto) -> bytes:
    """The tensor's elements, little-endian, packed as the format says."""
    from onnx import numpy_helper

    if tensor.HasField("raw_data"):
        return tensor.raw_data
    try:
        return numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data
    except ValueError as error:
        raise InputError(
            "formats.corrupt",
            f"tensor `{tensor.name}` holds another number of elements than its shape "
            f"{list(tensor.dims)} says",
        ) from error


_TYPED_FIELDS = (
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "raw_data",
    "external_data",
    "data_location",
)


def _set_raw(tensor: onnx.TensorProto, content: bytes) -> None:
    for name in _TYPED_FIELDS:
        tensor.ClearField(name)
    tensor.raw_data = content


def _set_external(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    import onnx

    for name in _TYPED_FIELDS:
        tensor.ClearField(name)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


class _ExternalFiles:
    """The files of weights beside a graph, mapped once each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mapped: dict[str, memoryview] = {}

    def read(self, tensor: onnx.TensorProto) -> memoryview:
        fields = _external_fields(tensor)
        location = fields.get("location", "")
        content = self._mapped.get(location)
        if content is None:
            content = self._mapped[location] = self._map(location, tensor.name)
        try:
            offset = int(fields.get("offset", "0"))
            length = int(fields.get("length", len(content) - offset))
        except ValueError as error:
            raise InputError(
                "formats.corrupt",
                f"tensor `{tensor.name}` has an offset or length that is no number",
            ) from error
        if offset < 0 or length < 0 or offset + length > len(content):
            raise InputError(
                "formats.external-data-missing",
                f"tensor `{tensor.name}` is bytes {offset} to {offset + length} of `{location}`, "
                f"which has {len(content)}",
            )
        return content[offset : offset + length]

    def _map(self, location: str, tensor: str) -> memoryview:
        folder = self._folder.resolve()
        path = (folder / location).resolve()
        if not location or not path.is_relative_to(folder):
            raise InputError(
                "formats.external-data-outside",
                f"tensor `{tensor}` lies in `{location}`, outside the model's folder `{folder}`",
            )
        try:
            with path.open("rb") as file:
                if not path.stat().st_size:
                    return memoryview(b"")
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except OSError as error:
            raise InputError(
                "formats.external-data-missing",
                f"tensor `{tensor}` lies in `{path}`, which cannot be read: {error.strerror}",
            ) from error
