"""What is put behind a graph answers as numpy does, under the same names."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.graphs import make_model

from dukou.evaluate.attach import attach_scaling, attach_threshold
from dukou.evaluate.outlets import Outlets, find_obstacle
from dukou.evaluate.scaling import Scaling

FLOATS = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


def _run(proto: onnx.ModelProto, x: np.ndarray) -> dict[str, np.ndarray]:
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"x": x}), strict=True))


def _numbers(form: str, columns: int, dtype: str) -> np.ndarray:
    rng = np.random.default_rng(columns)
    numbers = rng.normal(size=(64, columns)) * 4
    if form == "probabilities":
        numbers = np.exp(numbers)
        numbers = (
            numbers / numbers.sum(axis=1, keepdims=True) if columns > 1 else rng.random((64, 1))
        )
        numbers[:3, 0] = 0.0
    return numbers.astype(dtype)


def _through(kind: int, columns: int, opset: int = 17) -> onnx.ModelProto:
    """`x` is given out as `numbers`."""
    return make_model(
        [helper.make_node("Identity", ["x"], ["numbers"])],
        [("x", kind, ["n", columns])],
        [("numbers", kind, ["n", columns])],
        opset=opset,
    )


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("columns", [1, 2, 7])
@pytest.mark.parametrize("form", ["probabilities", "logits"])
def test_a_scaling_answers_as_numpy_does(form: Any, columns: int, dtype: str) -> None:
    proto = _through(FLOATS[dtype], columns)
    scaling = Scaling(0.6, 0.4 if columns < 3 else 0.0, 1e-6)
    attach_scaling(
        proto, Outlets("numbers", form, "", tuple("abcdefg"[: max(2, columns)]), columns), scaling
    )
    numbers = _numbers(form, columns, dtype)
    said = _run(proto, numbers)["numbers"]
    assert said.dtype == dtype and said.shape == numbers.shape
    if form == "logits":
        said = Scaling().apply(said, "logits")
    wanted = scaling.apply(numbers, form)
    np.testing.assert_allclose(
        said if said.shape[1] > 1 else said[:, 0],
        wanted if said.shape[1] > 1 else wanted[:, 1],
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "kind", [TensorProto.INT64, TensorProto.INT32, TensorProto.STRING, TensorProto.BOOL]
)
@pytest.mark.parametrize("wide", [False, True])
def test_a_label_follows_the_line(kind: int, wide: bool) -> None:
    """Of every type that a label has, as a column or without; the probabilities are scaled beside it."""
    texts = kind == TensorProto.STRING
    labels = ("no", "yes") if texts else ("0", "1") if kind == TensorProto.BOOL else ("3", "8")
    given = np.array(labels, dtype=object) if texts else np.array([int(t) for t in labels])
    classes = given if texts else given.astype(helper.tensor_dtype_to_np_dtype(kind))
    nodes = [
        helper.make_node("Identity", ["x"], ["numbers"]),
        helper.make_node("ArgMax", ["numbers"], ["which"], axis=1, keepdims=int(wide)),
        helper.make_node("Gather", ["classes", "which"], ["label"], axis=0),
    ]
    proto = make_model(
        nodes,
        [("x", TensorProto.FLOAT, ["n", 2])],
        [("label", kind, ["n", 1] if wide else ["n"]), ("numbers", TensorProto.FLOAT, ["n", 2])],
        weights={"classes": classes},
        opset=13,
    )
    numbers = _numbers("probabilities", 2, "float32")
    before = _run(proto, numbers)
    outlets = Outlets("numbers", "probabilities", "label", labels, 2, 2, 2 if wide else 1)
    assert find_obstacle(proto, outlets) == ""
    line, scaling = float(np.float32(0.123)), Scaling(0.5, -1.0, 1e-3)
    attach_threshold(proto, outlets, line)
    attach_scaling(proto, outlets, scaling)
    after = _run(proto, numbers)
    assert after["label"].shape == before["label"].shape
    assert after["label"].dtype == before["label"].dtype
    wanted = np.array(classes)[(numbers[:, 1] >= np.float32(line)).astype(int)]
    assert (after["label"].reshape(-1) == wanted).all()
    assert (after["label"] != before["label"]).any()
    np.testing.assert_allclose(after["numbers"], scaling.apply(numbers, "probabilities"), atol=1e-6)


def test_numbers_without_columns() -> None:
    """One probability a row, `(rows,)`, with the label beside it."""
    proto = make_model(
        [
            helper.make_node("Identity", ["x"], ["p"]),
            helper.make_node("Greater", ["p", "half"], ["said"]),
            helper.make_node("Cast", ["said"], ["label"], to=TensorProto.INT64),
        ],
        [("x", TensorProto.FLOAT, ["n"])],
        [("p", TensorProto.FLOAT, ["n"]), ("label", TensorProto.INT64, ["n"])],
        weights={"half": np.array(0.5, dtype=np.float32)},
    )
    outlets = Outlets("p", "probabilities", "label", ("0", "1"), 1, 1, 1)
    attach_threshold(proto, outlets, 0.25)
    attach_scaling(proto, outlets, Scaling(2.0, 1.0, 1e-6))
    x = np.array([0.0, 0.2, 0.25, 0.9, 1.0], dtype=np.float32)
    said = _run(proto, x)
    assert said["label"].tolist() == [0, 0, 1, 1, 1]
    wanted = Scaling(2.0, 1.0, 1e-6).apply(x[:, None], "probabilities")[:, 1]
    np.testing.assert_allclose(said["p"], wanted, atol=1e-6)


def test_a_graph_inside_a_node_sees_the_old_numbers() -> None:
    """A branch that reads the output goes on reading what the model itself said."""

    def branch(name: str) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Identity", ["numbers"], [name])],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])],
        )

    proto = make_model(
        [
            helper.make_node("Identity", ["x"], ["numbers"]),
            helper.make_node(
                "If", ["yes"], ["copy"], then_branch=branch("then"), else_branch=branch("other")
            ),
        ],
        [("x", TensorProto.FLOAT, ["n", 2])],
        [("numbers", TensorProto.FLOAT, ["n", 2]), ("copy", TensorProto.FLOAT, ["n", 2])],
        weights={"yes": np.array(True)},
    )
    attach_scaling(proto, Outlets("numbers", "logits", "", ("a", "b"), 2), Scaling(0.5))
    x = np.array([[2.0, 4.0]], dtype=np.float32)
    said = _run(proto, x)
    assert said["numbers"].tolist() == [[1.0, 2.0]]
    assert said["copy"].tolist() == [[2.0, 4.0]]


def test_what_nothing_can_be_put_behind() -> None:
    outlets = Outlets("numbers", "logits", "", ("a", "b"), 2)
    assert "opset 8" in find_obstacle(_through(TensorProto.FLOAT, 2, opset=8), outlets)
    proto = _through(TensorProto.FLOAT, 2)
    del proto.graph.node[:]
    assert "no node of the graph makes its output `numbers`" in find_obstacle(proto, outlets)
