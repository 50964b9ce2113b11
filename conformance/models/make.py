"""Makes the small models that the tests of both languages read. Run it to make them again.

    python conformance/models/make.py

Deterministic: the same packages give the same bytes. Models whose weights matter only by their size
(`shared_*`) are checked in without them; the tests write `weights.bin` beside a copy.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
OPSET = helper.make_opsetid("", 17)
IR_VERSION = 9

DTYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def save(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    *,
    weights: list[onnx.TensorProto] | None = None,
    opsets: list[onnx.OperatorSetIdProto] | None = None,
) -> bytes:
    """Writes `<name>.onnx` beside this file and returns its bytes."""
    graph = helper.make_graph(nodes, name, inputs, outputs, weights or [])
    model = helper.make_model(
        graph, opset_imports=opsets or [OPSET], ir_version=IR_VERSION, producer_name="dukou"
    )
    content: bytes = model.SerializeToString(deterministic=True)
    (HERE / f"{name}.onnx").write_bytes(content)
    return content


def value(
    name: str, shape: list[int | str | None], dtype: int = TensorProto.FLOAT
) -> onnx.ValueInfoProto:
    """A graph's input or output: shape of numbers, symbols and unknowns."""
    return helper.make_tensor_value_info(name, dtype, shape)


def external(name: str, dims: list[int], location: str, offset: int) -> onnx.TensorProto:
    """A float tensor whose elements lie in another file, at `offset` bytes."""
    tensor = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims)
    tensor.data_location = TensorProto.EXTERNAL
    length = 4 * int(np.prod(dims))
    for key, text in (("location", location), ("offset", str(offset)), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    return tensor


def make_identities() -> None:
    """One model a dtype: `x` [N, 3] in, the same as `y` out."""
    for dtype, element in DTYPES.items():
        save(
            f"identity_{dtype.lower()}",
            [helper.make_node("Identity", ["x"], ["y"])],
            [value("x", ["N", 3], element)],
            [value("y", ["N", 3], element)],
        )


def make_shapes() -> None:
    """Several inputs, several outputs, symbols, rows that depend on each other, and none at all."""
    pair = [value("a", ["N", 3]), value("b", ["N", 3])]
    save(
        "two_inputs",
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Sub", ["a", "b"], ["difference"]),
        ],
        pair,
        [value("sum", ["N", 3]), value("difference", ["N", 3])],
    )
    table = numpy_helper.from_array(np.arange(64, dtype=np.float32).reshape(16, 4), "table")
    save(
        "sequence",
        [
            helper.make_node("Gather", ["table", "tokens"], ["embedded"]),
            helper.make_node("ReduceMean", ["embedded"], ["mean"], axes=[1], keepdims=0),
        ],
        [value("tokens", ["batch", "seq"], TensorProto.INT64)],
        [value("mean", ["batch", 4])],
        weights=[table],
    )
    save(
        "rows_meet",
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ],
        [value("x", ["N", 3])],
        [value("y", ["N", 3])],
    )
    save(
        "one_row_out",
        [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=1)],
        [value("x", ["N", 3])],
        [value("y", ["M", 1])],
    )
    save(
        "scalar",
        [helper.make_node("Mul", ["x", "x"], ["y"])],
        [value("x", [])],
        [value("y", [])],
    )


def make_digits() -> None:
    """The digits classifier of scikit-learn: 64 → 32 → 10, converted; and one that gives maps."""
    from skl2onnx import to_onnx
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    data = load_digits()
    features = (data.data / 16.0).astype(np.float32)
    network = MLPClassifier((32,), max_iter=30, random_state=0, early_stopping=True)
    network.fit(features, data.target)
    for name, model, zipmap in (
        ("digits_mlp", network, False),
        ("digits_zipmap", LogisticRegression(max_iter=200).fit(features, data.target), True),
    ):
        converted = to_onnx(
            model, features[:1], target_opset={"": 17, "ai.onnx.ml": 3}, options={"zipmap": zipmap}
        )
        converted.graph.name = name
        (HERE / f"{name}.onnx").write_bytes(converted.SerializeToString(deterministic=True))
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(
        HERE / "digits_mlp.onnx", HERE / "digits_int8.onnx", weight_type=QuantType.QInt8
    )
    whole = (HERE / "digits_mlp.onnx").read_bytes()
    (HERE / "truncated.onnx").write_bytes(whole[: len(whole) * 2 // 3])


def make_broken() -> None:
    """What must be refused in a sentence."""
    x, y = [value("x", ["N", 3])], [value("y", ["N", 3])]
    acme = helper.make_opsetid("acme", 2)
    save("unknown_operator", [helper.make_node("Teleport", ["x"], ["y"])], x, y)
    save(
        "custom_operator",
        [helper.make_node("Teleport", ["x"], ["y"], domain="acme")],
        x,
        y,
        opsets=[OPSET, acme],
    )
    save(
        "future_opset",
        [helper.make_node("Relu", ["x"], ["y"])],
        x,
        y,
        opsets=[helper.make_opsetid("", 999)],
    )
    save("dangling", [helper.make_node("Relu", ["nowhere"], ["y"])], x, y)
    add = [helper.make_node("Add", ["x", "w"], ["y"])]
    for name, location in (
        ("external_good", "weights.bin"),
        ("external_absolute", "/etc/hostname"),
        ("external_parent", "../weights.bin"),
        ("external_missing", "nowhere.bin"),
        ("external_link", "link.bin"),
    ):
        save(name, add, x, y, weights=[external("w", [3], location, 0)])
    save("external_short", add, x, y, weights=[external("w", [3], "weights.bin", 8)])
    inner = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])],
        "inner",
        [],
        [value("z", [3])],
        [external("w", [3], "../weights.bin", 0)],
    )
    condition = numpy_helper.from_array(np.array(True), "condition")
    save(
        "external_subgraph",
        [
            helper.make_node("If", ["condition"], ["z"], then_branch=inner, else_branch=inner),
            helper.make_node("Add", ["x", "z"], ["y"]),
        ],
        x,
        y,
        weights=[condition],
    )
    (HERE / "weights.bin").write_bytes(np.array([10, 20, 30], dtype=np.float32).tobytes())


def make_shared() -> None:
    """Graphs with weights of 1 MiB and more, whose elements the tests make."""
    width, at = 512, 0
    nodes, weights, previous = [], [], "x"
    for layer in range(4):
        for name, dims in ((f"w{layer}", [width, width]), (f"b{layer}", [width])):
            weights.append(external(name, dims, "weights.bin", at))
            at += 4 * int(np.prod(dims))
        nodes.append(helper.make_node("Gemm", [previous, f"w{layer}", f"b{layer}"], [f"g{layer}"]))
        nodes.append(helper.make_node("Relu", [f"g{layer}"], [f"h{layer}"]))
        previous = f"h{layer}"
    nodes.append(helper.make_node("Identity", [previous], ["y"]))
    save(
        "shared_mlp", nodes, [value("x", ["N", width])], [value("y", ["N", width])], weights=weights
    )

    channels, at, weights = 256, 0, []
    for name, dims in (
        ("kernel", [channels, channels, 3, 3]),
        ("scale", [channels]),
        ("shift", [channels]),
        ("mean", [channels]),
        ("variance", [channels]),
    ):
        weights.append(external(name, dims, "weights.bin", at))
        at += 4 * int(np.prod(dims))
    save(
        "shared_conv_norm",
        [
            helper.make_node("Conv", ["x", "kernel"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node(
                "BatchNormalization", ["c", "scale", "shift", "mean", "variance"], ["n"]
            ),
            helper.make_node("Relu", ["n"], ["y"]),
        ],
        [value("x", ["N", channels, 6, 6])],
        [value("y", ["N", channels, 6, 6])],
        weights=weights,
    )

    branches = [
        helper.make_graph(
            [helper.make_node("MatMul", ["x", f"w_{name}"], [f"y_{name}"])],
            name,
            [],
            [value(f"y_{name}", ["N", width])],
            [external(f"w_{name}", [width, width], "weights.bin", at)],
        )
        for name, at in (("then", 0), ("else", 4 * width * width))
    ]
    save(
        "shared_branches",
        [
            helper.make_node(
                "If", ["which"], ["y"], then_branch=branches[0], else_branch=branches[1]
            )
        ],
        [value("x", ["N", width]), value("which", [], TensorProto.BOOL)],
        [value("y", ["N", width])],
    )


def make_versions() -> None:
    """Versions of one line that tell themselves apart, and models that are hard to rehearse."""
    for number in (1, 2, 3):
        addend = numpy_helper.from_array(np.array([number], dtype=np.float32), "addend")
        save(
            f"adds_{number}",
            [helper.make_node("Add", ["x", "addend"], ["y"])],
            [value("x", ["N", 3])],
            [value("y", ["N", 3])],
            weights=[addend],
        )
    # Takes any number of rows by its input, and one by its output.
    one_row = numpy_helper.from_array(np.array([1, 3], dtype=np.int64), "shape")
    save(
        "takes_one_row",
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [value("x", ["N", 3])],
        [value("y", ["N", 3])],
        weights=[one_row],
    )
    # Says that any number of rows may come; what is added to them has two.
    two_rows = numpy_helper.from_array(np.zeros((2, 3), dtype=np.float32), "two_rows")
    save(
        "takes_two_rows",
        [helper.make_node("Add", ["x", "two_rows"], ["y"])],
        [value("x", ["N", 3])],
        [value("y", ["M", 3])],
        weights=[two_rows],
    )
    # Says that any length may come and takes multiples of five.
    fives = numpy_helper.from_array(np.array([0, -1, 5], dtype=np.int64), "shape")
    save(
        "takes_fives",
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [value("x", ["N", "length"])],
        [value("y", ["N", "fives", 5])],
        weights=[fives],
    )


if __name__ == "__main__":
    make_identities()
    make_shapes()
    make_digits()
    make_broken()
    make_shared()
    make_versions()
