"""Stages answer like the whole, whatever crosses between them; what cannot be cut says why."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tests.graphs import make_model

from dukou.base.errors import InputError
from dukou.formats.open import open_model
from dukou.model.model import Model
from dukou.optimize.split import Split, split_model

FLOAT = TensorProto.FLOAT
node = helper.make_node


def matrices(**shapes: tuple[int, ...]) -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    return {
        name: (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        for name, shape in shapes.items()
    }


def chain() -> onnx.ModelProto:
    """Eight layers of the same size; every second one narrow inside."""
    nodes, weights, at = [], {}, "x"
    for layer in range(4):
        weights |= matrices(**{f"down{layer}": (64, 4), f"up{layer}": (4, 64)})
        nodes += [
            node("MatMul", [at, f"down{layer}"], [f"narrow{layer}"]),
            node("Relu", [f"narrow{layer}"], [f"kept{layer}"]),
            node("MatMul", [f"kept{layer}", f"up{layer}"], [f"wide{layer}"]),
        ]
        at = f"wide{layer}"
    nodes.append(node("Softmax", [at], ["y"], axis=-1))
    return make_model(
        nodes, [("x", FLOAT, ["batch", 64])], [("y", FLOAT, ["batch", 64])], weights=weights
    )


def skips() -> onnx.ModelProto:
    """The input and the first layer's answer are needed at the very end; the weight is shared."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        node("MatMul", ["b", "v"], ["c"]),
        node("Tanh", ["c"], ["d"]),
        node("MatMul", ["d", "u"], ["e"]),
        node("Add", ["e", "b"], ["f"]),
        node("MatMul", ["f", "w"], ["g"]),
        node("Add", ["g", "x"], ["y"]),
    ]
    shapes = dict.fromkeys("wvu", (16, 16))
    return make_model(
        nodes,
        [("x", FLOAT, ["batch", 16])],
        [("y", FLOAT, ["batch", 16]), ("d", FLOAT, ["batch", 16])],
        weights=matrices(**shapes),
    )


def branches() -> onnx.ModelProto:
    """A subgraph takes a tensor and a weight from around it, and constants feed several stages."""
    inner = [
        helper.make_graph(
            [node("MatMul", ["h", name], [f"{name}_said"])],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_said", FLOAT, ["batch", 12])],
        )
        for name in ("left", "right")
    ]
    nodes = [
        node("Constant", [], ["two"], value_float=2.0),
        node("Neg", ["two"], ["minus"]),
        node("MatMul", ["x", "w"], ["p"]),
        node("Mul", ["p", "two"], ["h"]),
        node("ReduceSum", ["x"], ["sum"], keepdims=0),
        node("Greater", ["sum", "minus"], ["positive"]),
        node("If", ["positive"], ["chosen"], then_branch=inner[0], else_branch=inner[1]),
        node("Shape", ["h"], ["extent"]),
        node("Reshape", ["chosen", "extent"], ["folded"]),
        node("MatMul", ["folded", "v"], ["q"]),
        node("Mul", ["q", "minus"], ["y"]),
    ]
    shapes = {"w": (8, 12), "left": (12, 12), "right": (12, 12), "v": (12, 5)}
    return make_model(
        nodes,
        [("x", FLOAT, ["batch", 8])],
        [("y", FLOAT, ["batch", 5])],
        weights=matrices(**shapes),
    )


def opened(proto: onnx.ModelProto, folder: Path, *, external: bool = False) -> Model:
    folder.mkdir()
    path = folder / "m.onnx"
    if external:
        onnx.save(proto, str(path), save_as_external_data=True, location="m.bin", size_threshold=16)
    else:
        onnx.save(proto, str(path))
    return open_model(path, into=folder / "o")


def answer(split: Split, inputs: dict[str, Any]) -> dict[str, Any]:
    """The chain, each stage in a session of its own, as the document would run it."""
    seen: list[dict[str, Any]] = [inputs]
    for stage in split.stages:
        session = onnxruntime.InferenceSession(str(stage.model.graph))
        takes = {name: seen[k][source] for name, (k, source) in stage.sources.items()}
        assert {value.name for value in session.get_inputs()} == set(takes)
        names = [value.name for value in session.get_outputs()]
        seen.append(dict(zip(names, session.run(names, takes), strict=True)))
    return {name: seen[k][source] for name, (k, source) in split.outputs.items()}


@pytest.mark.parametrize("external", [False, True])
@pytest.mark.parametrize("build", [chain, skips, branches])
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_the_stages_answer_like_the_whole(
    tmp_path: Path, build: Callable[[], onnx.ModelProto], stages: int, external: bool
) -> None:
    model = opened(build(), tmp_path / "m", external=external)
    split = split_model(model, stages, tmp_path)
    assert len(split.stages) == stages
    assert split.largest_difference is not None
    assert split.largest_difference <= 1e-5
    whole = onnxruntime.InferenceSession(str(model.graph))
    for rows in (1, 7):
        shape = (rows, model.signature.inputs[0].shape[1])
        inputs = {"x": np.random.default_rng(rows).standard_normal(shape).astype(np.float32)}
        names = [spec.name for spec in model.signature.outputs]
        for name, theirs in zip(names, whole.run(names, inputs), strict=True):
            np.testing.assert_allclose(answer(split, inputs)[name], theirs, rtol=1e-5, atol=1e-6)
    for stage in split.stages:
        onnx.checker.check_model(str(stage.model.graph), full_check=True)
        assert stage.model.golden is not None
        assert len(stage.model.golden.samples) == len(model.golden.samples)  # type: ignore[union-attr]
        recorded = stage.model.golden.to_json(stage.model.signature)
        assert type(stage.model.golden).from_json(recorded).samples
        batch = [spec.shape[0] for spec in stage.model.signature.inputs if spec.dtype == "FP32"]
        assert all(not isinstance(extent, int) for extent in batch), "the batch stays free"


def test_the_cut_is_at_a_narrow_edge_and_the_weights_are_halved(tmp_path: Path) -> None:
    split = split_model(opened(chain(), tmp_path / "m"), 2, tmp_path)
    assert [stage.weight_bytes for stage in split.stages] == [4 * 64 * 4 * 4] * 2
    assert split.share == 0.5
    # Between two layers 64 numbers go over; inside one, behind its first half, 4 would unbalance it.
    assert split.crossing_bytes == (256.0,)
    uneven = split_model(opened(chain(), tmp_path / "n"), 8, tmp_path / "n")
    assert min(uneven.crossing_bytes) == 16.0
    assert max(stage.weight_bytes for stage in uneven.stages) == 64 * 4 * 4


def test_a_shared_weight_lies_in_both_stages_and_a_stage_takes_from_any_before(
    tmp_path: Path,
) -> None:
    split = split_model(opened(skips(), tmp_path / "m"), 4, tmp_path)
    holders = [
        number
        for number, stage in enumerate(split.stages)
        if "w" in {t.name for t in onnx.load(str(stage.model.graph)).graph.initializer}
    ]
    assert holders == [0, 3]
    assert (0, "x") in split.stages[3].sources.values(), "the whole's own input"
    assert 1 in {stage for stage, _ in split.stages[2].sources.values()}, "over a stage between"
    assert split.outputs["d"][0] < len(split.stages), "an output in the middle"


def test_weights_that_no_stage_needs_are_nowhere(tmp_path: Path) -> None:
    model = opened(chain(), tmp_path / "m", external=True)
    split = split_model(model, 4, tmp_path)
    whole = (model.graph.parent / "m.bin").stat().st_size
    beside = [s.model.graph.with_name("graph.weights").stat().st_size for s in split.stages]
    assert sum(beside) <= whole + 4 * 64 * 2


def test_work_decides_where_nothing_has_weights(tmp_path: Path) -> None:
    nodes = [node("MatMul", ["x", "x"], ["a0"])]
    nodes += [node("MatMul", [f"a{i}", "x"], [f"a{i + 1}"]) for i in range(7)]
    proto = make_model(nodes, [("x", FLOAT, [32, 32])], [("a7", FLOAT, [32, 32])])
    split = split_model(opened(proto, tmp_path / "m"), 2, tmp_path)
    counts = [len(onnx.load(str(s.model.graph)).graph.node) for s in split.stages]
    assert counts == [4, 4]


def refuse(tmp_path: Path, proto: onnx.ModelProto, stages: int, code: str, words: str) -> None:
    model = opened(proto, tmp_path / f"m{stages}")
    with pytest.raises(InputError, match=words) as caught:
        split_model(model, stages, tmp_path)
    assert caught.value.code == code


def test_what_cannot_be_cut(tmp_path: Path) -> None:
    for stages in (-1, 0, 1):
        refuse(tmp_path, chain(), stages, "split.impossible", f"{stages} stages? asked for")
    refuse(tmp_path, chain(), 14, "split.impossible", "14 stages were asked for, .* has 13 nodes")


def test_a_weight_that_is_nearly_everything(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "large"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("MatMul", ["b", "small"], ["y"]),
    ]
    proto = make_model(
        nodes,
        [("x", FLOAT, ["batch", 512])],
        [("y", FLOAT, ["batch", 2])],
        weights=matrices(large=(512, 256), small=(256, 2)),
    )
    refuse(
        tmp_path,
        proto,
        2,
        "split.unbalanced",
        r"100% of 526,336 bytes: weight `large` alone has 524,288",
    )


def test_what_is_no_tensor_does_not_cross(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("SequenceConstruct", ["a", "x"], ["list"]),
        node("ConcatFromSequence", ["list"], ["b"], axis=1),
        node("MatMul", ["b", "v"], ["y"]),
    ]
    proto = make_model(
        nodes,
        [("x", FLOAT, ["batch", 8])],
        [("y", FLOAT, ["batch", 8])],
        weights=matrices(w=(8, 8), v=(16, 8)),
    )
    refuse(
        tmp_path, proto, 4, "split.impossible", r"need 3 places to cut, the graph has 2 \(4 nodes\)"
    )
    split = split_model(opened(proto, tmp_path / "n"), 2, tmp_path)
    assert split.largest_difference == 0.0
