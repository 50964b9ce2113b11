"""One stage as an ONNX graph of its own, with its part of the weights in a file beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dukou.optimize.split.outline import Outline, tensor_bytes

if TYPE_CHECKING:
    import onnx

GRAPH, WEIGHTS = "graph.onnx", "graph.weights"
# Weights from this size on lie beside the graph, where the engine maps them; at this alignment.
_OUTSIDE_BYTES, _ALIGNMENT = 1024, 64


def write_stage(
    outline: Outline,
    steps: Iterable[int],
    takes: Sequence[str],
    gives: Sequence[str],
    names: Mapping[str, str],
    folder: Path,
) -> Path:
    """Writes the stage of `steps`; the path of its graph.

    Args:
        outline: of the whole.
        steps: which, in order.
        takes: tensors that come from outside, by the whole's names.
        gives: tensors that leave it.
        names: plain names of tensors that go between stages.
        folder: made here.
    """
    import onnx

    folder.mkdir(parents=True)
    chosen = [outline.steps[index] for index in steps]
    constants = sorted({index for step in chosen for index in step.constants})
    weights = {name for step in chosen for name in step.weights}
    nodes = [outline.constants[index] for index in constants] + [step.node for step in chosen]
    whole = outline.proto
    proto = onnx.ModelProto()
    # Before 4 every initializer had to be an input too.
    proto.ir_version = max(whole.ir_version, 4)
    proto.opset_import.extend(whole.opset_import)
    proto.producer_name, proto.producer_version = whole.producer_name, whole.producer_version
    used = {(node.domain, node.op_type) for node in nodes}
    if any((f.domain, f.name) in used for f in whole.functions):
        proto.functions.extend(whole.functions)  # a function may call another
    graph = proto.graph
    graph.name = whole.graph.name or "graph"
    graph.input.extend(_value(outline, name) for name in takes)
    graph.output.extend(_value(outline, name) for name in gives)
    for node in nodes:
        graph.node.add().CopyFrom(node)
    # What stays inside a stage keeps what is known of it: the engine need not infer it again.
    inside = {name for step in chosen for name in step.gives} - {*takes, *gives}
    graph.value_info.extend(v for v in whole.graph.value_info if v.name in inside)
    with (folder / WEIGHTS).open("wb") as file:
        for tensor in whole.graph.initializer:
            if tensor.name in weights:
                graph.initializer.append(_place(tensor, outline.folder, file))
        empty = file.tell() == 0
    if empty:
        (folder / WEIGHTS).unlink()
    for sparse in whole.graph.sparse_initializer:
        if sparse.values.name in weights:
            graph.sparse_initializer.add().CopyFrom(sparse)
    _rename(graph, names)
    path = folder / GRAPH
    path.write_bytes(proto.SerializeToString())
    return path


def _value(outline: Outline, name: str) -> onnx.ValueInfoProto:
    import onnx

    value = onnx.ValueInfoProto()
    value.CopyFrom(outline.values[name])
    return value


def _place(tensor: onnx.TensorProto, folder: Path, file: BinaryIO) -> onnx.TensorProto:
    """The tensor with its content in `file`, one at a time: a large model is never whole in memory."""
    import onnx
    from onnx import external_data_helper as external
    from onnx import numpy_helper

    placed = onnx.TensorProto()
    placed.CopyFrom(tensor)
    if external.uses_external_data(placed):
        external.load_external_data_for_tensor(placed, str(folder))
        placed.ClearField("data_location")
        del placed.external_data[:]
    if tensor_bytes(placed) < _OUTSIDE_BYTES or placed.data_type == onnx.TensorProto.STRING:
        return placed
    if not placed.HasField("raw_data"):
        raw = numpy_helper.from_array(numpy_helper.to_array(placed), placed.name)
        placed.CopyFrom(raw)
    file.write(bytes(-file.tell() % _ALIGNMENT))
    external.set_external_data(
        placed, location=WEIGHTS, offset=file.tell(), length=len(placed.raw_data)
    )
    file.write(placed.raw_data)
    placed.ClearField("raw_data")
    return placed


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Tensors wherever they stand, in subgraphs too."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, names)
            for inner in attribute.graphs:
                _rename(inner, names)
