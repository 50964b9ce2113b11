"""What every optimization pass promises, checked on graphs of several kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.model.model import Model
from dukou.optimize.contract import Pass
from dukou.testing.expect import digest_folder, expect, expect_golden, expect_signature

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

# The share of rows on which a form must name the class that the original names. The search has
# the user's own budget; this only catches a pass that breaks graphs.
_AGREEMENT = 0.9
_WIDTH, _HIDDEN, _CLASSES, _ROWS = 32, 96, 4, 200


def check_pass(step: Pass, folder: Path) -> None:
    """Runs the whole suite.

    Args:
        step: what is checked.
        folder: an empty folder for this suite alone.

    Raises:
        AssertionError: with the sentence of the contract that does not hold.
    """
    for name, check in PASS_CHECKS.items():
        own = folder / name
        own.mkdir()
        check(step, own)


def check_name(step: Pass, folder: Path) -> None:
    """It has a name for the table and for variants."""
    del folder
    expect(step.name.replace("-", "_").isidentifier(), f"`{step.name}` is not a name for a table")


def check_applies_to_something(step: Pass, folder: Path) -> None:
    """There is a graph among the examples that it has a form for."""
    forms = [_apply(step, model, folder / f"of-{kind}") for kind, model in make_examples(folder)]
    expect(any(form is not None for form in forms), "makes nothing of any example")


def check_keeps_the_original(step: Pass, folder: Path) -> None:
    """The model that it is given stays as it is, on disk and in memory."""
    for kind, model in make_examples(folder):
        before, golden = digest_folder(model.graph.parent), model.golden
        _apply(step, model, folder / f"of-{kind}")
        expect(digest_folder(model.graph.parent) == before, "changed the original's files")
        expect(model.golden is golden, "changed the original")


def check_forms(step: Pass, folder: Path) -> None:
    """A form stands in its own place, has the same signature, its own golden answers and a name."""
    for kind, model in make_examples(folder):
        into = folder / f"of-{kind}"
        form = _apply(step, model, into)
        if form is None:
            continue
        inside = form.graph.resolve().is_relative_to(into.resolve())
        expect(inside and form.graph.is_file(), "did not leave the graph in `into`")
        expect(form.signature == model.signature, "changed the signature")
        expect_signature(form)
        expect_golden(form)
        expect(form.variant == step.name, f"named the variant `{form.variant}`")
        steps = model.lineage.steps
        expect(
            form.lineage.steps[: len(steps)] == steps and len(form.lineage.steps) > len(steps),
            "did not write into the lineage what it did",
        )


def check_answers(step: Pass, folder: Path) -> None:
    """A form still answers as the original does, nearly everywhere, in a batch and alone."""
    import numpy as np
    import onnxruntime

    for kind, model in make_examples(folder):
        form = _apply(step, model, folder / f"of-{kind}")
        if form is None:
            continue
        rows = _rows()
        said = []
        for graph in (model.graph, form.graph):
            session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
            said.append(session.run(["probabilities"], {"x": rows})[0].argmax(axis=1))
            alone = session.run(["probabilities"], {"x": rows[:1]})[0]
            expect(alone.shape == (1, _CLASSES), "does not answer a single row")
        agreement = float(np.mean(said[0] == said[1]))
        expect(agreement >= _AGREEMENT, f"agrees on only {agreement:.0%} of the rows of {kind}")


def check_without_calibration(step: Pass, folder: Path) -> None:
    """Without calibration rows it makes a form that works, or says that it has nothing to do."""
    for kind, model in make_examples(folder):
        into = folder / f"of-{kind}"
        into.mkdir()
        form = step.apply(model, into, None)
        if form is not None:
            expect_golden(form)


def check_chains(step: Pass, folder: Path) -> None:
    """It takes its own form, and says nothing to do or makes another that works."""
    for kind, model in make_examples(folder):
        form = _apply(step, model, folder / f"of-{kind}")
        again = _apply(step, form, folder / f"again-{kind}") if form is not None else None
        if again is not None:
            expect(again.variant == f"{step.name}+{step.name}", f"named it `{again.variant}`")
            expect_golden(again)


def check_repeats(step: Pass, folder: Path) -> None:
    """The same graph gives the same form: what is content-addressed must not wander."""
    for kind, model in make_examples(folder):
        one = _apply(step, model, folder / f"one-{kind}")
        two = _apply(step, model, folder / f"two-{kind}")
        same = (one is None and two is None) or (
            one is not None
            and two is not None
            and digest_folder(one.graph.parent) == digest_folder(two.graph.parent)
        )
        expect(same, "gives another form the second time")


PASS_CHECKS: dict[str, Callable[[Pass, Path], None]] = {
    "name": check_name,
    "applies-to-something": check_applies_to_something,
    "keeps-the-original": check_keeps_the_original,
    "forms": check_forms,
    "answers": check_answers,
    "without-calibration": check_without_calibration,
    "chains": check_chains,
    "repeats": check_repeats,
}


def _apply(step: Pass, model: Model, into: Path) -> Model | None:
    into.mkdir()
    shown = _rows(seed=17)
    step_rows = _ROWS // 4
    calibration = [{"x": shown[i : i + step_rows]} for i in range(0, _ROWS, step_rows)]
    return step.apply(model, into, calibration)


def _rows(seed: int = 11) -> Array:
    import numpy as np

    return np.random.default_rng(seed).standard_normal((_ROWS, _WIDTH)).astype(np.float32)


def make_examples(folder: Path) -> list[tuple[str, Model]]:
    """Graphs with `x` FP32 `[batch, 32]` and `probabilities` `[batch, 4]`, opened as any other."""
    import onnx

    from dukou.formats.open import open_model

    found = []
    for kind, build in (("matmul", _matmul), ("gemm", _gemm), ("elementwise", _elementwise)):
        source = folder / f"source-{kind}"
        source.mkdir()
        onnx.save(build(), str(source / "graph.onnx"))
        model = open_model(source / "graph.onnx", into=folder / f"model-{kind}", samples=_rows())
        found.append((kind, model))
    return found


def _matmul() -> onnx.ModelProto:
    """Two dense layers as MatMul and Add, with what a simplifier removes between them."""
    from onnx import helper

    first, second = _weights()
    nodes = [
        helper.make_node("Identity", ["x"], ["same"]),
        helper.make_node("MatMul", ["same", "first"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["hidden"]),
        helper.make_node("MatMul", ["hidden", "second"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    return _build(nodes, {"first": first, "second": second, "bias": first[0] * 0.1})


def _gemm() -> onnx.ModelProto:
    """The same as Gemm."""
    from onnx import helper

    first, second = _weights()
    nodes = [
        helper.make_node("Gemm", ["x", "first", "bias"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["hidden"]),
        helper.make_node("Gemm", ["hidden", "second"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1),
    ]
    return _build(nodes, {"first": first, "second": second, "bias": first[0] * 0.1})


def _elementwise() -> onnx.ModelProto:
    """No matrix product at all: most passes must find nothing here."""
    import numpy as np
    from onnx import helper

    first, _ = _weights()
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["scaled"]),
        helper.make_node("Slice", ["scaled", "start", "end", "axis"], ["part"]),
        helper.make_node("Softmax", ["part"], ["probabilities"], axis=-1),
    ]
    numbers = {
        "start": np.array([0], dtype=np.int64),
        "end": np.array([_CLASSES], dtype=np.int64),
        "axis": np.array([1], dtype=np.int64),
    }
    return _build(nodes, {"scale": first[:, 0] + 2.0, **numbers})


def _weights() -> tuple[Array, Array]:
    import numpy as np

    rng = np.random.default_rng(13)
    first = rng.standard_normal((_WIDTH, _HIDDEN)).astype(np.float32) / np.float32(4)
    second = rng.standard_normal((_HIDDEN, _CLASSES)).astype(np.float32)
    return first, second


def _build(nodes: list[onnx.NodeProto], arrays: dict[str, Array]) -> onnx.ModelProto:
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "example",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", _WIDTH])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", _CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
