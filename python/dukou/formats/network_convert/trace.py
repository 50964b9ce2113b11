"""The older exporter: runs a network once and writes down what it did; the only one for TorchScript.

What depends on a length is written down as it was for that length: `keeps_axes_free` tries another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dukou.formats.network_convert.program import (
    BATCH,
    Program,
    flatten_output,
    invent,
    name_outputs,
)
from dukou.formats.network_convert.refusal import refuse

if TYPE_CHECKING:
    import onnx

# The newest that this exporter knows whole.
_OPSET = 18
# The batch that is exported with: neither 0 nor 1, which exporters treat as constants.
_ROWS = 3
# Other extents than those.
_OTHER_ROWS, _OTHER_EXTENT = 2, 5


def trace_graph(path: str, program: Program) -> onnx.ModelProto:
    """The graph of what the network does with example rows.

    Raises:
        InputError: `formats.cannot-convert`, naming the operator.
    """
    import io

    import onnx
    import torch

    arguments = example_arguments(program)
    names = [spec.name for spec in program.inputs]
    outputs = list(flatten_output(path, program.module(*arguments)))
    axes = {
        spec.name: {axis: dim for axis, dim in enumerate(spec.shape) if isinstance(dim, str)}
        for spec in program.inputs
    }
    if program.fixed_rows is None:
        axes |= {name: {0: BATCH} for name in outputs}
    content = io.BytesIO()
    try:
        torch.onnx.export(
            program.module,
            arguments,
            content,
            dynamo=False,
            input_names=names,
            output_names=outputs,
            dynamic_axes={name: found for name, found in axes.items() if found},
            opset_version=_OPSET,
        )
    except Exception as error:
        raise refuse(path, program, error) from error
    return clean(onnx.load_from_string(content.getvalue()))


def keeps_axes_free(proto: onnx.ModelProto, program: Program) -> bool:
    """Whether the graph answers like the network on rows of other extents than it was made with."""
    import numpy as np
    import onnxruntime
    import torch

    rows = invent(program.inputs, program.fixed_rows or _OTHER_ROWS, _OTHER_EXTENT)
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        ours = session.run(None, rows)
        with torch.no_grad():
            said = program.module(*(torch.from_numpy(rows[s.name]) for s in program.inputs))
    except Exception:  # noqa: BLE001 - whatever either says: it does not take these rows
        return False
    theirs = name_outputs("", program, said).values()
    return all(
        a.shape == b.shape and np.allclose(a, b, rtol=1e-3, atol=1e-4)
        for a, b in zip(ours, theirs, strict=True)
    )


def example_arguments(program: Program) -> tuple[Any, ...]:
    """What the network is exported with."""
    import torch

    rows = program.fixed_rows or _ROWS
    made = invent(program.inputs, rows)
    return tuple(torch.from_numpy(made[spec.name]) for spec in program.inputs)


def clean(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Without stack traces: they hold the paths of whoever exported, and differ from run to run."""
    _strip(proto.graph)
    for function in proto.functions:
        del function.metadata_props[:]
        for node in function.node:
            del node.metadata_props[:]
            node.doc_string = ""
    del proto.metadata_props[:]
    return proto


def _strip(graph: onnx.GraphProto) -> None:
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _strip(attribute.g)
