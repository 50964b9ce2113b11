from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from dukou.evaluate import Calibration, Predictions, calibrate_predictions

ROWS = 600


def _binary(said: np.ndarray) -> Predictions:
    both = np.stack([1 - said, said], axis=1)
    return Predictions(("no", "yes"), both.argmax(axis=1), both, both)


def _draw(seed: int, bend: float = 1.0) -> tuple[Predictions, np.ndarray]:
    """Probabilities, and what came: true to them where `bend` is 1."""
    rng = np.random.default_rng(seed)
    said = rng.beta(2, 2, size=ROWS)
    return _binary(said), np.where(rng.random(ROWS) < said**bend, "yes", "no")


def test_the_curve_and_brier_are_those_of_scikit_learn() -> None:
    predictions, truth = _draw(0)
    found = calibrate_predictions(predictions, truth)
    assert found is not None and found.of == "yes" and found.rows == ROWS
    came, said = calibration_curve(
        truth == "yes", predictions.probabilities[:, 1], n_bins=10, strategy="quantile"
    )
    assert [part.said for part in found.bins] == pytest.approx(said)
    assert [part.came.value for part in found.bins] == pytest.approx(came)
    assert found.raw_error == pytest.approx(np.abs(came - said).mean())
    brier = brier_score_loss(truth == "yes", predictions.probabilities[:, 1])
    assert found.brier.value == pytest.approx(brier)
    assert found.brier.low < brier < found.brier.high
    assert Calibration.from_json(found.to_json()) == found


def test_with_many_classes_it_is_the_said_class_that_counts() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.dirichlet([1, 1, 1], size=ROWS)
    labels = ("a", "b", "c")
    predictions = Predictions(labels, probabilities.argmax(axis=1), probabilities, probabilities)
    drawn = [rng.choice(3, p=row) for row in probabilities]
    found = calibrate_predictions(predictions, np.array(labels)[drawn])
    assert found is not None and found.of == "said"
    assert found.bins[0].low >= 1 / 3 and sum(part.rows for part in found.bins) == ROWS
    assert found.brier.value == pytest.approx(
        brier_score_loss(drawn, probabilities, labels=[0, 1, 2], scale_by_half=False)
    )


def test_a_true_model_is_not_accused_and_a_bent_one_is() -> None:
    """As it is usually computed, the error of a perfect model is never 0: here it is, within chance."""
    true = [calibrate_predictions(*_draw(seed), resamples=500) for seed in range(40)]
    assert np.mean([found.raw_error for found in true]) > 0.03
    assert np.mean([found.error.value for found in true]) < 0.015
    assert sum(found.error.low > 0 for found in true) <= 4
    bent = [calibrate_predictions(*_draw(seed, bend=2.0), resamples=500) for seed in range(40)]
    # Of a beta(2, 2) probability p, p - p² is 0.2 on average, everywhere of one sign.
    assert np.mean([found.error.value for found in bent]) == pytest.approx(0.2, abs=0.01)
    assert sum(found.error.low <= 0.2 <= found.error.high for found in bent) >= 35
    assert all(found.leaning > 0.1 for found in bent)


def test_equal_probabilities_share_a_bin_and_few_rows_make_few() -> None:
    said = np.array([0.9] * 40 + [1.0] * 60)
    found = calibrate_predictions(_binary(said), np.array(["yes"] * 100))
    assert found is not None
    assert [(part.low, part.high, part.rows) for part in found.bins] == [
        (0.9, 0.9, 40),
        (1.0, 1.0, 60),
    ]
    few = calibrate_predictions(_binary(said[:5]), np.array(["yes"] * 5))
    assert few is not None and len(few.bins) == 1


def test_a_model_without_probabilities_has_no_calibration() -> None:
    silent = Predictions(("no", "yes"), np.array([0, 1]), None, None)
    assert calibrate_predictions(silent, np.array(["no", "yes"])) is None
