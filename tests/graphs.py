"""Small real graphs for the tests of this stop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def make_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[tuple[str, int, Sequence[Any]]],
    outputs: Sequence[tuple[str, int, Sequence[Any]]],
    *,
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    opset: int = 20,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def dense(rows: Any = "batch") -> onnx.ModelProto:
    """`x` FP32 `[rows, 8]` to `y` FP32 `[rows, 3]`."""
    weights = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    return make_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, [rows, 8])],
        [("y", TensorProto.FLOAT, [rows, 3])],
        weights={"w": weights},
    )


def save_external(model: onnx.ModelProto, path: Path) -> Path:
    """Weights go into `w.bin` beside the graph."""
    onnx.save(model, str(path), save_as_external_data=True, location="w.bin", size_threshold=0)
    return path


def relocate(path: Path, **entries: str) -> None:
    """Changes what the graph says of the place of its weights."""
    proto = onnx.load(str(path), load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key in entries:
            entry.value = entries.pop(entry.key)
    for key, value in entries.items():
        proto.graph.initializer[0].external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
