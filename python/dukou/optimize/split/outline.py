"""A graph as a line of nodes: what each holds, does and hands on. Knows ONNX; nothing is cut here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.base.errors import InputError

if TYPE_CHECKING:
    import onnx

# Initializers up to this many bytes are read for shape inference: shapes are written in them.
_SMALL_BYTES = 1 << 16
# What a free axis counts as, the batch and any other, where bytes and work are estimated.
_BATCH, _EXTENT = 1, 64
# Nodes whose answer is not a function of their inputs: never repeated in a second stage.
_RANDOM = {
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
}


@dataclass(slots=True)
class Step:
    """A node that computes something of the request.

    Attributes:
        node: as in the graph.
        takes: tensors of the request or of steps before it.
        gives: its outputs.
        weights: initializers that it needs, by itself or through nodes that are constant.
        constants: indices of those constant nodes, in order.
        work: multiplications and additions for a request of one row, estimated.
    """

    node: onnx.NodeProto
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    weights: tuple[str, ...] = ()
    constants: tuple[int, ...] = ()
    work: float = 0.0


@dataclass(slots=True)
class Outline:
    """What a graph is made of.

    Attributes:
        proto: the model, its large external weights not loaded.
        folder: where those lie.
        steps: in the graph's order.
        constants: the nodes that are constant, in order: they are repeated where they are needed.
        weight_bytes: of every initializer.
        values: what is known of every tensor's dtype and shape.
        outputs: the graph's own.
    """

    proto: onnx.ModelProto
    folder: Path
    steps: list[Step] = field(default_factory=list)
    constants: list[onnx.NodeProto] = field(default_factory=list)
    weight_bytes: dict[str, int] = field(default_factory=dict)
    values: dict[str, onnx.ValueInfoProto] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()

    def tensor_bytes(self, name: str) -> float:
        """Of a tensor for a request of one row; infinite where it is no dense tensor of known rank."""
        value = self.values.get(name)
        if value is None:
            return float("inf")
        shape = shape_of(value)
        dtype = value.type.tensor_type.elem_type
        if shape is None or not dtype:
            return float("inf")
        return _count(shape) * item_bytes(dtype)


def read_outline(path: Path) -> Outline:
    """Reads the graph at `path`.

    Raises:
        InputError: `split.impossible`, for a graph whose outputs are not computed.
    """
    import onnx

    proto = onnx.load(str(path), load_external_data=False)
    outline = Outline(proto, path.parent, outputs=tuple(o.name for o in proto.graph.output))
    for tensor in proto.graph.initializer:
        outline.weight_bytes[tensor.name] = tensor_bytes(tensor)
    for sparse in proto.graph.sparse_initializer:
        outline.weight_bytes[sparse.values.name] = tensor_bytes(sparse.values)
    outline.values = _infer(proto, path.parent)
    _walk(outline)
    made = {name for step in outline.steps for name in step.gives}
    absent = next((name for name in outline.outputs if name not in made), None)
    if absent is not None:
        raise InputError(
            "split.impossible",
            f"output `{absent}` is not computed from the inputs: there is no stage to give it",
        )
    return outline


def _walk(outline: Outline) -> None:
    """Tells the nodes that are constant from those that compute something of the request."""
    constant: dict[str, int] = {}  # output → index of its constant node
    needs: list[tuple[set[str], set[int]]] = []  # of each constant node: weights, constant nodes
    for node in outline.proto.graph.node:
        names = list(dict.fromkeys(iter_inputs(node)))
        weights = {name for name in names if name in outline.weight_bytes}
        chain: set[int] = set()
        for name in names:
            if name in constant:
                found = needs[constant[name]]
                weights |= found[0]
                chain |= found[1] | {constant[name]}
        takes = tuple(n for n in names if n not in outline.weight_bytes and n not in constant)
        if not takes and node.op_type not in _RANDOM:
            for name in node.output:
                constant[name] = len(outline.constants)
            needs.append((weights, chain))
            outline.constants.append(node)
            continue
        outline.steps.append(
            Step(
                node,
                takes,
                tuple(name for name in node.output if name),
                tuple(sorted(weights)),
                tuple(sorted(chain)),
                _work(outline, node),
            )
        )


def iter_inputs(node: onnx.NodeProto) -> Iterator[str]:
    """What a node needs from outside: its inputs, and what its subgraphs take from around them."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield from _captured(attribute.g)
        for graph in attribute.graphs:
            yield from _captured(graph)


def _captured(graph: onnx.GraphProto) -> Iterator[str]:
    own = {value.name for value in graph.input}
    own |= {tensor.name for tensor in graph.initializer}
    own |= {sparse.values.name for sparse in graph.sparse_initializer}
    for node in graph.node:
        yield from (name for name in iter_inputs(node) if name not in own)
        own |= set(node.output)
    yield from (value.name for value in graph.output if value.name not in own)


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Of an initializer's content, wherever it is kept."""
    count = 1
    for extent in tensor.dims:
        count *= extent
    return int(count * item_bytes(tensor.data_type))


def item_bytes(dtype: int) -> float:
    """Of one element; text counts as a word."""
    from onnx import helper

    try:
        item = helper.tensor_dtype_to_np_dtype(dtype)
    except (KeyError, ValueError, TypeError):
        return 4.0
    if "int4" in item.name or "float4" in item.name:
        return 0.5
    return 0.25 if "int2" in item.name else float(item.itemsize)


def shape_of(value: onnx.ValueInfoProto) -> list[int | str | None] | None:
    """Extents; None where the tensor's rank is not known, or it is no tensor."""
    kind = value.type
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
        for dim in kind.tensor_type.shape.dim
    ]


def _count(shape: list[int | str | None]) -> float:
    count = 1.0
    for axis, extent in enumerate(shape):
        count *= extent if isinstance(extent, int) else _BATCH if axis == 0 else _EXTENT
    return count


def _work(outline: Outline, node: onnx.NodeProto) -> float:
    """Of matrix products and convolutions by their weights, of anything else by what it gives."""
    given = [outline.values.get(name) for name in node.output if name]
    shapes = [shape_of(value) for value in given if value is not None]
    made = sum(_count(shape) for shape in shapes if shape is not None) or 1.0
    if node.op_type in ("MatMul", "Gemm", "Conv", "ConvTranspose", "MatMulInteger", "ConvInteger"):
        dims = {t.name: list(t.dims) for t in outline.proto.graph.initializer}
        weight = dims.get(node.input[1]) if len(node.input) > 1 else None
        if weight and len(weight) >= 2:
            inner = 1
            for extent in weight[1:] if "Conv" in node.op_type else weight[:-1]:
                inner *= extent
            return made * inner
        return made * _EXTENT
    return made


def _infer(proto: onnx.ModelProto, folder: Path) -> dict[str, onnx.ValueInfoProto]:
    """Dtypes and shapes of all tensors, as far as ONNX's own inference knows them."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data

    known = onnx.ModelProto()
    known.CopyFrom(proto)
    for tensor in known.graph.initializer:
        if uses_external_data(tensor) and tensor_bytes(tensor) <= _SMALL_BYTES:
            load_external_data_for_tensor(tensor, str(folder))
            tensor.ClearField("data_location")
            del tensor.external_data[:]
    large = [t for t in known.graph.initializer if tensor_bytes(t) > _SMALL_BYTES]
    if known.ByteSize() > 1 << 30:
        # Inference copies the model; weights of this size have no shapes written in them.
        for tensor in large:
            tensor.ClearField("raw_data")
    try:
        known = onnx.shape_inference.infer_shapes(known, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
        # What a wrong annotation says is still known; cuts are looked for where something is.
        known = proto
    graph = known.graph
    return {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
