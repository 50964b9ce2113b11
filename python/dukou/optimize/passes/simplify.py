"""The graph without what it does not need: constants folded, identities gone, neighbours fused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.model.model import Model
from dukou.optimize.variant import finish_variant, save_graph

if TYPE_CHECKING:
    import onnx

    from dukou.optimize.contract import Arrays


class SimplifyPass:
    """Simplifies by onnxslim, and leaves out what only people read."""

    name = "simplify"

    def apply(
        self,
        model: Model,
        into: Path,
        calibration: Sequence[Arrays] | None,  # noqa: ARG002 (the contract's)
    ) -> Model | None:
        """The slimmer graph; none where it is as it was."""
        import onnx
        import onnxslim

        before = onnx.load(str(model.graph))
        after: onnx.ModelProto = onnxslim.slim(onnx.load(str(model.graph)))
        # The runtime infers inner shapes by itself; the annotations are bytes.
        for proto in (before, after):
            del proto.graph.value_info[:]
        _restore_interface(after.graph, before.graph)
        if _content(before) == _content(after):
            return None
        graph = into / "graph.onnx"
        save_graph(after, graph)
        return finish_variant(
            model, graph, name=self.name, step=f"simplify onnxslim {onnxslim.__version__}"
        )


def _restore_interface(after: onnx.GraphProto, before: onnx.GraphProto) -> None:
    """Names of free extents survive: they are part of the signature."""
    for new, old in ((after.input, before.input), (after.output, before.output)):
        originals = {value.name: value for value in old}
        for value in new:
            if value.name in originals:
                value.CopyFrom(originals[value.name])


def _content(proto: onnx.ModelProto) -> Any:
    """What matters of a graph: nodes without their names, and how many bytes the weights have."""
    nodes = []
    for node in proto.graph.node:
        attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
        nodes.append((node.op_type, node.domain, len(node.input), attributes))
    return nodes, sum(tensor.ByteSize() for tensor in proto.graph.initializer)
