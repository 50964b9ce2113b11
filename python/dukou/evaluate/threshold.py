"""Where the line is drawn between two classes: from which value on a row is said to be of the second.

What the line is for is the project's to say, as an objective: `accuracy`, `f1[sick]`, `recall[sick]`,
`recall_macro` … or `cost`, with what a missed row of each class costs. A line that is better for one
is worse for another, and only the project knows which errors hurt.

Source: Elkan, *The Foundations of Cost-Sensitive Learning* (IJCAI 2001).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

COST = "cost"
_OF_A_CLASS = ("precision", "recall", "f1")
_OF_ALL = (
    "accuracy",
    "precision_macro",
    "recall_macro",
    "f1_macro",
    "precision_weighted",
    "recall_weighted",
    "f1_weighted",
)
_OBJECTIVE = re.compile(r"\s*(?P<metric>[a-z][a-z0-9_]*)(?:\[(?P<label>[^\]]+)\])?\s*\Z")


@dataclass(frozen=True, slots=True)
class Objective:
    """What a line is to be good for.

    Attributes:
        metric: `accuracy`, `f1_macro` … or `cost`.
        label: the class that it is about; empty where it is about all.
        costs: label → what a row of that class costs that is said to be of the other; for `cost`.
    """

    metric: str
    label: str = ""
    costs: tuple[tuple[str, float], ...] = ()

    def __str__(self) -> str:
        return f"{self.metric}[{self.label}]" if self.label else self.metric

    @property
    def keeps_accuracy(self) -> bool:
        """Whether accuracy has to be watched beside it: what costs have been named says it all."""
        return self.metric not in ("accuracy", COST)

    def measure(self, matrices: Array, labels: tuple[str, ...]) -> Array:
        """How good confusion matrices are; more is better.

        Args:
            matrices: `(…, 2, 2)` of counts; rows are the truth.
            labels: of the two classes.

        Returns:
            `(…,)`; for `cost` the mean cost of a row, negative.
        """
        import numpy as np

        from dukou.evaluate.classification import matrix_metrics

        if self.metric == COST:
            costs = dict(self.costs)
            missed = np.stack([matrices[..., 0, 1], matrices[..., 1, 0]], axis=-1)
            each = np.array([costs[label] for label in labels])
            return np.asarray(-(missed @ each) / matrices.sum(axis=(-2, -1)))
        found = matrix_metrics(matrices)
        if self.label:
            return found[f"class_{self.metric}"][..., labels.index(self.label)]
        return found[self.metric]

    def require_labels(self, labels: tuple[str, ...]) -> None:
        """Raises InputError `improve.cannot-apply`, where it is about a class that there is not."""
        about = {self.label} - {""} | {label for label, _ in self.costs}
        for label in sorted(about - set(labels)):
            raise InputError(
                "improve.cannot-apply",
                f"`[improve]` is about the class `{label}`, the model's are "
                f"{', '.join(f'`{name}`' for name in labels[:20])}",
            )
        lacking = set(labels) - {label for label, _ in self.costs}
        if self.metric == COST and lacking:
            raise InputError(
                "improve.cannot-apply",
                f"`improve.costs` lacks {', '.join(f'`{name}`' for name in sorted(lacking))}: each "
                "class needs what it costs to miss a row of it",
            )


def parse_objective(text: str, costs: Mapping[str, float] | None = None) -> Objective:
    """Reads an objective.

    Args:
        text: as in `[improve] objective`.
        costs: as in `[improve.costs]`.

    Raises:
        InputError: `project.invalid`, with examples.
    """
    found, costs = _OBJECTIVE.match(text), costs or {}
    metric, label = (found["metric"], found["label"] or "") if found else ("", "")
    known = metric in _OF_A_CLASS or (not label and metric in (*_OF_ALL, COST))
    if not known:
        raise InputError(
            "project.invalid",
            f"`{text}` is not an objective; `accuracy`, `f1_macro`, `f1[cat]`, `recall[cat]` and `cost` are",
            hint=f"of a class: {', '.join(_OF_A_CLASS)}; of all: {', '.join(_OF_ALL)}, {COST}",
        )
    if (metric == COST) != bool(costs):
        raise InputError(
            "project.invalid",
            f"`improve.objective` is `{text}` and `improve.costs` names {len(costs)} classes: costs "
            f"go with the objective `{COST}`, and it needs them",
        )
    if any(not 0 < cost < float("inf") for cost in costs.values()):
        raise InputError("project.invalid", "each of `improve.costs` is a number above 0")
    return Objective(metric, label, tuple(sorted(costs.items())))


def count_cells(true: Array, chosen: Array) -> Array:
    """`(2, 2)` int64: the confusion matrix of two classes."""
    import numpy as np

    return np.bincount(true * 2 + chosen, minlength=4).reshape(2, 2)


def fit_threshold(
    values: Array,
    true: Array,
    chosen: Array,
    *,
    objective: Objective,
    labels: tuple[str, ...],
    accuracy_budget: float,
    in_hand: float = 0.0,
) -> float | None:
    """The value from which on rows are best said to be of the second class.

    Args:
        values: `(rows,)` floats in the model's own precision; larger speaks for the second class.
        true: `(rows,)` 0 or 1.
        chosen: `(rows,)` 0 or 1: what the model says.
        objective: what it is to be good for.
        labels: of the two classes.
        accuracy_budget: how much accuracy it may cost, where the objective does not say so itself.
        in_hand: standard errors of that cost that are left unspent: a line that just keeps to the
            budget here is beyond it on half of all other rows.

    Returns:
        A value halfway between two that occur; of equally good ones the one that changes the fewest
        answers; None where none is better than what the model says.
    """
    import numpy as np

    order = np.argsort(values, kind="stable")
    ranked, truth, said = values[order], true[order], chosen[order]
    # Cut i leaves the i lowest rows to the first class; equal values cannot be told apart.
    cuts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    below = np.stack([np.r_[0, np.cumsum(truth == k)] for k in (0, 1)])
    total = below[:, -1]
    matrices = np.empty((len(cuts), 2, 2))
    for k in (0, 1):
        matrices[:, k, 0] = below[k, cuts]
        matrices[:, k, 1] = total[k] - below[k, cuts]
    before = count_cells(true, chosen)
    gain = objective.measure(matrices, labels) - objective.measure(before, labels)
    # Said 1 below the cut, or 0 above it: what the cut changes, each a row that becomes right or wrong.
    ones = np.r_[0, np.cumsum(said == 1)]
    changes = ones[cuts] + (len(said) - cuts) - (ones[-1] - ones[cuts])
    if objective.keeps_accuracy:
        lost = np.trace(before) - matrices[:, 0, 0] - matrices[:, 1, 1]
        error = np.sqrt(np.maximum(changes - lost**2 / len(true), 0.0))
        spent = (lost + in_hand * error) / len(true)
        gain = np.where(spent <= accuracy_budget + 1e-12, gain, -np.inf)
    best = float(gain.max())
    if best <= 1e-12:
        return None
    good = np.flatnonzero(gain >= best - 1e-12)
    cut = int(cuts[good[changes[good].argmin()]])
    if cut == 0:
        return float(ranked[0])
    # Halfway, unless that is not a number of this precision: then the upper one.
    halfway = ranked.dtype.type(ranked[cut - 1] / 2 + ranked[cut] / 2)
    return float(halfway if halfway > ranked[cut - 1] else ranked[cut])
