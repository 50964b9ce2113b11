"""What a pass and a measure are to the search; the values that pass between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from dukou.model.model import Model

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.intervals import Interval

    Arrays = Mapping[str, np.ndarray[Any, Any]]


class Pass(Protocol):
    """Makes one form of a model. `dukou.testing.check_pass` is its contract.

    A pass never changes the model it is given, keeps the signature, and leaves the judging to the
    search: whether its form is good enough is none of its business.

    Attributes:
        name: its name in the table, and in the names of variants: `int8`.
    """

    name: str

    def apply(self, model: Model, into: Path, calibration: Sequence[Arrays] | None) -> Model | None:
        """The new form, finished by `dukou.optimize.variant.finish_variant`.

        Args:
            model: any model; its graph stays as it is.
            into: an existing empty folder for the new graph and its weights.
            calibration: requests that show what the model is asked, inputs by name; none of their
                rows judges. None where there are none: a pass that needs them has nothing to do.

        Returns:
            None where the pass has nothing to do on this graph.
        """
        ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """What running a model costs.

    Attributes:
        latency_us: of a request that is alone, typical, with an interval over the rounds.
        busy_us: of a request that came together with others: what one costs under load, where
            requests share a run if the model allows it.
        size_bytes: of the graph and its weights.
        batched: whether requests may share a run of it.
        facts: how it was measured: rounds, threads, rows of a request, where.
    """

    latency_us: Interval
    busy_us: Interval
    size_bytes: int
    batched: bool
    facts: Mapping[str, Any]


class Measure(Protocol):
    """Runs models as they will be served, all of them in one go, in turns, so that they compare."""

    def __call__(self, models: Sequence[Model], samples: Sequence[Arrays]) -> Sequence[Measurement]:
        """A measurement a model, in their order.

        Args:
            models: at least one; the first is the original.
            samples: requests, inputs by name, each of one row where the model allows it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """What an optimized form may cost.

    Attributes:
        accuracy_loss: how much accuracy it may lose; a regression: by how much the rmse may grow,
            as a share of the original's.
        confidence: one-sided, of the bound on the loss that must keep within `accuracy_loss`.
        latency_slack: by what share its typical time, alone or in company, may exceed the
            original's and still count as not slower: what a second run of the same model differs by.
        objective: what is made small, among the forms that qualify.
        max_candidates: how many forms are tried.
    """

    accuracy_loss: float = 0.01
    confidence: float = 0.95
    latency_slack: float = 0.05
    objective: Literal["size", "latency"] = "size"
    max_candidates: int = 16


@dataclass(frozen=True, slots=True)
class Candidate:
    """One form, with all that was found out about it, and the verdict as a sentence.

    Attributes:
        model: the form; its `variant` is its name.
        passes: that made it, in order; none for the original.
        size_bytes: of its graph and weights.
        quality: accuracy (or rmse) on the judging rows.
        loss: what it loses against the original there; negative where it gains.
        loss_bound: the most that it loses, at the budget's confidence.
        disagree: on how many rows it says another class than the original.
        depends_on_batch: whether a row's answer changes with the rows beside it: such a form is
            judged one row at a time.
        measurement: none where it was dropped before the measuring.
        on_front: whether no other form is at least as good in size, both times and quality.
        verdict: `original`, `chosen`, `qualified` or `dropped`.
        reason: why, with numbers.
    """

    model: Model
    passes: tuple[str, ...]
    size_bytes: int
    quality: float
    loss: float = 0.0
    loss_bound: float = 0.0
    disagree: int = 0
    depends_on_batch: bool = False
    measurement: Measurement | None = None
    on_front: bool = False
    verdict: str = "original"
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """A row of the report's table."""
        measured = self.measurement
        return {
            "variant": self.model.variant,
            "passes": list(self.passes),
            "size_bytes": self.size_bytes,
            "quality": self.quality,
            "loss": self.loss,
            "loss_bound": self.loss_bound,
            "disagree": self.disagree,
            "depends_on_batch": self.depends_on_batch,
            "latency_us": measured.latency_us.to_json() if measured else None,
            "busy_us": measured.busy_us.to_json() if measured else None,
            "batched": measured.batched if measured else None,
            "measured": dict(measured.facts) if measured else None,
            "on_front": self.on_front,
            "verdict": self.verdict,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Optimization:
    """What the search found.

    Attributes:
        chosen: the model to go on with: the original where nothing beats it.
        candidates: all forms, the original first.
        refused: passes that made nothing, with the reason.
        metric: what `quality` is: `accuracy` or `rmse`.
        rows: how many rows judged.
        summary: what happened, in a sentence or two.
    """

    chosen: Model
    candidates: tuple[Candidate, ...]
    refused: Mapping[str, str]
    metric: str
    rows: int
    budget: Budget
    summary: str

    @property
    def front(self) -> tuple[Candidate, ...]:
        """The forms of which none is beaten in size, both times and quality at once."""
        return tuple(c for c in self.candidates if c.on_front)

    def to_json(self) -> dict[str, Any]:
        """For the run record and the report."""
        return {
            "chosen": self.chosen.variant,
            "summary": self.summary,
            "metric": self.metric,
            "rows": self.rows,
            "budget": {
                "accuracy_loss": self.budget.accuracy_loss,
                "confidence": self.budget.confidence,
                "latency_slack": self.budget.latency_slack,
                "objective": self.budget.objective,
            },
            "candidates": [candidate.to_json() for candidate in self.candidates],
            "refused": dict(self.refused),
        }
