"""After the evaluation: can the model say truer probabilities, or draw a better line? Only with proof.

Two things are tried, and neither touches what the other is for. A *scaling* of the probabilities
(`dukou.evaluate.scaling`) changes how sure the model says it is, never which class it says. A *threshold*
(`dukou.evaluate.threshold`) changes which of two classes is said, never the probabilities; it is tried
where the project names an objective, since every line trades one error for another.

**Which rows.** A model is too sure of itself on the rows that it was trained on, so what is learnt here
must be learnt from others: the held-out ones. They also judge, so they are cut into folds: each
row is answered by a scaling and a line that were learnt from the other folds (cross-fitting). Those
answers are what the tests see, and what the evaluation of the improved model is made of: no row
judges what was learnt from it. What is kept is then learnt anew from all held-out rows. The
alternative, predictions of the cross-validation's models on the training rows, would need trainings
that not every project runs, and would describe other models than the one that is served.

**What is kept** is what a paired test on these rows proves (`dukou.evaluate.proof`), at `alpha` divided by
the number of things tried, and what costs nothing elsewhere: truer probabilities must not have a larger
Brier score, a line must not cost more accuracy than the budget, at the same confidence.

Sources: Guo et al., *On Calibration of Modern Neural Networks* (ICML 2017); Chernozhukov et al.,
*Double/debiased machine learning* (The Econometrics Journal 21, 2018), for cross-fitting.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from dukou.base.errors import InputError
from dukou.evaluate.compare import compare_classes
from dukou.evaluate.intervals import Interval, interval_of_resamples, iter_resampled_weights
from dukou.evaluate.outlets import (
    Obstacle,
    Outlets,
    find_outlets,
    why_no_threshold,
    why_not_scale,
)
from dukou.evaluate.proof import decision_p_value, row_losses, scaling_p_value
from dukou.evaluate.scaling import Form, Scaling, fit_scaling
from dukou.evaluate.threshold import Objective, count_cells, fit_threshold

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.data import DataSet
    from dukou.evaluate.predict import Predictions
    from dukou.model.model import Model

    Array = np.ndarray[Any, Any]

FOLDS = 5
Kind = Literal["probabilities", "threshold"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One thing that was tried.

    Attributes:
        kind: `probabilities` or `threshold`.
        metric: what it is to better: `log_loss`, or the objective.
        before: the metric of the model as it is.
        after: the metric of the answers of folds, see the module.
        gain: how much better, more being better for every metric, with its paired interval.
        p_value: how likely such a gain is by luck; none where there was nothing to test.
        alpha: what it has to be at most.
        kept: whether it is proved.
        reason: why it is kept or not, a sentence with numbers.
        elsewhere: what it does to what it is not for: metric → (before, after).
    """

    kind: Kind
    metric: str
    before: float
    after: float
    gain: Interval
    p_value: float | None
    alpha: float
    kept: bool
    reason: str
    elsewhere: dict[str, tuple[float, float]]

    def to_json(self) -> dict[str, Any]:
        """For the facts of a stage."""
        return {
            "kind": self.kind,
            "metric": self.metric,
            "before": self.before,
            "after": self.after,
            "gain": self.gain.to_json(),
            "p_value": self.p_value,
            "alpha": self.alpha,
            "kept": self.kept,
            "reason": self.reason,
            "elsewhere": {name: list(pair) for name, pair in self.elsewhere.items()},
        }


@dataclass(frozen=True, slots=True)
class Improvement:
    """What was tried on a model, and what is kept.

    Attributes:
        candidates: what was tried.
        rows: the held-out rows that it was tried on.
        left_alone: what was not tried, and why; sentences.
        outlets: where the graph says what it says; none where nothing could be tried.
        scaling: what becomes of the probabilities; none where they stay.
        threshold: the line, on the model's own numbers; none where it stays.
        original: what the model says of the held-out rows.
        improved: what it says with what is kept, each row by what was learnt from others; the same
            where nothing is kept.
    """

    candidates: tuple[Candidate, ...]
    rows: int
    left_alone: tuple[str, ...]
    outlets: Outlets | None
    scaling: Scaling | None
    threshold: float | None
    original: Predictions
    improved: Predictions

    @property
    def kept(self) -> bool:
        """Whether anything is."""
        return self.scaling is not None or self.threshold is not None

    def served_threshold(self) -> float | None:
        """The line on the numbers that are served, which a scaling may have changed."""
        import numpy as np

        if self.threshold is None or self.outlets is None:
            return None
        if self.scaling is None or self.outlets.form == "scores":
            return self.threshold
        at = np.array([[self.threshold]])
        if self.outlets.columns == 2:
            at = np.array([[1 - self.threshold, self.threshold]])
        return float(self.scaling.apply(at, self.outlets.form)[0, 1])


def improve_model(
    model: Model,
    data: DataSet,
    *,
    calibrate: bool | None = None,
    objective: Objective | None = None,
    accuracy_budget: float = 0.01,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> Improvement:
    """Tries a scaling and a threshold on a classifier; changes nothing, says what would.

    Args:
        model: a classifier.
        data: rows that it was not trained on.
        calibrate: whether to try a scaling; where it can be done, if not said.
        objective: what a threshold is to be good for; none is tried without.
        accuracy_budget: how much accuracy a threshold may cost.
        alpha: the probability of changing a model that cannot be improved, at most, for all that is
            tried together.
        resamples: of the intervals' bootstrap.
        seed: of the folds and the bootstrap.

    Raises:
        InputError: `improve.cannot-apply`, `improve.too-few-rows`, where what was asked for by name
            cannot be tried; `data.mismatch`, where the rows do not fit the model.
    """
    from dukou.evaluate.classification import index_truth
    from dukou.evaluate.predict import read_classes, run_model

    outputs = run_model(model, data.features)
    said = read_classes(model, outputs)
    true = index_truth(said, data.target)
    outlets = find_outlets(model, outputs, said)
    left: list[str] = []
    scale = _can(calibrate, why_not_scale(model, outlets, len(true)), "improve.calibrate", left)
    line = objective is not None
    if objective is not None:
        objective.require_labels(said.labels)
        _can(True, why_no_threshold(model, outlets, true), "improve.objective", left)
    else:
        left.append("No objective is set: the line between classes is not moved.")
    if outlets is None or not (scale or line):
        return Improvement((), len(true), tuple(left), outlets, None, None, said, said)
    numbers = outputs[outlets.numbers].reshape(len(true), -1)
    share = alpha / (scale + line)
    trial = _Trial(numbers, outlets, true, said, share, resamples, seed)
    improved, candidates, scaling, threshold = said, [], None, None
    if scale:
        candidate, probabilities, scaling = trial.try_scaling()
        candidates.append(candidate)
        if candidate.kept:
            # One monotone function of two classes' probabilities: it ranks rows as they were.
            scores = said.scores if len(said.labels) == 2 else probabilities
            improved = replace(improved, probabilities=probabilities, scores=scores)
    if objective is not None:
        candidate, chosen, threshold = trial.try_threshold(objective, accuracy_budget)
        candidates.append(candidate)
        if candidate.kept:
            improved = replace(improved, chosen=chosen)
    return Improvement(
        tuple(candidates), len(true), tuple(left), outlets, scaling, threshold, said, improved
    )


class _Trial:
    """The rows, the model's answers, and the folds that both candidates are tried on."""

    def __init__(
        self,
        numbers: Array,
        outlets: Outlets,
        true: Array,
        said: Predictions,
        alpha: float,
        resamples: int,
        seed: int,
    ) -> None:
        self.numbers, self.outlets, self.true, self.said = numbers, outlets, true, said
        self.alpha, self.resamples, self.seed = alpha, resamples, seed
        self.folds = _cut_folds(true, seed)

    def try_scaling(self) -> tuple[Candidate, Array, Scaling | None]:
        """The candidate, the answers of folds, and the scaling where it is kept."""
        import numpy as np

        true, said = self.true, self.said
        form: Form = "logits" if self.outlets.form == "logits" else "probabilities"
        # A shift moves which of two is likelier. Where the graph says the class itself, that stays.
        with_offset = len(said.labels) == 2 and bool(self.outlets.label)
        assert said.probabilities is not None  # noqa: S101 - asked before
        answers = np.empty_like(said.probabilities)
        for learn, judge in self.folds:
            fitted = fit_scaling(self.numbers[learn], form, true[learn], with_offset=with_offset)
            answers[judge] = fitted.apply(self.numbers[judge], form)
        before, after = row_losses(said.probabilities, true), row_losses(answers, true)
        p_value = scaling_p_value(
            self.numbers,
            form,
            true,
            probabilities=said.probabilities,
            with_offset=with_offset,
            seed=self.seed,
        )
        gain = _mean_interval(before - after, self.resamples, self.seed)
        brier = _brier(said.probabilities, true), _brier(answers, true)
        better, proved, harmless = gain.value > 0, p_value <= self.alpha, brier[1] <= brier[0]
        numbers = f"log loss {before.mean():.4f} to {after.mean():.4f}"
        luck = (
            f"as lucky a gain has a probability of {_say(p_value)}, at most {self.alpha:g} is asked"
        )
        kept = better and proved and harmless
        if kept:
            reason = f"Kept: {numbers}; {luck}."
        elif not better:
            reason = f"Not kept: no better on rows that it was not learnt from, {numbers}."
        elif not proved:
            reason = f"Not kept: {numbers} is not proved; {luck}."
        else:
            reason = f"Not kept: {numbers}, but the Brier score rises from {brier[0]:.4f} to {brier[1]:.4f}."
        scaling = fit_scaling(self.numbers, form, true, with_offset=with_offset) if kept else None
        candidate = Candidate(
            "probabilities",
            "log_loss",
            float(before.mean()),
            float(after.mean()),
            gain,
            p_value,
            self.alpha,
            kept,
            reason,
            {"brier": brier},
        )
        return candidate, answers, scaling

    def try_threshold(
        self, objective: Objective, accuracy_budget: float
    ) -> tuple[Candidate, Array, float | None]:
        """The candidate, the classes that folds say, and the line where it is kept."""
        import numpy as np
        from scipy.stats import norm

        # One bound's width is what the proof will ask for, the half is for the luck of the draw.
        in_hand = 1.5 * float(norm.ppf(1 - self.alpha))
        true, labels, old = self.true, self.said.labels, self.said.chosen
        values = np.ascontiguousarray(self.numbers[:, -1])

        def fit(rows: Array) -> float | None:
            return fit_threshold(
                values[rows],
                true[rows],
                old[rows],
                objective=objective,
                labels=labels,
                accuracy_budget=accuracy_budget,
                in_hand=in_hand,
            )

        new = old.copy()
        for learn, judge in self.folds:
            line = fit(learn)
            if line is not None:
                new[judge] = values[judge] >= line
        gain = _objective_interval(true, old, new, objective, labels, self.resamples, self.seed)
        before = float(objective.measure(count_cells(true, old), labels))
        after = float(objective.measure(count_cells(true, new), labels))
        p_value = decision_p_value(true, old, new, objective, labels)
        compared = compare_classes(old, new, true)
        accuracy = float((old == true).mean()), float((new == true).mean())
        lost = compared.loss_bound(1 - self.alpha) if objective.keeps_accuracy else 0.0
        final = fit(np.arange(len(true)))
        numbers = (
            f"{objective} {before:.4f} to {after:.4f} by {compared.disagree} changed answers, "
            f"{compared.gained} now right and {compared.lost} now wrong"
        )
        luck = (
            f"as lucky a gain has a probability of {_say(p_value)}, at most {self.alpha:g} is asked"
        )
        kept = False
        if final is None or not compared.disagree:
            within = " that the accuracy budget allows" if objective.keeps_accuracy else ""
            reason = f"Not kept: no line{within} is better for {objective}, which is {before:.4f}."
        elif after <= before:
            reason = f"Not kept: no better on rows that it was not learnt from, {numbers}."
        elif p_value > self.alpha:
            reason = f"Not kept: {numbers}, is not proved; {luck}."
        elif lost > accuracy_budget:
            reason = (
                f"Not kept: {numbers}; up to {lost:.4f} of accuracy may be lost with that, and "
                f"`improve.accuracy_budget` is {accuracy_budget:g}."
            )
        else:
            kept = True
            reason = f"Kept: {numbers}; {luck}."
        candidate = Candidate(
            "threshold",
            str(objective),
            before,
            after,
            gain,
            p_value,
            self.alpha,
            kept,
            reason,
            {"accuracy": accuracy},
        )
        return candidate, new, final if kept else None


def _can(wanted: bool | None, obstacle: Obstacle | None, key: str, left: list[str]) -> bool:
    """Whether something is tried; what was asked for by name and cannot be is an error."""
    if wanted is False:
        left.append(f"`{key}` is off: probabilities stay as they are.")
        return False
    if obstacle is None:
        return True
    if wanted:
        raise InputError(obstacle.code, f"`{key}` asks for what cannot be: {obstacle.why}")
    left.append(f"Probabilities stay as they are: {obstacle.why}.")
    return False


def _cut_folds(true: Array, seed: int) -> list[tuple[Array, Array]]:
    """(rows to learn from, rows to judge by), the classes dealt out evenly, however few rows they have."""
    import numpy as np

    shuffled = np.random.default_rng(seed).permutation(len(true))
    order = shuffled[np.argsort(true[shuffled], kind="stable")]
    fold = np.empty(len(true), dtype=np.int64)
    fold[order] = np.arange(len(true)) % FOLDS
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(FOLDS)]


def _brier(probabilities: Array, true: Array) -> float:
    """As in the evaluation: of two classes the second one's squared distance, of more the sum over all."""
    import numpy as np

    squares = ((probabilities - np.eye(probabilities.shape[1])[true]) ** 2).sum(axis=1)
    return float(squares.mean()) / (2 if probabilities.shape[1] == 2 else 1)


def _mean_interval(values: Array, resamples: int, seed: int) -> Interval:
    import numpy as np

    rows = len(values)
    means = [w @ values / rows for w in iter_resampled_weights(rows, resamples, seed)]
    left_out = (values.sum() - values) / (rows - 1)
    return interval_of_resamples(
        float(values.mean()), np.concatenate(means), influence=(left_out, np.ones(rows))
    )


def _objective_interval(
    true: Array,
    old: Array,
    new: Array,
    objective: Objective,
    labels: tuple[str, ...],
    resamples: int,
    seed: int,
) -> Interval:
    """Resampling rows and counting them is a multinomial draw of (true, said before, said now)."""
    import numpy as np

    cells = np.bincount(true * 4 + old * 2 + new, minlength=8)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(true), cells / len(true), size=resamples).reshape(-1, 2, 2, 2)

    def gain(counts: Array) -> Array:
        return objective.measure(counts.sum(axis=-2), labels) - objective.measure(
            counts.sum(axis=-1), labels
        )

    return interval_of_resamples(float(gain(cells.reshape(2, 2, 2))), gain(drawn))


def _say(p_value: float) -> str:
    return f"{p_value:.2g}" if p_value >= 1e-6 else "less than 0.000001"
