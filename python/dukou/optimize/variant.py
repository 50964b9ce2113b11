"""What every pass ends with: a new graph becomes a variant with golden answers of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import BugError
from dukou.model.golden import GoldenSamples, Tolerance
from dukou.model.model import Model

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def finish_variant(
    model: Model,
    graph: Path,
    *,
    name: str,
    step: str,
    tolerance: Tolerance | None = None,
) -> Model:
    """The variant of `model` whose graph is `graph`.

    Args:
        model: what the pass was given.
        graph: what it made, in its place.
        name: of the pass; variants of variants are named `simplify+int8`.
        step: for the lineage: what was done, by what.
        tolerance: of the golden samples, where this form's answers vary more between machines.

    Raises:
        BugError: where the pass changed what the model takes or gives.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    for side, specs, values in (
        ("inputs", model.signature.inputs, session.get_inputs()),
        ("outputs", model.signature.outputs, session.get_outputs()),
    ):
        before, after = [s.name for s in specs], [value.name for value in values]
        if before != after:
            raise BugError("bug.internal", f"pass `{name}` changed the {side} {before} to {after}")
    golden = model.golden
    if golden is not None:
        golden = GoldenSamples(
            tuple((inputs, _answer(session, model, inputs)) for inputs, _ in golden.samples),
            tolerance or golden.tolerance,
            golden.classes,
        )
    return model.replace(
        graph=graph,
        golden=golden,
        variant=name if model.variant == "original" else f"{model.variant}+{name}",
        lineage=dataclasses.replace(model.lineage, steps=(*model.lineage.steps, step)),
    )


def _answer(session: Any, model: Model, inputs: Mapping[str, Array]) -> dict[str, Array]:
    names = [spec.name for spec in model.signature.outputs]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def save_graph(proto: Any, graph: Path) -> None:
    """Writes a graph; weights go beside it where one file cannot hold them (2 GiB)."""
    import onnx

    large = proto.ByteSize() > 1 << 30
    onnx.save(
        proto,
        str(graph),
        save_as_external_data=large,
        location=f"{graph.stem}.weights" if large else None,
    )
