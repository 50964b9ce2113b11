"""A matrix product and the bias added to it become one Gemm, for which there is an integer kernel.

Without this a quantizer leaves the addition in floats: each layer goes back to floats and forth again.
No pass of its own: in floats the runtime does the same by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]


def merge_bias(proto: onnx.ModelProto) -> None:
    """Changes `proto`: `MatMul` of rank 2 by a constant, then `Add` of a constant row → `Gemm`.

    Every bias, that of a `Gemm` or a `Conv` too, becomes a row that nothing else reads: a quantizer
    gives it the scale of the product that it is added to, and would hand the first one's to all who share
    it. A graph with graphs inside stays as it is.
    """
    from onnx import helper

    graph = proto.graph
    if has_subgraphs(graph):
        return
    constants = _read_rows(graph)
    flat = _find_flat(proto)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    given = {output.name for output in graph.output}
    weights = {t.name: tuple(t.dims) for t in graph.initializer if len(t.dims) == 2}
    made: list[onnx.NodeProto] = []
    merged: set[str] = set()
    for node in graph.node:
        if node.output[0] in merged:
            continue
        after = readers.get(node.output[0], [])
        if node.op_type in ("Gemm", "Conv") and len(node.input) > 2 and node.input[2] in constants:
            node.input[2] = _own_row(graph, node.input[2], constants[node.input[2]], readers)
        elif (
            node.op_type == "MatMul"
            and node.input[0] in flat
            and node.input[1] in weights
            and node.output[0] not in given
            and len(after) == 1
            and after[0].op_type == "Add"
        ):
            addition = after[0]
            bias = next((name for name in addition.input if name != node.output[0]), "")
            row = constants.get(bias)
            if row is not None and row.size == weights[node.input[1]][1]:
                merged.add(addition.output[0])
                node = helper.make_node(
                    "Gemm",
                    [node.input[0], node.input[1], _own_row(graph, bias, row, readers)],
                    [addition.output[0]],
                    name=node.name,
                )
        made.append(node)
    del graph.node[:]
    graph.node.extend(made)
    used = {name for node in made for name in node.input} | given
    for name in constants:
        if name not in used:
            graph.initializer.remove(next(t for t in graph.initializer if t.name == name))


def has_subgraphs(graph: onnx.GraphProto) -> bool:
    """Whether a node has a graph inside, which may read what is outside without being seen to."""
    return any(a.HasField("g") or a.graphs for node in graph.node for a in node.attribute)


def _read_rows(graph: onnx.GraphProto) -> dict[str, Array]:
    """Constant float32 tensors that are one row, as `(columns,)`."""
    from onnx import TensorProto, numpy_helper

    return {
        t.name: numpy_helper.to_array(t).reshape(-1)
        for t in graph.initializer
        if t.data_type == TensorProto.FLOAT
        and t.dims
        and all(extent == 1 for extent in t.dims[:-1])
    }


def _find_flat(proto: onnx.ModelProto) -> set[str]:
    """Tensors that are known to be matrices."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(proto).graph
    values = [*graph.input, *graph.value_info]
    shapes = {v.name: v.type.tensor_type for v in values if v.type.HasField("tensor_type")}
    return {n for n, t in shapes.items() if t.HasField("shape") and len(t.shape.dim) == 2}


def _own_row(
    graph: onnx.GraphProto, name: str, row: Array, readers: dict[str, list[onnx.NodeProto]]
) -> str:
    """The name of a constant that holds `row` for one reader: the one there is, or a new one."""
    from onnx import numpy_helper

    taken = {tensor.name: tensor for tensor in graph.initializer}
    if len(taken[name].dims) == 1 and len(readers[name]) == 1:
        return name
    number = 0
    while (own := f"{name}_row{number}") in taken or own in readers:
        number += 1
    graph.initializer.append(numpy_helper.from_array(row, own))
    return own
