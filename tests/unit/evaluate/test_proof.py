"""What is no better is not proved: of many cases without a gain, no more than alpha pass.

Each count is held against the 99.9 % quantile of a binomial of that many cases at alpha: a right test
fails here once in a thousand seeds, and the seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, softmax
from scipy.stats import binom, binomtest

from dukou.evaluate.proof import decision_p_value, scaling_p_value
from dukou.evaluate.threshold import fit_threshold, parse_objective

ALPHA = 0.05
LABELS = ("a", "b")


def _draw(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A class a row, each as likely as it is said to be."""
    passed = rng.random((len(probabilities), 1)) > probabilities.cumsum(axis=1)
    return np.minimum(passed.sum(axis=1), probabilities.shape[1] - 1)


def _most(cases: int) -> int:
    return int(binom.ppf(0.999, cases, ALPHA))


@pytest.mark.parametrize(("classes", "sure", "rows"), [(2, 3.0, 120), (2, 7.0, 100), (4, 2.0, 150)])
def test_true_probabilities_are_left_alone(classes: int, sure: float, rows: int) -> None:
    """With `sure` 7 most samples hold no error at all: what a permutation of losses falls for."""
    cases, passed = 50, 0
    for seed in range(cases):
        rng = np.random.default_rng(seed)
        said = softmax(rng.normal(size=(rows, classes)) * sure, axis=1)
        true = _draw(said, rng)
        p_value = scaling_p_value(
            said, "probabilities", true, probabilities=said, with_offset=classes == 2, seed=seed
        )
        passed += p_value <= ALPHA
    assert passed <= _most(cases)


@pytest.mark.parametrize("temperature", [0.4, 2.5])
def test_untrue_probabilities_are_found(temperature: float) -> None:
    passed = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        logits = rng.normal(size=(300, 3)) * 2
        true = _draw(softmax(logits, axis=1), rng)
        said = softmax(logits * temperature, axis=1)
        passed += (
            scaling_p_value(
                said, "probabilities", true, probabilities=said, with_offset=False, seed=0
            )
            <= ALPHA
        )
    assert passed == 8


@pytest.mark.parametrize(("gained", "lost"), [(8, 1), (5, 5), (0, 3), (6, 0)])
def test_for_accuracy_it_is_mcnemars_test(gained: int, lost: int) -> None:
    true = np.array([0] * 40 + [1] * 40)
    before = true.copy()
    before[:gained] = 1
    after = true.copy()
    after[40 : 40 + lost] = 0
    wanted = binomtest(gained, gained + lost, alternative="greater").pvalue
    found = decision_p_value(true, before, after, parse_objective("accuracy"), LABELS)
    assert found == pytest.approx(wanted)


def test_an_error_that_costs_five_needs_five_of_the_other_kind() -> None:
    """Five cheap errors less and one dear one more cancel out; without the dear one it is still no proof."""
    true = np.array([0] * 60 + [1] * 60)
    before = true.copy()
    before[:5] = 1
    after = true.copy()
    costs = parse_objective("cost", {"a": 1.0, "b": 5.0})
    assert decision_p_value(true, before, after, costs, LABELS) == pytest.approx((5 / 6) ** 5)
    # Where only a recall counts, five rows of that class and none back are 1 in 32.
    recall = parse_objective("recall[a]")
    assert decision_p_value(true, before, after, recall, LABELS) == pytest.approx(1 / 32)


def test_no_change_is_no_proof() -> None:
    true = np.array([0, 1] * 20)
    for text in ("accuracy", "f1[a]", "recall[b]"):
        assert decision_p_value(true, true, true, parse_objective(text), LABELS) == 1


@pytest.mark.parametrize(
    ("text", "costs"), [("accuracy", None), ("f1", None), ("cost", {"a": 1.0, "b": 4.0})]
)
def test_the_best_line_stays(text: str, costs: dict[str, float] | None) -> None:
    """The model draws the line where it is best; others are learnt from as many rows and tried on these."""
    objective = parse_objective(text, costs)
    # Where the best line is for a logistic of slope 3: found on very many rows, once.
    rng = np.random.default_rng(99)
    many = rng.normal(size=50_000)
    truth = (rng.random(len(many)) < expit(3 * many)).astype(np.int64)
    nothing = np.zeros_like(truth)
    best = fit_threshold(
        many, truth, nothing, objective=objective, labels=LABELS, accuracy_budget=1.0
    )
    assert best is not None
    cases, passed = 150, 0
    for seed in range(cases):
        rng = np.random.default_rng(seed)
        values = rng.normal(size=300)
        true = (rng.random(300) < expit(3 * values)).astype(np.int64)
        said = (values >= best).astype(np.int64)
        line = fit_threshold(
            values[:150],
            true[:150],
            said[:150],
            objective=objective,
            labels=LABELS,
            accuracy_budget=1.0,
        )
        after = said[150:] if line is None else (values[150:] >= line).astype(np.int64)
        passed += decision_p_value(true[150:], said[150:], after, objective, LABELS) <= ALPHA
    assert passed <= _most(cases)
