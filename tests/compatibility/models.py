"""The models that clients are tried on, laid out as Triton and TensorFlow Serving have them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from tests.serving import write_model

ROWS = np.array([[1.0, 2.0, 3.0, 4.0], [0.5, -1.5, 2.25, 0.0]], np.float32)


def write_models(folder: Path) -> dict[str, Any]:
    """Writes the models; gives what ONNX Runtime itself answers for `ROWS`.

    `m` is the classifier in two versions, `two` and `spare` have two inputs and outputs, `text`, `half`, `whole`,
    `truth` and `brain` give back what they are given.
    """
    for version, scale in (("1", 0.3), ("2", 1.0)):
        place = folder / "m" / version
        place.mkdir(parents=True)
        write_model(place / "model.onnx", scale=scale)
    for name in ("two", "spare"):
        _write(
            folder / name,
            [
                helper.make_node("Add", ["a", "b"], ["sum"]),
                helper.make_node("Sub", ["a", "b"], ["difference"]),
            ],
            {"a": TensorProto.FLOAT, "b": TensorProto.FLOAT},
            {"sum": TensorProto.FLOAT, "difference": TensorProto.FLOAT},
        )
    for name, element, letter in (
        ("text", TensorProto.STRING, "t"),
        ("half", TensorProto.FLOAT16, "h"),
        ("whole", TensorProto.INT64, "i"),
        ("truth", TensorProto.BOOL, "b"),
        ("brain", TensorProto.BFLOAT16, "h"),
    ):
        node = helper.make_node("Identity", [letter], ["same"])
        _write(folder / name, [node], {letter: element}, {"same": element})
    session = onnxruntime.InferenceSession(folder / "m" / "2" / "model.onnx")
    labels, probabilities = session.run(["label", "probabilities"], {"x": ROWS})
    return {"labels": labels.tolist(), "probabilities": probabilities.tolist()}


def write_more(folder: Path) -> None:
    """Writes two models beside those, for Triton: `scores` and `small`, which gives bytes back."""
    write_scores(folder / "scores")
    node = helper.make_node("Identity", ["i"], ["same"])
    _write(folder / "small", [node], {"i": TensorProto.INT8}, {"same": TensorProto.INT8})


def write_scores(*folders: Path) -> None:
    """Writes the classifier with its probabilities as its only output, into each of these folders."""
    for folder in folders:
        folder.mkdir(parents=True)
        model = onnx.load(write_model(folder / "model.onnx"))
        del model.graph.output[0], model.graph.node[-1]
        onnx.checker.check_model(model)
        onnx.save(model, folder / "model.onnx")


def _write(folder: Path, nodes: list[Any], inputs: dict[str, int], outputs: dict[str, int]) -> None:
    def values(said: dict[str, int]) -> list[Any]:
        return [helper.make_tensor_value_info(n, e, ["n", 2]) for n, e in said.items()]

    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
