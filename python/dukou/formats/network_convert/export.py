"""A network becomes an ONNX graph: by `torch.export` where it can be, by tracing where it is TorchScript."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.formats.network_convert.program import Program, flatten_output
from dukou.formats.network_convert.refusal import FixedAxisError, as_symbol, refuse
from dukou.formats.network_convert.trace import (
    clean,
    example_arguments,
    keeps_axes_free,
    trace_graph,
)

if TYPE_CHECKING:
    import onnx

OPSET = 20


def export_graph(path: str, program: Program) -> onnx.ModelProto:
    """The graph, with the program's names of inputs and outputs and a free batch.

    Raises:
        InputError: `formats.cannot-convert`, naming the operator or the axis.
    """
    import torch

    if program.exported is None and isinstance(program.module, torch.jit.ScriptModule):
        return trace_graph(path, program)
    return _export(path, program)


def _export(path: str, program: Program) -> onnx.ModelProto:
    import torch

    try:
        exported = program.exported or _capture(path, program)
    except FixedAxisError:
        # Recurrent layers are taken apart step by step here; the older exporter writes them whole.
        traced = trace_graph(path, program)
        if not keeps_axes_free(traced, program):
            raise
        return traced
    try:
        made = torch.onnx.export(
            exported, dynamo=True, verbose=False, opset_version=OPSET, optimize=True
        )
    except Exception as error:
        raise refuse(path, program, error) from error
    proto: onnx.ModelProto = made.model_proto
    _rename(proto, program, _output_names(path, program))
    return clean(proto)


def _capture(path: str, program: Program) -> Any:
    """The module as a program of tensors, every named axis free."""
    import torch

    axes: dict[str, Any] = {}
    shapes = tuple(
        {
            axis: axes.setdefault(dim, torch.export.Dim(as_symbol(dim)))
            for axis, dim in enumerate(spec.shape)
            if isinstance(dim, str)
        }
        for spec in program.inputs
    )
    positional = _Positional.wrap(program.module, len(program.inputs))
    try:
        with torch.no_grad():
            return torch.export.export(
                positional, example_arguments(program), dynamic_shapes=(shapes,), strict=False
            )
    except Exception as error:
        raise refuse(path, program, error) from error


class _Positional:
    """Makes a module of any signature one that takes its inputs in order."""

    @staticmethod
    def wrap(module: Any, count: int) -> Any:
        import torch

        class Positional(torch.nn.Module):  # type: ignore[misc] # Any without torch
            def __init__(self) -> None:
                super().__init__()
                self.inner = module

            def forward(self, *arguments: Any) -> Any:
                return self.inner(*arguments[:count])

        return Positional().eval()


def _output_names(path: str, program: Program) -> list[str]:
    import torch

    if program.outputs:
        return list(program.outputs)
    with torch.no_grad():
        return list(flatten_output(path, program.module(*example_arguments(program))))


def _rename(proto: onnx.ModelProto, program: Program, outputs: list[str]) -> None:
    """Inputs, outputs and free axes take the names that the user knows."""
    graph = proto.graph
    names = {
        value.name: spec.name for value, spec in zip(graph.input, program.inputs, strict=False)
    }
    if len(outputs) == len(graph.output):
        names |= {value.name: new for value, new in zip(graph.output, outputs, strict=True)}
    made = [*(n for node in graph.node for n in (*node.input, *node.output)), *names]
    inner = {n: f"{n}_inner" for n in made if n in set(names.values()) and n not in names}
    axes = {
        dim.dim_param: wanted
        for value, spec in zip(graph.input, program.inputs, strict=False)
        for dim, wanted in zip(value.type.tensor_type.shape.dim, spec.shape, strict=False)
        if dim.dim_param and isinstance(wanted, str)
    }
    _rename_values(graph, {**inner, **names})
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in axes:
                dim.dim_param = axes[dim.dim_param]


def _rename_values(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_values(attribute.g, names)


def save_graph(proto: onnx.ModelProto, folder: Path) -> None:
    """`graph.onnx`, with weights beside it where one file cannot hold them (2 GiB)."""
    import onnx

    large = proto.ByteSize() > 1 << 30
    onnx.save(
        proto,
        str(folder / "graph.onnx"),
        save_as_external_data=large,
        location="graph.weights" if large else None,
    )
