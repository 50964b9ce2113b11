"""Where a classifier's graph says what it says, and why nothing can be put behind that.

Knows a model's outputs and its graph's nodes; not what is to be put there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import onnx

    from dukou.evaluate.predict import Predictions
    from dukou.model.model import Model

    Array = np.ndarray[Any, Any]

# With fewer held-out rows nothing that is learnt from them can be proved on them.
FEWEST_ROWS = 50
# Of each class, for a line between the two.
FEWEST_OF_A_CLASS = 10
_CANNOT, _TOO_FEW = "improve.cannot-apply", "improve.too-few-rows"
# Before it, `Less` did not know numbers of every precision.
OLDEST_OPSET = 9


@dataclass(frozen=True, slots=True)
class Outlets:
    """Where a classifier's graph says what it says.

    Attributes:
        numbers: the output with a number a class, or one for two.
        form: what the numbers are; `scores` are larger for likelier classes and nothing else.
        label: the output that says the class; empty where none does.
        labels: the classes, as text, in the order of the numbers.
        columns: how many numbers a row has.
        number_rank: of the numbers: 1 where they are `(rows,)`.
        label_rank: of the label, likewise; 0 where there is none.
    """

    numbers: str
    form: Literal["probabilities", "logits", "scores"]
    label: str
    labels: tuple[str, ...]
    columns: int
    number_rank: int = 2
    label_rank: int = 0


class Obstacle(NamedTuple):
    """Why something cannot be tried: the error's code, where it was asked for by name, and why."""

    code: str
    why: str


def find_outlets(model: Model, outputs: dict[str, Array], said: Predictions) -> Outlets | None:
    """Where the numbers and the label are; none where the model gives no numbers for its classes."""
    from dukou.evaluate.predict import find_label_output, find_number_output

    label, numbers = find_label_output(model, outputs), find_number_output(model, outputs)
    if numbers is None or said.scores is None:
        return None
    array = outputs[numbers.name]
    flat = array.reshape(len(array), -1)
    form: Literal["probabilities", "logits", "scores"] = "scores"
    if said.probabilities is not None:
        # What `read_classes` took as it is; of anything else it made probabilities.
        single = flat.shape[1] == 1
        inside = bool((flat >= 0).all() and (flat <= 1).all())
        taken = inside if single else said.scores is said.probabilities
        form = "probabilities" if taken else "logits"
    return Outlets(
        numbers.name,
        form,
        label.name if label else "",
        said.labels,
        flat.shape[1],
        array.ndim,
        outputs[label.name].ndim if label else 0,
    )


def why_not_scale(model: Model, outlets: Outlets | None, rows: int) -> Obstacle | None:
    """Why its probabilities cannot be made truer by so many rows; None where they can."""
    if outlets is None:
        return Obstacle(_CANNOT, "no output of the model has a number a class")
    if outlets.form == "scores":
        return Obstacle(
            _CANNOT, f"output `{outlets.numbers}` holds scores, which are no probabilities"
        )
    return _few(rows) or _find_in_graph(model, outlets)


def why_no_threshold(model: Model, outlets: Outlets | None, true: Array) -> Obstacle | None:
    """Why no line can be drawn by rows of these classes (indices); None where one can."""
    if outlets is None:
        return Obstacle(
            _CANNOT, "no output of the model has a number a class, so that there is no line to move"
        )
    if len(outlets.labels) != 2:
        return Obstacle(
            _CANNOT,
            f"a threshold is a line between two classes, and the model has {len(outlets.labels)}",
        )
    if not outlets.label:
        return Obstacle(
            _CANNOT,
            f"no output says the class, only `{outlets.numbers}`: where the line is drawn is the "
            "caller's to decide",
        )
    counts = [int((true == k).sum()) for k in (0, 1)]
    if min(counts) < FEWEST_OF_A_CLASS:
        rare = outlets.labels[counts.index(min(counts))]
        return Obstacle(
            _TOO_FEW,
            f"class `{rare}` has {min(counts)} held-out rows, and a line between two classes needs "
            f"{FEWEST_OF_A_CLASS} of each",
        )
    return _few(len(true)) or _find_in_graph(model, outlets)


def _few(rows: int) -> Obstacle | None:
    if rows >= FEWEST_ROWS:
        return None
    return Obstacle(
        _TOO_FEW,
        f"there are {rows} held-out rows, and {FEWEST_ROWS} are needed to learn from and to prove it",
    )


def _find_in_graph(model: Model, outlets: Outlets) -> Obstacle | None:
    import onnx

    why = find_obstacle(onnx.load(str(model.graph), load_external_data=False), outlets)
    return Obstacle(_CANNOT, why) if why else None


def find_obstacle(proto: onnx.ModelProto, outlets: Outlets) -> str:
    """Why nothing can be put behind the graph's own nodes, as a sentence's end; empty where it can."""
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        return f"its operators are of opset {opset}, and {OLDEST_OPSET} is needed"
    made = {name for node in proto.graph.node for name in node.output}
    for name in (outlets.numbers, outlets.label):
        if name and name not in made:
            return f"no node of the graph makes its output `{name}`"
    return ""
