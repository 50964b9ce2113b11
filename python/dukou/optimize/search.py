"""The door of this stop: forms are made, judged, measured together; the best is chosen or none.

Judged means: what a form may lose, at most, keeps within the budget. Measured means: through the
`Measure` that is given, which serves it, one request alone and requests in company. A form is chosen
only where it is smaller than the original *and* not slower in either (or faster alone, not slower in
company and not larger, where latency is the objective).
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

    from dukou.evaluate.intervals import Interval

    Arrays = Mapping[str, np.ndarray[Any, Any]]

_BATCH_ROWS = 256
# Requests that are handed to the measure.
_SAMPLES = 64
# Forms whose reason the summary tells; the others' are in their rows of the table.
_TOLD = 3
# Of a calibration request: many, so that a pass is quick.
_CALIBRATION_ROWS = 64


def optimize_model(
    model: Model,
    data: DataSet,
    *,
    into: str | os.PathLike[str],
    measure: Measure,
    budget: Budget | None = None,
    passes: Sequence[Pass] | None = None,
    calibration: DataSet | None = None,
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
        calibration: a few hundred rows that show what the model will be asked, none of those in
            `data`: a form that is fitted to its judges is judged too well.
        task: `classification` or `regression`; the card's where absent.

    Raises:
        InputError: `data.mismatch`, `data.empty`.
    """
    budget = budget or Budget()
    chosen_passes = [load_pass(name) for name in list_passes()] if passes is None else list(passes)
    if not data.rows:
        raise InputError("data.empty", f"`{data.source}` has no rows to judge forms by")
    judge = make_judge(model, data, task or model.card.task or "classification", budget.confidence)
    shown = _calibrate(model, calibration)
    forms, refused = _make_forms(model, chosen_passes, shown, Path(into), budget.max_candidates)
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
    model: Model,
    passes: Sequence[Pass],
    calibration: Sequence[Arrays] | None,
    into: Path,
    most: int,
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
            form = step.apply(base, folder, calibration)
            if form is None:
                continue
            made_any = True
            digest = _digest(form)
            if digest not in seen:
                seen.add(digest)
                forms.append((form, (*names, step.name)))
        if not made_any:
            without = "" if calibration else ", and had no calibration rows"
            refused.setdefault(step.name, f"finds nothing to do on this graph{without}")
    return forms, refused


def _calibrate(model: Model, data: DataSet | None) -> list[Arrays] | None:
    """Requests of the rows that are whole: a number that is none has no place on a scale."""
    import numpy as np

    if data is None:
        return None
    whole = np.ones(data.rows, dtype=bool)
    for column in data.features.values():
        if column.dtype.kind == "f":
            whole &= np.isfinite(column).reshape(data.rows, -1).all(axis=1)
    whole_rows = np.flatnonzero(whole)
    if not len(whole_rows):
        return None
    return _requests(model, data.take(whole_rows), _CALIBRATION_ROWS, data.rows) or None


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
    samples = _requests(candidates[0].model, data, 1, _SAMPLES)
    measured = measure([c.model for c in left], samples)
    by_variant: dict[str, Measurement] = {
        c.model.variant: m for c, m in zip(left, measured, strict=True)
    }
    return [dataclasses.replace(c, measurement=by_variant.get(c.model.variant)) for c in candidates]


def _requests(model: Model, data: DataSet, rows: int, most: int) -> list[Arrays]:
    """At most `most` requests of `rows` rows (or of as many as the graph insists on)."""
    from dukou.model.rows import fit_rows

    fixed = [s.shape[0] for s in model.signature.inputs if s.shape and isinstance(s.shape[0], int)]
    step = int(fixed[0]) if fixed else min(rows, data.rows)
    inputs = fit_rows(model.signature, data.features)
    return [
        {name: array[start : start + step] for name, array in inputs.items()}
        for start in range(0, min(data.rows - step + 1, most * step), step)
    ]


def _mark_front(candidates: list[Candidate], metric: str) -> list[Candidate]:
    """Marks those that no other beats in one of size, times, quality without losing in another."""
    sign = 1 if metric == "rmse" else -1

    def cost(candidate: Candidate) -> tuple[float, ...]:
        assert candidate.measurement is not None  # noqa: S101 - filtered below
        return (
            candidate.measurement.size_bytes,
            candidate.measurement.latency_us.value,
            candidate.measurement.busy_us.value,
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
        if candidate.verdict == "qualified" and candidate.measurement and original:
            against, gains = _weigh(candidate.measurement, original, budget)
            reason = against or f"{gains}; may lose up to {candidate.loss_bound:.4f}"
            verdict = "dropped" if against else "qualified"
            candidate = dataclasses.replace(candidate, verdict=verdict, reason=reason)
        compared.append(candidate)
    return compared


def _weigh(mine: Measurement, original: Measurement, budget: Budget) -> tuple[str, str]:
    """What speaks against a form (nothing, where it qualifies), and how it compares, in words."""
    smaller = mine.size_bytes < original.size_bytes
    sizes = f"{mine.size_bytes} bytes against {original.size_bytes}"
    alone = _say_times(mine.latency_us, original.latency_us)
    company = _say_times(mine.busy_us, original.busy_us)
    ride = "in company" + (", where it answers one by one" if not mine.batched else "")
    faster = mine.latency_us.high < original.latency_us.low
    gains = f"{sizes}, {'faster' if faster else 'not slower'} alone: {alone}, and {ride}: {company} a request"
    if _is_slower(mine.latency_us, original.latency_us, budget):
        return f"is slower alone: {alone}", gains
    if _is_slower(mine.busy_us, original.busy_us, budget):
        return f"is slower {ride}: {company} a request", gains
    if budget.objective == "size" and not smaller:
        return f"is not smaller: {sizes}", gains
    if budget.objective == "latency" and not faster:
        return f"is not faster beyond doubt: {alone}", gains
    if budget.objective == "latency" and mine.size_bytes > original.size_bytes * 1.01:
        return f"is larger: {sizes}", gains
    return "", gains


def _is_slower(ours: Interval, theirs: Interval, budget: Budget) -> bool:
    """By more than a second run of the same differs, or beyond all doubt."""
    return ours.value > theirs.value * (1 + budget.latency_slack) or ours.low > theirs.high


def _say_times(ours: Interval, theirs: Interval) -> str:
    return (
        f"{ours.value:.1f} µs [{ours.low:.1f}, {ours.high:.1f}] against "
        f"{theirs.value:.1f} µs [{theirs.low:.1f}, {theirs.high:.1f}]"
    )


def _choose(
    candidates: list[Candidate], refused: Mapping[str, str], budget: Budget
) -> tuple[list[Candidate], str]:
    """The best of those that are left, and what happened in words."""
    left = [c for c in candidates if c.verdict == "qualified" and c.measurement is not None]
    if not left:
        told = [f"`{c.model.variant}` {c.reason}" for c in candidates if c.verdict == "dropped"]
        told += [f"`{name}` {reason}" for name, reason in refused.items()]
        summary = "nothing beats the original, it is kept: " + (
            "; ".join(told[:_TOLD]) or "there was no pass to try"
        )
        if len(told) > _TOLD:
            summary += f"; and {len(told) - _TOLD} more did not qualify"
        first = dataclasses.replace(candidates[0], verdict="chosen", reason="is kept")
        return [first, *candidates[1:]], summary

    def cost(candidate: Candidate) -> tuple[float, float]:
        measured = candidate.measurement
        assert measured is not None  # noqa: S101 - filtered above
        if budget.objective == "latency":
            return measured.latency_us.value, measured.size_bytes
        return measured.size_bytes, measured.busy_us.value

    best = min(left, key=cost)
    summary = f"`{best.model.variant}` is chosen: {best.reason}"
    marked = [dataclasses.replace(c, verdict="chosen") if c is best else c for c in candidates]
    return marked, summary
