from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, softmax

from dukou.evaluate.scaling import Scaling, fit_scaling


def _draw(probabilities: np.ndarray, seed: int) -> np.ndarray:
    edges = probabilities.cumsum(axis=1)
    chance = np.random.default_rng(seed).random((len(edges), 1))
    return np.minimum((chance > edges).sum(axis=1), probabilities.shape[1] - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("form", ["probabilities", "logits"])
def test_a_planted_temperature_is_found(temperature: float, form: str) -> None:
    logits = np.random.default_rng(1).normal(size=(4000, 5)) * 1.5
    true = _draw(softmax(logits, axis=1), 2)
    said = logits * temperature
    numbers = softmax(said, axis=1) if form == "probabilities" else said
    found = fit_scaling(numbers, form, true, with_offset=False)
    assert found.scale == pytest.approx(1 / temperature, rel=0.08)
    assert found.offset == 0
    np.testing.assert_allclose(
        found.apply(numbers, form), softmax(logits, axis=1), atol=0.05 if temperature > 2 else 0.03
    )


def test_a_planted_shift_of_two_classes_is_found() -> None:
    odds = np.random.default_rng(3).normal(size=6000) * 2
    true = (np.random.default_rng(4).random(6000) < expit(0.6 * odds - 1.2)).astype(int)
    found = fit_scaling(expit(odds)[:, None], "probabilities", true, with_offset=True)
    assert found.scale == pytest.approx(0.6, rel=0.08)
    assert found.offset == pytest.approx(-1.2, abs=0.12)


def test_the_least_loss_is_the_one_that_a_general_minimizer_finds() -> None:
    rng = np.random.default_rng(5)
    logits, true = rng.normal(size=(80, 2)) * 3, rng.integers(0, 2, 80)

    def loss(x: np.ndarray) -> float:
        moved = np.exp(x[0]) * logits + np.array([0, x[1]])
        chosen = log_softmax(moved, axis=1)[np.arange(80), true]
        return float(-chosen.sum() + (x**2).sum() / 8)

    wanted = minimize(loss, np.zeros(2), tol=1e-10).x
    found = fit_scaling(logits, "logits", true, with_offset=True)
    assert np.log(found.scale) == pytest.approx(wanted[0], abs=1e-3)
    assert found.offset == pytest.approx(wanted[1], abs=1e-3)


def test_rows_without_an_error_do_not_ask_for_a_confidence_without_end() -> None:
    true = np.array([0, 1] * 40)
    said = np.where(np.eye(2)[true] > 0, 0.9, 0.1)
    assert 1 < fit_scaling(said, "probabilities", true, with_offset=True).scale < 8


def test_a_zero_is_not_never() -> None:
    """As a forest says it: no tree. The second row was of that class."""
    said = np.array([[1, 0], [1, 0], [0.4, 0.6], [0.2, 0.8]] * 25, dtype=np.float32)
    true = np.array([0, 0, 1, 1] * 25)
    true[1] = 1
    found = fit_scaling(said, "probabilities", true, with_offset=False)
    assert found.floor == 1e-3
    assert found.apply(said, "probabilities")[1, 1] > 1e-6


def test_one_column_says_what_two_say() -> None:
    rng = np.random.default_rng(6)
    second = rng.random((300, 1)).astype(np.float32)
    both = np.concatenate([1 - second, second], axis=1)
    true = (rng.random(300) < second[:, 0] ** 2).astype(int)
    one = fit_scaling(second, "probabilities", true, with_offset=True)
    two = fit_scaling(both, "probabilities", true, with_offset=True)
    assert one.scale == pytest.approx(two.scale, rel=1e-4)
    np.testing.assert_allclose(
        one.apply(second, "probabilities"), two.apply(both, "probabilities"), atol=1e-5
    )


def test_without_an_offset_the_likeliest_class_stays() -> None:
    said = softmax(np.random.default_rng(7).normal(size=(500, 6)) * 9, axis=1).astype(np.float32)
    for scaling in (Scaling(0.1), Scaling(7.0, floor=1e-3)):
        after = scaling.apply(said, "probabilities")
        assert (after.argmax(axis=1) == said.argmax(axis=1)).all()
        np.testing.assert_allclose(after.sum(axis=1), 1)


def test_nothing_seen_changes_nothing() -> None:
    said = np.array([[0.25, 0.75], [0.5, 0.5]])
    found = fit_scaling(said[:0], "probabilities", np.array([], dtype=int), with_offset=True)
    np.testing.assert_allclose(found.apply(said, "probabilities"), said)
    assert Scaling.from_json(found.to_json()) == found
