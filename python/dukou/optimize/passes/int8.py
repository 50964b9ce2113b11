"""Weights of matrix products in 8 bits; activations are quantized as they come (dynamic).

The scale of an activation is that of the whole tensor, so that a row's answer depends a little on
the rows in its batch. The search looks for that and judges such a form row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dukou.model.golden import Tolerance
from dukou.model.model import Model
from dukou.optimize.variant import finish_variant

if TYPE_CHECKING:
    import onnx

    from dukou.optimize.contract import Arrays

_OPERATORS = ("MatMul", "Gemm")
# Below this a weight saves less than the nodes around it cost.
_LEAST_ELEMENTS = 1024
# From this many columns on, a scale a column costs little and keeps narrow columns exact.
_PER_CHANNEL_COLUMNS = 64
# Integer kernels differ between CPUs with and without VNNI.
_TOLERANCE = Tolerance(absolute=0.05, relative=0.05)


class Int8Pass:
    """Quantizes by ONNX Runtime's dynamic quantizer, with signed weights."""

    name = "int8"

    def apply(
        self,
        model: Model,
        into: Path,
        calibration: Sequence[Arrays] | None,  # noqa: ARG002 (the contract's)
    ) -> Model | None:
        """The quantized graph; none where no matrix product has constant weights of some size."""
        import onnx
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic
        from onnxruntime.quantization.quant_utils import add_pre_process_metadata

        proto = onnx.load(str(model.graph))
        weights = _find_weights(proto.graph)
        if not weights:
            return None
        per_channel = max(min(shape) for _, shape in weights) >= _PER_CHANNEL_COLUMNS
        nodes = [node for node, _ in weights]
        # Says that the graph needs no preparation: the simplifier is a pass of its own.
        add_pre_process_metadata(proto)
        graph = into / "graph.onnx"
        quantize_dynamic(
            proto,
            graph,
            op_types_to_quantize=list(_OPERATORS),
            nodes_to_quantize=nodes,
            per_channel=per_channel,
            # Signed: faster here than unsigned on every CPU tried, and symmetric.
            weight_type=QuantType.QInt8,
            use_external_data_format=proto.ByteSize() > 1 << 30,
        )
        how = "per channel" if per_channel else "per tensor"
        return finish_variant(
            model,
            graph,
            name=self.name,
            step=f"quantize int8 dynamic {how} onnxruntime {onnxruntime.__version__}",
            tolerance=_TOLERANCE,
        )


def _find_weights(graph: onnx.GraphProto) -> list[tuple[str, tuple[int, ...]]]:
    """(name of the node, shape of its constant weights); unnamed nodes get names.

    Only two-dimensional float32 weights: what the integer kernels are for.
    """
    from onnx import TensorProto

    constants = {
        tensor.name: tuple(tensor.dims)
        for tensor in graph.initializer
        if tensor.data_type == TensorProto.FLOAT and len(tensor.dims) == 2
    }
    taken = {node.name for node in graph.node}
    found = []
    for number, node in enumerate(graph.node):
        if node.op_type not in _OPERATORS or len(node.input) < 2:
            continue
        shape = constants.get(node.input[1])
        if shape is None or shape[0] * shape[1] < _LEAST_ELEMENTS:
            continue
        if not node.name:
            node.name = f"{node.op_type}_{number}"
            while node.name in taken:
                node.name += "_"
            taken.add(node.name)
        found.append((node.name, shape))
    return found
