"""Weights and activations in 8 bits, with scales that were fixed on calibration rows (static).

Scales that do not move make a row's answer independent of its neighbours, so that an engine may batch
such a form; and layers that follow each other hand 8-bit numbers on without going back to floats. The
price: a value beyond what the calibration rows showed is cut off.

ONNX Runtime's quantizer writes operators, not Q-DQ pairs: as fast where both were measured, and what the
runtime executes does not hang on its recognizing a pattern; a residual branch keeps its floats, too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.model.golden import Tolerance
from dukou.model.model import Model
from dukou.optimize.passes.merge_bias import has_subgraphs, merge_bias
from dukou.optimize.variant import finish_variant

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from dukou.optimize.contract import Arrays

    Array = np.ndarray[Any, Any]

_OPERATORS = ("MatMul", "Gemm", "Conv")
# Below this the weight of a product saves less than the nodes around it cost. A convolution uses its
# weight at every place: none is too small, and one in floats between others costs two conversions.
_LEAST_ELEMENTS = 1024
# The share of a column's energy that rounding by the whole weight's scale may take, and the share of
# columns that may lose more. A scale a column costs a fifth of the speed of a matrix product.
_MOST_NOISE, _MOST_COLUMNS = 1e-3, 0.1
# Integer kernels differ between CPUs with and without VNNI.
_TOLERANCE = Tolerance(absolute=0.05, relative=0.05)


class Int8StaticPass:
    """Quantizes by ONNX Runtime's static quantizer: unsigned activations, signed weights."""

    name = "int8-static"

    def apply(self, model: Model, into: Path, calibration: Sequence[Arrays] | None) -> Model | None:
        """The quantized graph; none without calibration rows or without weights of some size."""
        import onnx
        import onnxruntime
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.quant_utils import add_pre_process_metadata

        if not calibration:
            return None
        proto = onnx.load(str(model.graph))
        merge_bias(proto)
        weights = _find_weights(proto.graph)
        if not weights:
            return None
        relus = _find_relus(proto.graph, set(weights))
        per_channel = any(_needs_channels(weight, axis) for weight, axis in weights.values())
        # Says that the graph needs no preparation: the simplifier is a pass of its own.
        add_pre_process_metadata(proto)
        graph = into / "graph.onnx"
        with _quiet_logging():
            quantize_static(
                proto,
                graph,
                _make_reader(calibration),
                quant_format=QuantFormat.QOperator,
                op_types_to_quantize=[*_OPERATORS, "Relu"],
                nodes_to_quantize=[*weights, *relus],
                per_channel=per_channel,
                # The pair that the integer kernels of x86 are made for.
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                use_external_data_format=proto.ByteSize() > 1 << 30,
            )
        quantized = onnx.load(str(graph), load_external_data=False)
        if _widen_ends(quantized.graph, set(relus.values())):
            onnx.save(quantized, str(graph))
        how = "per channel" if per_channel else "per tensor"
        rows = sum(len(next(iter(request.values()))) for request in calibration)
        return finish_variant(
            model,
            graph,
            name=self.name,
            step=f"quantize int8 static {how} on {rows} rows onnxruntime {onnxruntime.__version__}",
            tolerance=_TOLERANCE,
        )


def _find_weights(graph: onnx.GraphProto) -> dict[str, tuple[Array, int]]:
    """Name of the node → its constant float32 weight and the axis of its outputs.

    Every node gets a name: the quantizer knows them by it.
    """
    from onnx import TensorProto, numpy_helper

    constants = {t.name: t for t in graph.initializer if t.data_type == TensorProto.FLOAT}
    taken = {node.name for node in graph.node}
    found = {}
    for number, node in enumerate(graph.node):
        if not node.name:
            node.name = f"{node.op_type}_{number}"
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)
        tensor = constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type not in _OPERATORS or tensor is None:
            continue
        attributes = {a.name: a.i or a.f for a in node.attribute if a.name != "kernel_shape"}
        plain = attributes.get("alpha", 1) == 1 == attributes.get("beta", 1)
        flat = len(tensor.dims) == 2 or node.op_type == "Conv"
        weight = numpy_helper.to_array(tensor)
        if not plain or attributes.get("transA") or not flat:
            continue
        if weight.size < _LEAST_ELEMENTS and node.op_type != "Conv":
            continue
        outputs_first = node.op_type == "Conv" or bool(attributes.get("transB"))
        found[node.name] = (weight, 0 if outputs_first else 1)
    return found


def _find_relus(graph: onnx.GraphProto, quantized: set[str]) -> dict[str, str]:
    """Name of the node → its output: Relus that become the lower bound of a quantized answer, for nothing.

    They alone read what a quantized node gives. That of a Gemm before floats stays: such a Gemm gives
    floats itself (`_widen_ends`), which have no bound.
    """
    readers: dict[str, list[str]] = {output.name: [""] for output in graph.output}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node.name)
    makers = {node.output[0]: node for node in graph.node if node.name in quantized}
    found = {}
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.op_type == "Relu" else None
        if maker is None or len(readers[node.input[0]]) != 1:
            continue
        after = readers.get(node.output[0], [])
        if maker.op_type != "Gemm" or quantized.intersection(after):
            found[node.name] = node.output[0]
    return found


def _needs_channels(weight: Array, axis: int) -> bool:
    """Whether one scale for the whole weight would leave too little of too many columns."""
    import numpy as np

    columns = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    # Rounding to steps adds a noise of step² / 12.
    noise = (np.abs(columns).max() / 127) ** 2 / 12
    energy = (columns**2).mean(axis=1)
    return bool((noise > _MOST_NOISE * energy)[energy > 0].mean() > _MOST_COLUMNS)


def _widen_ends(graph: onnx.GraphProto, bounded: set[str]) -> bool:
    """A product whose answer is only ever read as floats gives floats, instead of 256 levels of them.

    Not where the levels are the bound that a Relu was: `bounded` names those.
    """
    if has_subgraphs(graph):
        return False
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    given = {output.name for output in graph.output}
    gone: list[onnx.NodeProto] = []
    for node in graph.node:
        after = readers.get(node.output[0], [])
        if node.op_type != "QGemm" or node.output[0] in given or len(after) != 1:
            continue
        if after[0].op_type == "DequantizeLinear" and after[0].output[0] not in bounded:
            # Without a scale and a zero point of its output, QGemm gives floats.
            del node.input[7:]
            node.output[0] = after[0].output[0]
            gone.append(after[0])
    for node in gone:
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    unused = {name for node in gone for name in node.input} - used
    for tensor in [tensor for tensor in graph.initializer if tensor.name in unused]:
        graph.initializer.remove(tensor)
    return bool(gone)


def _make_reader(calibration: Sequence[Arrays]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
        def __init__(self) -> None:
            self._requests = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            request = next(self._requests, None)
            return None if request is None else dict(request)

    return Reader()


@contextmanager
def _quiet_logging() -> Iterator[None]:
    """The quantizer warns, on the root logger, of every tensor that is no float and none of its own."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
