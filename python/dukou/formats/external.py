"""Weights that an ONNX graph keeps in files of their own: they must lie in its folder, whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from dukou.base.errors import InputError

if TYPE_CHECKING:
    import onnx


def check_external_data(path: Path, proto: onnx.ModelProto) -> tuple[str, ...]:
    """The files of weights that the graph at `path` names, relative to its folder.

    Raises:
        InputError: `formats.external-data-outside` for a location that is absolute, climbs, or is
            a link out of the folder; `formats.external-data-missing` for a file that is absent or
            shorter than what the graph reads from it; `formats.corrupt` for numbers that are none.
    """
    folder = path.parent.resolve()
    names: dict[str, None] = {}
    for tensor in iter_tensors(proto):
        if tensor.data_location == tensor.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            location = entries.get("location", "")
            file = _resolve_inside(path, folder, tensor.name, location)
            _check_extent(path, file, tensor, entries)
            names[location] = None
    return tuple(names)


def iter_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers and attributes, in subgraphs and functions too."""
    yield from _iter_graph(proto.graph)
    for function in proto.functions:
        yield from _iter_nodes(function.node)


def _iter_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _iter_nodes(graph.node)


def _iter_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield sparse.values
                yield sparse.indices
            if attribute.HasField("g"):
                yield from _iter_graph(attribute.g)
            for graph in attribute.graphs:
                yield from _iter_graph(graph)


def _resolve_inside(path: Path, folder: Path, tensor: str, location: str) -> Path:
    windows = PureWindowsPath(location)
    climbs = ".." in PurePosixPath(location).parts or ".." in windows.parts
    absolute = location.startswith("/") or bool(windows.drive) or bool(windows.root)
    if not location or "\0" in location or climbs or absolute:
        raise InputError(
            "formats.external-data-outside",
            f"`{path.name}` keeps tensor `{tensor}` in `{location}`, which is not inside `{folder}`",
        )
    file = folder / location
    resolved = file.resolve()
    if not resolved.is_relative_to(folder):
        raise InputError(
            "formats.external-data-outside",
            f"`{path.name}` keeps tensor `{tensor}` in `{location}`, a link to `{resolved}` outside "
            f"`{folder}`",
        )
    if not resolved.is_file():
        raise InputError(
            "formats.external-data-missing",
            f"`{path.name}` keeps tensor `{tensor}` in `{location}`, which is not in `{folder}`",
        )
    return resolved


def _check_extent(
    path: Path, file: Path, tensor: onnx.TensorProto, entries: dict[str, str]
) -> None:
    numbers = {}
    for key in ("offset", "length"):
        text = entries.get(key, "0")
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise InputError(
                "formats.corrupt",
                f"`{path.name}` says `{key}` `{text[:40]}` of tensor `{tensor.name}`, a number of "
                "bytes is expected",
            )
        numbers[key] = int(text)
    size = file.stat().st_size
    end = numbers["offset"] + max(numbers["length"], _content_bytes(tensor))
    if end > size:
        raise InputError(
            "formats.external-data-missing",
            f"`{path.name}` reads tensor `{tensor.name}` up to byte {end} of `{file.name}`, which "
            f"has {size}",
        )


def _content_bytes(tensor: onnx.TensorProto) -> int:
    """What the shape and dtype need; 0 where the dtype packs several elements into a byte."""
    from onnx import helper

    count = 1
    for extent in tensor.dims:
        count *= max(0, extent)
    try:
        item = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError, TypeError):
        return 0
    packed = "int4" in item.name or "int2" in item.name or "float4" in item.name
    return 0 if packed or item.hasobject else count * item.itemsize
