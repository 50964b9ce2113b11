"""What is known of a model's quality: one frozen value that the report, the package and gates read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dukou.evaluate.calibration import Calibration
from dukou.evaluate.classification import ClassReport
from dukou.evaluate.compare import Comparison, NumberComparison, parse_comparison
from dukou.evaluate.crossval import CrossValidation
from dukou.evaluate.gates import GateResult
from dukou.evaluate.intervals import Interval
from dukou.evaluate.slices import SliceTable


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's quality on some rows.

    Attributes:
        task: `classification` or `regression`.
        variant: of the model.
        rows: how many it was asked.
        source: of the data.
        data_digest: `sha256:` of the data's file.
        metrics: by name, with intervals.
        per_class: by label; empty for a regression.
        labels: the classes, in the order of `confusion`.
        confusion: rows are the truth, columns what was said.
        curves: label → (false positive rates, true positive rates).
        calibration: what the probabilities are worth, where the model gives any.
        slices: where it is worse than on the rest, where that was looked at.
        answers: of a regression, (true, predicted) of some rows, for the plots.
        crossval: of the training, where it was done.
        comparison: with the champion, where there is one.
        gates: how each went.
        facts: seed, resamples, and what else explains the numbers.
    """

    task: str
    variant: str
    rows: int
    source: str
    data_digest: str
    metrics: Mapping[str, Interval]
    per_class: Mapping[str, ClassReport] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    curves: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = field(default_factory=dict)
    calibration: Calibration | None = None
    slices: SliceTable | None = None
    answers: tuple[tuple[float, float], ...] = ()
    crossval: CrossValidation | None = None
    comparison: Comparison | NumberComparison | None = None
    gates: tuple[GateResult, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    def replace(self, **changes: Any) -> Evaluation:
        """The same evaluation with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """A document of plain values; `from_json` reads it back equal."""
        return {
            "format": 1,
            "task": self.task,
            "variant": self.variant,
            "rows": self.rows,
            "source": self.source,
            "data_digest": self.data_digest,
            "metrics": {name: value.to_json() for name, value in self.metrics.items()},
            "per_class": {
                label: {
                    "support": report.support,
                    "precision": report.precision.to_json(),
                    "recall": report.recall.to_json(),
                    "f1": report.f1.to_json(),
                }
                for label, report in self.per_class.items()
            },
            "labels": list(self.labels),
            "confusion": [list(row) for row in self.confusion],
            "curves": {label: [list(x), list(y)] for label, (x, y) in self.curves.items()},
            "calibration": self.calibration.to_json() if self.calibration else None,
            "slices": self.slices.to_json() if self.slices else None,
            "answers": [list(pair) for pair in self.answers],
            "crossval": self.crossval.to_json() if self.crossval else None,
            "comparison": self.comparison.to_json() if self.comparison else None,
            "gates": [result.to_json() for result in self.gates],
            "facts": dict(self.facts),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Evaluation:
        """The inverse of `to_json`."""
        crossval, comparison = document["crossval"], document["comparison"]
        calibration, slices = document.get("calibration"), document.get("slices")
        return cls(
            task=document["task"],
            variant=document["variant"],
            rows=document["rows"],
            source=document["source"],
            data_digest=document["data_digest"],
            metrics={n: Interval.from_json(v) for n, v in document["metrics"].items()},
            per_class={
                label: ClassReport(
                    report["support"],
                    Interval.from_json(report["precision"]),
                    Interval.from_json(report["recall"]),
                    Interval.from_json(report["f1"]),
                )
                for label, report in document["per_class"].items()
            },
            labels=tuple(document["labels"]),
            confusion=tuple(tuple(row) for row in document["confusion"]),
            curves={label: (tuple(x), tuple(y)) for label, (x, y) in document["curves"].items()},
            calibration=Calibration.from_json(calibration) if calibration else None,
            slices=SliceTable.from_json(slices) if slices else None,
            answers=tuple((true, said) for true, said in document.get("answers", ())),
            crossval=CrossValidation.from_json(crossval) if crossval else None,
            comparison=parse_comparison(comparison) if comparison else None,
            gates=tuple(GateResult(**result) for result in document["gates"]),
            facts=document["facts"],
        )
