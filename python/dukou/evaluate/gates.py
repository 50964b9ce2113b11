"""Gates stop the line: what the project demands of a model, held against its evaluation.

accuracy >= 0.95            the number itself
accuracy.lower >= 0.93      the lower bound of its interval: sure of it, not lucky
recall[malignant] >= 0.97   one class
cv.accuracy >= 0.95         the mean of the cross-validation
mae <= 3                    a regression: `mae`, `rmse`, `r2`, and `cv.r2`
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError

if TYPE_CHECKING:
    from dukou.evaluate.evaluation import Evaluation
    from dukou.evaluate.intervals import Interval

# What an evaluation of each task can answer; a test holds these equal to what the judges give.
_METRICS = {
    "classification": (
        "accuracy",
        "precision_macro",
        "recall_macro",
        "f1_macro",
        "precision_weighted",
        "recall_weighted",
        "f1_weighted",
        "roc_auc",
        "log_loss",
        "brier",
        "calibration_error",
        "precision",
        "recall",
        "f1",
    ),
    "regression": ("r2", "rmse", "mae"),
}
_GATE = re.compile(
    r"\s*(?P<cv>cv\.)?(?P<metric>[a-z][a-z0-9_]*)(?:\[(?P<label>[^\]]+)\])?"
    r"(?:\.(?P<bound>lower|upper))?\s*(?P<relation>>=|<=|>|<)\s*"
    r"(?P<limit>[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*\Z"
)


@dataclass(frozen=True, slots=True)
class Gate:
    """One demand, parsed.

    Attributes:
        text: as the project has it.
        metric: its name.
        relation: `>=`, `<=`, `>` or `<`.
        limit: the number on the right.
        bound: `lower` or `upper` end of the interval; none for the number itself.
        label: the class that it is about, where it is about one.
        crossval: whether the cross-validation is meant.
    """

    text: str
    metric: str
    relation: str
    limit: float
    bound: str | None = None
    label: str | None = None
    crossval: bool = False


@dataclass(frozen=True, slots=True)
class GateResult:
    """How a gate went: the number that was held against it, and the whole interval."""

    gate: str
    held: bool
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        verdict = "holds" if self.held else "fails"
        return f"`{self.gate}` {verdict}: {self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return asdict(self)


def parse_gate(text: str) -> Gate:
    """Reads one gate.

    Raises:
        InputError: `project.invalid`, with an example.
    """
    found = _GATE.match(text)
    if not found:
        raise InputError(
            "project.invalid",
            f"`{text}` is not a gate; a gate is `METRIC >= NUMBER`, as `accuracy >= 0.95`, "
            "`accuracy.lower >= 0.93`, `recall[cat] >= 0.9` or `cv.accuracy >= 0.95`",
        )
    return Gate(
        text.strip(),
        found["metric"],
        found["relation"],
        float(found["limit"]),
        found["bound"],
        found["label"],
        bool(found["cv"]),
    )


def check_gate_metrics(gates: Sequence[str], task: str) -> None:
    """Refuses, before anything is trained, a gate that no evaluation of the task could answer.

    Raises:
        InputError: `project.invalid` for what is no gate, `evaluate.unknown-metric` for a metric that
            the task does not have, listing those that it has.
    """
    known = _METRICS.get(task)
    if known is None:
        return
    for gate in map(parse_gate, gates):
        if not {gate.metric, f"{gate.metric}_macro"} & {*known}:
            other = next((name for name, names in _METRICS.items() if gate.metric in names), None)
            raise InputError(
                "evaluate.unknown-metric",
                f"`{gate.text}`: a {task} has no `{gate.metric}`, only {', '.join(known)}",
                hint=f'`{gate.metric}` is of a {other}; is `task = "{other}"` meant?'
                if other
                else None,
            )


def check_gates(evaluation: Evaluation, gates: Sequence[str]) -> tuple[GateResult, ...]:
    """Holds an evaluation against gates; raises only for gates that cannot be read or answered.

    Raises:
        InputError: `project.invalid` or `evaluate.unknown-metric`, listing what there is.
    """
    results = []
    for gate in map(parse_gate, gates):
        interval = _find(evaluation, gate)
        number = {None: interval.value, "lower": interval.low, "upper": interval.high}[gate.bound]
        held = {
            ">=": number >= gate.limit,
            "<=": number <= gate.limit,
            ">": number > gate.limit,
            "<": number < gate.limit,
        }[gate.relation]
        results.append(GateResult(gate.text, held, interval.value, interval.low, interval.high))
    return tuple(results)


def require_gates(results: Sequence[GateResult]) -> None:
    """Raises InputError `evaluate.gate-failed` where any failed, with number, interval and gate."""
    failed = [str(result) for result in results if not result.held]
    if failed:
        raise InputError("evaluate.gate-failed", "; ".join(failed))


def _find(evaluation: Evaluation, gate: Gate) -> Interval:
    if gate.crossval:
        if evaluation.crossval is None or evaluation.crossval.metric != gate.metric:
            there = evaluation.crossval.metric if evaluation.crossval else "none was run"
            raise InputError(
                "evaluate.unknown-metric",
                f"`{gate.text}`: there is no cross-validation of `{gate.metric}` ({there})",
            )
        return evaluation.crossval.score
    if gate.label is not None:
        report = evaluation.per_class.get(gate.label)
        if report is None or gate.metric not in ("precision", "recall", "f1"):
            known = ", ".join(f"`{label}`" for label in evaluation.per_class)
            raise InputError(
                "evaluate.unknown-metric",
                f"`{gate.text}`: there are precision, recall and f1 of the classes {known}",
            )
        found: Interval = getattr(report, gate.metric)
        return found
    for name in (gate.metric, f"{gate.metric}_macro"):
        if name in evaluation.metrics:
            return evaluation.metrics[name]
    known = ", ".join(evaluation.metrics)
    raise InputError(
        "evaluate.unknown-metric",
        f"`{gate.text}`: the {evaluation.task} has no `{gate.metric}`, only {known}",
    )
