"""The door of this stop: forms are made, judged, measured together; the best is chosen or none.

Judged means: what a form may lose, at most, keeps within the budget. Measured means: through the
`Measure` that is given, which serves it. A form is chosen only where it is smaller than the
original *and* not slower (or faster and not larger, where latency is the objective).
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.base.errors import InputError
from dukou.evaluate.data import DataSet
from dukou.model.model import Model
from dukou.optimize.contract import Budget, Candidate, Measure, Measurement, Optimization, Pass
from dukou.optimize.quality import Judge, depends_on_batch, make_judge
from dukou.optimize.table import list_passes, load_pass

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

_BATCH_ROWS = 256
# Requests that are handed to the measure.
_SAMPLES = 64


def optimize_model(
    model: Model,
    data: DataSet,
    *,
    into: str | os.PathLike[str],
    measure: Measure,
    budget: Budget | None = None,
    passes: Sequence[Pass] | None = None,
    task: str | None = None,
) -> Optimization:
    """Looks for a smaller or faster form of `model` that keeps its promises.

    Args:
        model: the original.
        data: rows with the truth that the forms are judged on; not those it was trained on.
        into: a folder for the forms' graphs.
        measure: runs forms as they will be served; called once with all that are left.
        budget: what may be lost.
        passes: all registered ones where absent.
        task: `classification` or `regression`; the card's where absent.

    Raises:
        InputError: `data.mismatch`, `data.empty`.
    """
    budget = budget or Budget()
    chosen_passes = [load_pass(name) for name in list_passes()] if passes is None else list(passes)
    if not data.rows:
        raise InputError("data.empty", f"`{data.source}` has no rows to judge forms by")
    judge = make_judge(model, data, task or model.card.task or "classification", budget.confidence)
    forms, refused = _make_forms(model, chosen_passes, Path(into), budget.max_candidates)
    candidates = [Candidate(model, (), model.size_bytes(), judge.quality)]
    candidates += [_judge(form, names, judge, data, budget) for form, names in forms]
    candidates = _measure(candidates, measure, data)
    candidates = _mark_front(candidates, judge.metric)
    candidates = _compare_cost(candidates, budget)
    candidates, summary = _choose(candidates, refused, budget)
    chosen = next((c.model for c in candidates if c.verdict == "chosen"), model)
    return Optimization(
        chosen, tuple(candidates), refused, judge.metric, data.rows, budget, summary
    )


def _make_forms(
    model: Model, passes: Sequence[Pass], into: Path, most: int
) -> tuple[list[tuple[Model, tuple[str, ...]]], dict[str, str]]:
    """Every pass on the original and on every form of the passes before it."""
    forms: list[tuple[Model, tuple[str, ...]]] = []
    refused: dict[str, str] = {}
    seen = {_digest(model)}
    for step in passes:
        made_any = False
        for base, names in [(model, ()), *forms]:
            if len(forms) >= most:
                refused.setdefault(step.name, f"{most} forms were made already")
                break
            folder = into / "+".join((*names, step.name))
            folder.mkdir(parents=True, exist_ok=True)
            form = step.apply(base, folder)
            if form is None:
                continue
            made_any = True
            digest = _digest(form)
            if digest not in seen:
                seen.add(digest)
                forms.append((form, (*names, step.name)))
        if not made_any:
            refused.setdefault(step.name, "finds nothing to do on this graph")
    return forms, refused


def _digest(model: Model) -> str:
    with model.graph.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _judge(
    form: Model, names: tuple[str, ...], judge: Judge, data: DataSet, budget: Budget
) -> Candidate:
    dependent = depends_on_batch(form, data)
    loss = judge(form, 1 if dependent else _BATCH_ROWS)
    dropped = loss.bound > budget.accuracy_loss
    reason = ""
    if dropped:
        reason = (
            f"may lose up to {loss.bound:.4f} of {judge.metric} ({loss.words}, "
            f"{budget.confidence:.0%} sure), {budget.accuracy_loss:g} is allowed"
        )
        if loss.loss <= budget.accuracy_loss:
            reason += "; more rows would make the bound tighter"
    return Candidate(
        form,
        names,
        form.size_bytes(),
        loss.quality,
        loss.loss,
        loss.bound,
        loss.disagree,
        dependent,
        verdict="dropped" if dropped else "qualified",
        reason=reason,
    )


def _measure(candidates: list[Candidate], measure: Measure, data: DataSet) -> list[Candidate]:
    left = [c for c in candidates if c.verdict != "dropped"]
    if len(left) == 1:
        return candidates
    samples = _requests(candidates[0].model, data)
    measured = measure([c.model for c in left], samples)
    by_variant: dict[str, Measurement] = {
        c.model.variant: m for c, m in zip(left, measured, strict=True)
    }
    return [dataclasses.replace(c, measurement=by_variant.get(c.model.variant)) for c in candidates]


def _requests(model: Model, data: DataSet) -> list[Arrays]:
    """Requests of one row (or of as many as the graph insists on)."""
    from dukou.model.rows import fit_rows

    fixed = [s.shape[0] for s in model.signature.inputs if s.shape and isinstance(s.shape[0], int)]
    step = int(fixed[0]) if fixed else 1
    inputs = fit_rows(model.signature, data.features)
    return [
        {name: array[start : start + step] for name, array in inputs.items()}
        for start in range(0, min(data.rows - step + 1, _SAMPLES * step), step)
    ]


def _mark_front(candidates: list[Candidate], metric: str) -> list[Candidate]:
    """Marks those that no other beats in one of size, latency, quality without losing in another."""
    sign = 1 if metric == "rmse" else -1

    def cost(candidate: Candidate) -> tuple[float, float, float]:
        assert candidate.measurement is not None  # noqa: S101 - filtered below
        return (
            candidate.measurement.size_bytes,
            candidate.measurement.latency_us.value,
            sign * candidate.quality,
        )

    def beats(one: Candidate, other: Candidate) -> bool:
        pairs = list(zip(cost(one), cost(other), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    measured = [c for c in candidates if c.measurement is not None]
    return [
        dataclasses.replace(
            c,
            on_front=not any(beats(other, c) for other in measured)
            if c.measurement is not None
            else c.verdict == "original",
        )
        for c in candidates
    ]


def _compare_cost(candidates: list[Candidate], budget: Budget) -> list[Candidate]:
    """Drops what is not smaller, or slower: what its objective asks strictly, the other not worse."""
    original = candidates[0].measurement
    compared = []
    for candidate in candidates:
        mine = candidate.measurement
        if candidate.verdict != "qualified" or mine is None or original is None:
            compared.append(candidate)
            continue
        ours, theirs = mine.latency_us, original.latency_us
        ratio = ours.value / theirs.value
        # Slower: by more than a second run of the same differs, or beyond all doubt.
        slower = ratio > 1 + budget.latency_slack or ours.low > theirs.high
        faster = ours.high < theirs.low
        smaller = mine.size_bytes < original.size_bytes
        sizes = f"{mine.size_bytes} bytes against {original.size_bytes}"
        times = (
            f"{ours.value:.1f} µs [{ours.low:.1f}, {ours.high:.1f}] against "
            f"{theirs.value:.1f} µs [{theirs.low:.1f}, {theirs.high:.1f}]"
        )
        if slower:
            reason = f"is slower: {times}"
        elif budget.objective == "size" and not smaller:
            reason = f"is not smaller: {sizes}"
        elif budget.objective == "latency" and not faster:
            reason = f"is not faster beyond doubt: {times}"
        elif budget.objective == "latency" and mine.size_bytes > original.size_bytes * 1.01:
            reason = f"is larger: {sizes}"
        else:
            speed = "faster" if faster else "not slower"
            compared.append(
                dataclasses.replace(
                    candidate,
                    reason=f"{sizes}, {speed}: {times}; may lose up to {candidate.loss_bound:.4f}",
                )
            )
            continue
        compared.append(dataclasses.replace(candidate, verdict="dropped", reason=reason))
    return compared


def _choose(
    candidates: list[Candidate], refused: Mapping[str, str], budget: Budget
) -> tuple[list[Candidate], str]:
    """The best of those that are left, and what happened in words."""
    left = [c for c in candidates if c.verdict == "qualified" and c.measurement is not None]
    if not left:
        told = [f"`{c.model.variant}` {c.reason}" for c in candidates if c.verdict == "dropped"]
        told += [f"`{name}` {reason}" for name, reason in refused.items()]
        summary = "nothing beats the original, it is kept: " + (
            "; ".join(told) or "there was no pass to try"
        )
        first = dataclasses.replace(candidates[0], verdict="chosen", reason="is kept")
        return [first, *candidates[1:]], summary

    def cost(candidate: Candidate) -> tuple[float, float]:
        assert candidate.measurement is not None  # noqa: S101 - filtered above
        both = (candidate.measurement.size_bytes, candidate.measurement.latency_us.value)
        return both if budget.objective == "size" else (both[1], both[0])

    best = min(left, key=cost)
    summary = f"`{best.model.variant}` is chosen: {best.reason}"
    marked = [dataclasses.replace(c, verdict="chosen") if c is best else c for c in candidates]
    return marked, summary
