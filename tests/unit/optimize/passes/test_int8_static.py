"""The static pass beyond its contract (`tests/contract/test_passes.py`): which nodes it leaves, and why."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from dukou.formats import open_model
from dukou.model.model import Model
from dukou.optimize.passes.int8_static import Int8StaticPass
from dukou.optimize.passes.merge_bias import merge_bias

_WIDTH, _HIDDEN, _OUT = 16, 128, 3
_CHANCE = np.random.default_rng(5)
_FIRST = _CHANCE.standard_normal((_WIDTH, _HIDDEN)).astype(np.float32)
_SECOND = _CHANCE.standard_normal((_HIDDEN, _HIDDEN)).astype(np.float32) / np.float32(_HIDDEN)
_LAST = _CHANCE.standard_normal((_HIDDEN, _OUT)).astype(np.float32)
_BIAS = _CHANCE.standard_normal((1, _HIDDEN)).astype(np.float32)


def _rows(count: int, seed: int) -> Any:
    return np.random.default_rng(seed).standard_normal((count, _WIDTH)).astype(np.float32)


def _mlp(second: Any = _SECOND, *, transposed: bool = False) -> onnx.ModelProto:
    """Two layers with a Relu, which share their bias; what comes out are numbers, not classes."""
    if transposed:
        middle = [helper.make_node("Gemm", ["h1", "second", "bias"], ["s2"], transB=1)]
        second = np.ascontiguousarray(second.T)
    else:
        middle = [
            helper.make_node("MatMul", ["h1", "second"], ["p2"]),
            helper.make_node("Add", ["bias", "p2"], ["s2"]),
        ]
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["p1"]),
        helper.make_node("Add", ["p1", "bias"], ["s1"]),
        helper.make_node("Relu", ["s1"], ["h1"]),
        *middle,
        helper.make_node("Relu", ["s2"], ["h2"]),
        helper.make_node("MatMul", ["h2", "last"], ["y"]),
    ]
    weights = {"first": _FIRST, "second": second, "last": np.tile(_LAST, (1, 3)), "bias": _BIAS}
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", _WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3 * _OUT])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _quantize(proto: onnx.ModelProto, folder: Path) -> tuple[Model, Model]:
    onnx.save(proto, str(folder / "g.onnx"))
    model = open_model(folder / "g.onnx", into=folder / "model", samples=_rows(16, 1))
    into = folder / "form"
    into.mkdir()
    form = Int8StaticPass().apply(model, into, [{"x": _rows(100, 2)}, {"x": _rows(100, 3)}])
    assert form is not None
    return model, form


def _answer(graph: Path, rows: Any) -> Any:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": rows})[0]


@pytest.mark.parametrize("transposed", [False, True])
def test_layers_hand_integers_on_and_the_last_gives_floats(
    tmp_path: Path, transposed: bool
) -> None:
    model, form = _quantize(_mlp(transposed=transposed), tmp_path)
    operators = Counter(node.op_type for node in onnx.load(str(form.graph)).graph.node)
    # One way in, no addition and no Relu of its own between, no return to floats but at the end.
    assert operators["QuantizeLinear"] == 1
    assert operators["QGemm"] == 2
    assert not operators["Add"] + operators["Relu"] + operators["Gemm"]
    rows = _rows(64, 4)
    before, after = _answer(model.graph, rows), _answer(form.graph, rows)
    assert np.abs(after - before).mean() < 0.03 * np.abs(before).mean()
    assert form.size_bytes() < 0.4 * model.size_bytes()


def test_a_last_layer_gives_more_than_256_levels(tmp_path: Path) -> None:
    proto = _mlp()
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(3 * _OUT, np.float32), "lift"))
    proto.graph.node[-1].output[0] = "product"
    proto.graph.node.append(helper.make_node("Add", ["product", "lift"], ["y"]))
    _, form = _quantize(proto, tmp_path)
    assert [node.op_type for node in onnx.load(str(form.graph)).graph.node].count(
        "DequantizeLinear"
    ) == 0
    assert len(np.unique(_answer(form.graph, _rows(500, 4)))) > 1000


def test_a_row_is_answered_alike_in_any_company(tmp_path: Path) -> None:
    _, form = _quantize(_mlp(), tmp_path)
    rows = _rows(32, 4)
    alone = np.concatenate([_answer(form.graph, rows[i : i + 1]) for i in range(len(rows))])
    np.testing.assert_array_equal(_answer(form.graph, rows * 1), alone)
    wild = np.concatenate([rows, 100 * rows])
    np.testing.assert_array_equal(_answer(form.graph, wild)[: len(rows)], alone)


def test_a_scale_a_column_only_where_columns_differ_much(tmp_path: Path) -> None:
    for name, second in (
        ("even", _SECOND),
        ("uneven", _SECOND * np.logspace(0, -3, _HIDDEN, dtype=np.float32)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        model, form = _quantize(_mlp(second), folder)
        step = form.lineage.steps[-1]
        assert ("per channel" in step) == (name == "uneven")
        assert "on 200 rows" in step
        rows = _rows(64, 4)
        before, after = _answer(model.graph, rows), _answer(form.graph, rows)
        assert np.abs(after - before).mean() < 0.03 * np.abs(before).mean()


def test_without_rows_or_without_weights_there_is_nothing_to_do(tmp_path: Path) -> None:
    model, form = _quantize(_mlp(), tmp_path)
    step = Int8StaticPass()
    assert step.apply(model, tmp_path, None) is None
    assert step.apply(model, tmp_path, []) is None
    # Its own form has no float weights of size left but the last, which is small.
    again = tmp_path / "again"
    again.mkdir()
    assert step.apply(form, again, [{"x": _rows(10, 2)}]) is None


def test_a_merged_bias_changes_no_answer(tmp_path: Path) -> None:
    proto = _mlp()
    onnx.save(proto, str(tmp_path / "before.onnx"))
    merge_bias(proto)
    onnx.save(proto, str(tmp_path / "after.onnx"))
    assert [n.op_type for n in proto.graph.node] == ["Gemm", "Relu", "Gemm", "Relu", "MatMul"]
    rows = _rows(20, 4)
    np.testing.assert_allclose(
        _answer(tmp_path / "after.onnx", rows), _answer(tmp_path / "before.onnx", rows), rtol=1e-5
    )


def test_a_product_that_is_read_twice_keeps_its_addition() -> None:
    proto = _mlp()
    proto.graph.output.append(helper.make_tensor_value_info("p1", TensorProto.FLOAT, None))
    merge_bias(proto)
    assert [n.op_type for n in proto.graph.node][:3] == ["MatMul", "Add", "Relu"]


def test_no_convolution_is_too_small(tmp_path: Path) -> None:
    """One that stayed in floats between two that did not would cost two conversions."""
    chance = np.random.default_rng(6)
    weights: dict[str, Any] = {
        "c1": chance.standard_normal((8, 1, 3, 3)).astype(np.float32),
        "c2": chance.standard_normal((8, 8, 3, 3)).astype(np.float32) / 8,
        "bias": chance.standard_normal(8).astype(np.float32),
        "places": np.array([0, 1, 4, 4], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "places"], ["image"]),
        helper.make_node("Conv", ["image", "c1", "bias"], ["s1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["s1"], ["h1"]),
        helper.make_node("Conv", ["h1", "c2", "bias"], ["s2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["s2"], ["h2"]),
        helper.make_node("Flatten", ["h2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", _WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8 * _WIDTH])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    model, form = _quantize(proto, tmp_path)
    operators = Counter(node.op_type for node in onnx.load(str(form.graph)).graph.node)
    assert operators["QLinearConv"] == 2
    assert operators["QuantizeLinear"] == 1
    assert not operators["Relu"] + operators["Conv"]
    rows = _rows(64, 4)
    before, after = _answer(model.graph, rows), _answer(form.graph, rows)
    assert np.abs(after - before).mean() < 0.03 * np.abs(before).mean()
