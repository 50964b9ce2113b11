"""The stages are written: graphs with weights of their own, proved equal to the whole on golden samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import BugError, InputError
from dukou.model.golden import GoldenSamples
from dukou.model.model import Lineage, Model
from dukou.model.signature import PROTOCOL_NAMES, Dim, Signature, TensorSpec
from dukou.optimize.split.balance import Load, Plan, plan_cuts
from dukou.optimize.split.outline import Outline, read_outline, shape_of
from dukou.optimize.split.write import write_stage

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

# How far the chain of stages may be from the whole: they compute the same, in the same order.
TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Stage:
    """One part of a split model.

    Attributes:
        model: the part, with its signature and golden samples.
        sources: where each input comes from: `(0, name)` is the whole's own input, `(k, name)` an
            output of stage `k`, counted from 1.
        weight_bytes: of its weights.
    """

    model: Model
    sources: Mapping[str, tuple[int, str]]
    weight_bytes: int


@dataclass(frozen=True, slots=True)
class Split:
    """A model in stages.

    Attributes:
        whole: what was cut.
        stages: in the order in which they run.
        outputs: the whole's outputs, each with the stage and the name under which it gives them.
        share: of the weights, in the heaviest stage.
        crossing_bytes: over each cut, for a request of one row.
        largest_difference: between the chain's answers and the whole's; None where there are no
            golden samples to compare on.
    """

    whole: Model
    stages: tuple[Stage, ...]
    outputs: Mapping[str, tuple[int, str]]
    share: float
    crossing_bytes: tuple[float, ...]
    largest_difference: float | None


def split_model(model: Model, stages: int, into: Path) -> Split:
    """Cuts a model into stages of about equal weight.

    Args:
        model: the whole; it stays as it is.
        stages: how many, at least 2.
        into: an existing empty folder; `stage-1`, `stage-2` … are made in it, each with a graph and
            its weights.

    Raises:
        InputError: `split.impossible`, `split.unbalanced`.
    """
    if stages < 2:
        raise InputError(
            "split.impossible",
            f"{stages} stage{'s' * (stages != 1)} asked for, a split has at least 2",
        )
    outline = read_outline(model.graph)
    if len(outline.steps) < stages:
        raise InputError(
            "split.impossible",
            f"{stages} stages were asked for, the graph has {len(outline.steps)} nodes that compute "
            "something of the request",
        )
    plan = plan_cuts(
        [Load(step.weights, step.work) for step in outline.steps],
        outline.weight_bytes,
        _crossing(outline),
        stages,
    )
    parts = _parts(outline, plan)
    names = _edge_names(outline, parts)
    graphs = [
        write_stage(outline, part.steps, part.takes, part.gives, names, into / f"stage-{number}")
        for number, part in enumerate(parts, 1)
    ]
    return _finish(model, outline, plan, parts, names, graphs)


@dataclass(frozen=True, slots=True)
class _Part:
    """Steps of one stage (`first` … `last`, the latter not among them), and what crosses into and out of it."""

    steps: range
    takes: tuple[str, ...]
    gives: tuple[str, ...]


def _crossing(outline: Outline) -> list[float]:
    """What crosses a cut before each step; infinite where something crosses that cannot."""
    inputs = {value.name for value in outline.proto.graph.input}
    made, last = dict[str, int](), dict[str, int]()
    for index, step in enumerate(outline.steps):
        for name in step.takes:
            last[name] = index
        for name in step.gives:
            made[name] = index
    for name in outline.outputs:
        last[name] = made.get(name, 0) if name not in last else last[name]
    change = [0.0] * (len(outline.steps) + 1)
    blocked = [0] * (len(outline.steps) + 1)
    for name, begin in made.items():
        end = last.get(name, begin)
        if name in inputs or end <= begin:
            continue
        size = outline.tensor_bytes(name)
        if size == float("inf"):
            blocked[begin + 1] += 1
            blocked[end + 1] -= 1
        else:
            change[begin + 1] += size
            change[end + 1] -= size
    found, crossing, stops = [0.0] * len(outline.steps), 0.0, 0
    for index in range(len(outline.steps)):
        crossing += change[index]
        stops += blocked[index]
        # Where nothing crosses, what is behind does not need what is before: no stage feeds it.
        found[index] = float("inf") if stops else crossing
    return found


def _parts(outline: Outline, plan: Plan) -> list[_Part]:
    bounds = [0, *plan.cuts, len(outline.steps)]
    taken = {name: [] for step in outline.steps for name in step.gives}  # type: dict[str, list[int]]
    for index, step in enumerate(outline.steps):
        for name in step.takes:
            if name in taken:
                taken[name].append(index)
    parts = []
    for first, end in pairwise(bounds):
        own = {name for step in outline.steps[first:end] for name in step.gives}
        takes = dict.fromkeys(
            name for step in outline.steps[first:end] for name in step.takes if name not in own
        )
        gives = dict.fromkeys(
            name
            for step in outline.steps[first:end]
            for name in step.gives
            if name in outline.outputs or any(index >= end for index in taken[name])
        )
        parts.append(_Part(range(first, end), tuple(takes), tuple(gives)))
    return parts


def _edge_names(outline: Outline, parts: list[_Part]) -> dict[str, str]:
    """Plain names for what goes from stage to stage; the whole's own inputs and outputs keep theirs."""
    own = {value.name for value in outline.proto.graph.input} | set(outline.outputs)
    names: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        edges = [name for name in part.gives if name not in own]
        for place, name in enumerate(edges, 1):
            plain = f"edge_{number}" if len(edges) == 1 else f"edge_{number}_{place}"
            while plain in own or plain in outline.values:
                plain += "_"
            names[name] = plain
    return names


def _finish(
    model: Model,
    outline: Outline,
    plan: Plan,
    parts: list[_Part],
    names: Mapping[str, str],
    graphs: list[Path],
) -> Split:
    given: dict[str, tuple[int, str]] = {
        value.name: (0, value.name) for value in outline.proto.graph.input
    }
    sources = []
    for number, part in enumerate(parts, 1):
        sources.append({names.get(name, name): given[name] for name in part.takes})
        given |= {name: (number, names.get(name, name)) for name in part.gives}
    outputs = {spec.name: given[spec.name] for spec in model.signature.outputs}
    recorded, largest = _replay(model, graphs, sources, outputs)
    stages = []
    for number, (part, graph) in enumerate(zip(parts, graphs, strict=True), 1):
        signature = _signature(outline, model, part, names, [r[number - 1] for r in recorded])
        stages.append(
            Stage(
                Model(
                    graph,
                    signature,
                    _lineage(model, number, len(parts)),
                    _golden(model, [r[number - 1] for r in recorded]),
                    dataclasses.replace(
                        model.card, title=f"{model.card.title} {number}/{len(parts)}"
                    ),
                    model.variant,
                ),
                sources[number - 1],
                plan.weight_bytes[number - 1],
            )
        )
    return Split(model, tuple(stages), outputs, plan.share, plan.crossing_bytes, largest)


def _lineage(model: Model, number: int, count: int) -> Lineage:
    step = f"split: stage {number} of {count}"
    return dataclasses.replace(model.lineage, steps=(*model.lineage.steps, step))


Exchange = tuple[dict[str, "Array"], dict[str, "Array"]]


def _replay(
    model: Model,
    graphs: list[Path],
    sources: list[dict[str, tuple[int, str]]],
    outputs: Mapping[str, tuple[int, str]],
) -> tuple[list[list[Exchange]], float | None]:
    """Each golden request through the chain: what every stage took and gave, and how far the end is.

    The whole is asked anew: golden answers may have been recorded by another runtime.

    Raises:
        BugError: the chain does not answer like the whole.
    """
    import numpy as np

    whole, chain = _open(model.graph), [_open(graph) for graph in graphs]
    names = [spec.name for spec in model.signature.outputs]
    recorded: list[list[Exchange]] = []
    largest: float | None = None
    for inputs, _ in model.golden.samples if model.golden else ():
        expected = dict(zip(names, whole.run(names, dict(inputs)), strict=True))
        seen: list[dict[str, Array]] = [dict(inputs)]
        exchanges: list[Exchange] = []
        for session, wanted in zip(chain, sources, strict=True):
            takes = {name: seen[stage][source] for name, (stage, source) in wanted.items()}
            given = [value.name for value in session.get_outputs()]
            seen.append(dict(zip(given, session.run(given, takes), strict=True)))
            exchanges.append((takes, seen[-1]))
        recorded.append(exchanges)
        for name, (stage, source) in outputs.items():
            one, other = seen[stage][source], expected[name]
            if one.dtype.kind in "fV":
                a, b = one.astype(np.float64), other.astype(np.float64)
                apart = np.abs(a - b)[~(np.isnan(a) & np.isnan(b))].max(initial=0.0)
                scale = max(1.0, float(np.abs(b[np.isfinite(b)]).max(initial=0.0)))
            else:
                apart, scale = float(not np.array_equal(one, other)), 1.0
            largest = max(largest or 0.0, float(apart) / scale)
    if largest is not None and largest > TOLERANCE:
        raise BugError(
            "bug.internal",
            f"the stages answer {largest:.1e} away from the whole, {TOLERANCE:.0e} is allowed",
        )
    return recorded, largest


def _open(graph: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def _signature(
    outline: Outline,
    model: Model,
    part: _Part,
    names: Mapping[str, str],
    recorded: list[Exchange],
) -> Signature:
    known = {spec.name: spec for spec in (*model.signature.inputs, *model.signature.outputs)}
    sides = []
    for side, tensors in ((0, part.takes), (1, part.gives)):
        specs = []
        for name in tensors:
            plain = names.get(name, name)
            arrays = [exchange[side][plain] for exchange in recorded]
            specs.append(known.get(name) or _spec(outline.values[name], plain, arrays))
        sides.append(tuple(specs))
    return Signature(*sides)


def _spec(value: onnx.ValueInfoProto, name: str, arrays: list[Array]) -> TensorSpec:
    from onnx import helper

    dtype = helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    shape: list[Dim] = list(shape_of(value) or ())
    for axis, extent in enumerate(shape):
        lengths = {array.shape[axis] for array in arrays}
        if isinstance(extent, int) and lengths - {extent}:
            shape[axis] = None  # the graph's annotation is wrong
    return TensorSpec(name, PROTOCOL_NAMES.get(dtype.name, "BYTES"), tuple(shape))


def _golden(model: Model, recorded: list[Exchange]) -> GoldenSamples | None:
    if model.golden is None:
        return None
    last = recorded[0][1] if recorded else {}
    classes = model.golden.classes if model.golden.classes in last else None
    return GoldenSamples(tuple(recorded), model.golden.tolerance, classes)
