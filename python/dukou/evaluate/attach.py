"""What was learnt of a model's answers becomes a part of its graph: nodes behind its own last ones.

The graph takes and gives what it did, under the same names: whoever serves it need not know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dukou.evaluate.outlets import Outlets
from dukou.evaluate.scaling import Scaling

if TYPE_CHECKING:
    import onnx


def attach_scaling(proto: onnx.ModelProto, outlets: Outlets, scaling: Scaling) -> None:
    """Changes `proto`: its probabilities become `scaling` of them, its logits likewise."""
    made = _Nodes(proto, outlets.numbers)
    inner, out = made.inner, outlets.numbers
    single = outlets.columns == 1
    if outlets.form == "logits":
        scaled = made.node("Mul", [inner, made.constant(scaling.scale)])
        if scaling.offset:
            row = [scaling.offset] if single else [0.0, scaling.offset]
            scaled = made.node("Add", [scaled, made.constant(row)])
        made.node("Identity", [scaled], out)
    else:
        floor = made.constant(scaling.floor)
        logs = made.node("Log", [made.node("Max", [inner, floor])])
        if single:
            other = made.node("Sub", [made.constant(1.0), inner])
            logs = made.node("Sub", [logs, made.node("Log", [made.node("Max", [other, floor])])])
        scaled = made.node("Mul", [logs, made.constant(scaling.scale)])
        if scaling.offset:
            row = [scaling.offset] if single else [0.0, scaling.offset]
            scaled = made.node("Add", [scaled, made.constant(row)])
        if single:
            made.node("Sigmoid", [scaled], out)
        else:
            made.node("Softmax", [scaled], out, axis=1)
    made.append()


def attach_threshold(proto: onnx.ModelProto, outlets: Outlets, threshold: float) -> None:
    """Changes `proto`: its label is the second class where the number of that class is `threshold` or more.

    The number is the one that the model itself gave, before any scaling: attach this first.
    """
    import numpy as np
    from onnx import TensorProto

    made = _Nodes(proto, outlets.label)
    numbers = _Nodes(proto, outlets.numbers, rename=False)
    value = outlets.numbers
    if outlets.number_rank == 2:
        column = made.constant(np.array(outlets.columns - 1, dtype=np.int64))
        value = made.node("Gather", [value, column], axis=1)
    bound = made.constant(np.array(threshold, dtype=numbers.dtype))
    below = made.node("Less", [value, bound])
    which = made.node("Cast", [made.node("Not", [below])], to=TensorProto.INT64)
    if outlets.label_rank == 2:
        shape = made.constant(np.array([-1, 1], dtype=np.int64))
        which = made.node("Reshape", [which, shape])
    if made.dtype == object:
        classes = np.array(outlets.labels, dtype=object)
    else:
        classes = np.array([int(label) for label in outlets.labels]).astype(made.dtype)
    made.node("Gather", [made.constant(classes), which], outlets.label, axis=0)
    made.append()


class _Nodes:
    """New nodes of a graph, behind the one that made `output`, which makes `inner` from then on."""

    def __init__(self, proto: onnx.ModelProto, output: str, *, rename: bool = True) -> None:
        from onnx import helper

        self._graph = proto.graph
        self._nodes: list[Any] = []
        self._taken = {t.name for t in (*proto.graph.initializer, *proto.graph.input)}
        for node in proto.graph.node:
            self._taken.update((*node.input, *node.output, node.name))
        value = next(v for v in proto.graph.output if v.name == output)
        self.dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        self.inner = self._free(f"{output}_before") if rename else output
        if rename:
            _rename(proto.graph, output, self.inner)

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """A node more; gives the name of what it makes."""
        from onnx import helper

        name = output or self._free(f"{self.inner}_{kind.lower()}")
        self._nodes.append(
            helper.make_node(kind, inputs, [name], name=self._free(f"{name}_node"), **attributes)
        )
        return name

    def constant(self, value: Any) -> str:
        """A constant: numbers in the precision of the output, arrays as they are."""
        import numpy as np
        from onnx import numpy_helper

        array = value if isinstance(value, np.ndarray) else np.array(value, dtype=self.dtype)
        name = self._free(f"{self.inner}_constant")
        self._graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def append(self) -> None:
        """The nodes join the graph: behind all there are, whose order stays."""
        self._graph.node.extend(self._nodes)

    def _free(self, wanted: str) -> str:
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """In every node, and in the graphs inside nodes, which see what is outside."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, old, new)
            for inside in attribute.graphs:
                _rename(inside, old, new)
    for value in graph.value_info:
        if value.name == old:
            value.name = new
