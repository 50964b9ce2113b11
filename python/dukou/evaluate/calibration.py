"""What a classifier's probabilities are worth: of the rows it is 80 % sure of, are 80 % right?

Rows are put into bins of equal numbers by what the model says, and in each bin the mean of what it
said is held against what came true.

The expected calibration error is the mean distance of the two, weighted by rows. As it is usually
computed it is never 0, not even for a perfect model: each bin's share is a sample, and a distance has
no sign for chance to cancel. How much that adds is found by drawing each bin's share anew (a
parametric bootstrap around the distances seen, shrunk after James and Stein by what chance alone
gives them), and is taken away: the bias of Kumar, Liang & Ma, *Verified Uncertainty Calibration*,
NeurIPS 2019. The lower bound takes away as much as a perfect model's draws could have added, so that
one above 0 is evidence against the model; the upper bound takes away nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dukou.evaluate.intervals import (
    CONFIDENCE,
    RESAMPLES,
    Interval,
    interval_of_resamples,
    iter_resampled_weights,
    proportion_interval,
)

if TYPE_CHECKING:
    import numpy as np

    from dukou.evaluate.predict import Predictions

    Array = np.ndarray[Any, Any]

BINS = 10
# A bin of fewer rows says little: there are fewer bins then.
_FEWEST_ROWS = 10


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Rows of which the model said about the same.

    Attributes:
        low: the smallest probability in the bin.
        high: the largest.
        rows: how many.
        said: the mean probability.
        came: the share that came true, with Clopper and Pearson's exact interval.
    """

    low: float
    high: float
    rows: int
    said: float
    came: Interval

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "low": self.low,
            "high": self.high,
            "rows": self.rows,
            "said": self.said,
            "came": self.came.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Calibration:
    """How far a classifier's probabilities can be believed.

    Attributes:
        of: whose probability is meant: of two classes the second one's label, of more `said`: that of
            the class that the model says.
        rows: how many were asked.
        bins: the reliability curve, from the smallest probability to the largest.
        error: the expected calibration error, its bias taken away; 0 is perfect.
        raw_error: the same as others compute it, its bias in it.
        brier: the mean squared distance of probabilities and truth: of two classes between 0 and 1,
            of more the sum over the classes, between 0 and 2.
        leaning: what is said less what comes true, over all rows: above 0 is too sure.
    """

    of: str
    rows: int
    bins: tuple[CalibrationBin, ...]
    error: Interval
    raw_error: float
    brier: Interval
    leaning: float

    def to_json(self) -> dict[str, Any]:
        """For reports; `from_json` reads it back equal."""
        return {
            "of": self.of,
            "rows": self.rows,
            "bins": [part.to_json() for part in self.bins],
            "error": self.error.to_json(),
            "raw_error": self.raw_error,
            "brier": self.brier.to_json(),
            "leaning": self.leaning,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Calibration:
        """The inverse of `to_json`."""
        return cls(
            document["of"],
            document["rows"],
            tuple(
                CalibrationBin(
                    part["low"],
                    part["high"],
                    part["rows"],
                    part["said"],
                    Interval.from_json(part["came"]),
                )
                for part in document["bins"]
            ),
            Interval.from_json(document["error"]),
            document["raw_error"],
            Interval.from_json(document["brier"]),
            document["leaning"],
        )


SAID = "said"


def calibrate_predictions(
    predictions: Predictions,
    truth: Array,
    *,
    bins: int = BINS,
    resamples: int = RESAMPLES,
    seed: int = 0,
    confidence: float = CONFIDENCE,
) -> Calibration | None:
    """The reliability of a classifier's probabilities; None where it gives none.

    Args:
        predictions: what the model said.
        truth: `(rows,)` of classes, as the data has them.
        bins: at most so many.
        resamples: draws for the intervals.
        seed: of the draws.
        confidence: of the intervals.

    Raises:
        InputError: `data.mismatch`, for a class that the model does not know.
    """
    import numpy as np

    from dukou.evaluate.classification import index_truth

    probabilities = predictions.probabilities
    if probabilities is None:
        return None
    true = index_truth(predictions, truth)
    if len(predictions.labels) == 2:
        of, said, came = predictions.labels[1], probabilities[:, 1], true == 1
        squares = (said - came) ** 2
    else:
        of, said = SAID, probabilities[np.arange(len(true)), predictions.chosen]
        came = predictions.chosen == true
        squares = (probabilities**2).sum(axis=1) - 2 * probabilities[np.arange(len(true)), true] + 1
    found = _put_in_bins(said, came, bins, confidence)
    raw, error = _find_error(found, resamples, seed, confidence)
    return Calibration(
        of,
        len(true),
        found,
        error,
        raw,
        _mean_interval(squares, resamples, seed, confidence),
        float(said.mean() - came.mean()),
    )


def _put_in_bins(
    said: Array, came: Array, bins: int, confidence: float
) -> tuple[CalibrationBin, ...]:
    """Of equal numbers of rows, but that equal probabilities are never parted."""
    import numpy as np

    order = np.argsort(said, kind="stable")
    said, came = said[order], came[order]
    rows = len(said)
    count = max(1, min(bins, rows // _FEWEST_ROWS))
    cuts = np.linspace(0, rows, count + 1).round().astype(int)[1:-1]
    # A cut in the middle of equal values moves to where they begin.
    places = sorted({int(np.searchsorted(said, said[cut], side="left")) for cut in cuts} - {0})
    found = []
    for start, end in zip([0, *places], [*places, rows], strict=True):
        part = said[start:end]
        found.append(
            CalibrationBin(
                float(part[0]),
                float(part[-1]),
                end - start,
                float(part.mean()),
                proportion_interval(int(came[start:end].sum()), end - start, confidence),
            )
        )
    return tuple(found)


def _find_error(
    bins: tuple[CalibrationBin, ...], resamples: int, seed: int, confidence: float
) -> tuple[float, Interval]:
    """The error as others compute it, and without its bias; see the module."""
    import numpy as np
    from scipy.stats import norm

    rows = np.array([part.rows for part in bins], dtype=np.float64)
    said = np.array([part.said for part in bins])
    hits = np.array([part.came.value for part in bins]) * rows
    share = rows / rows.sum()
    raw = float(share @ np.abs(hits / rows - said))
    apart = hits / rows - said
    spread = np.maximum(said * (1 - said), 1 / (4 * rows)) / rows
    shrink = max(0.0, 1 - len(bins) / float((apart**2 / spread).sum() or 1.0))
    rng = np.random.default_rng(seed)

    def excess(likely: Array) -> Array:
        drawn = rng.binomial(rows.astype(np.int64), likely, size=(resamples, len(bins))) / rows
        return np.asarray((np.abs(drawn - said) - np.abs(likely - said)) @ share)

    seen, perfect = excess(np.clip(said + shrink * apart, 0, 1)), excess(said)
    tail = (1 - confidence) / 2
    value = max(0.0, raw - float(seen.mean()))
    low = raw - max(float(np.quantile(part, 1 - tail)) for part in (seen, perfect))
    # Where no distance is near 0, none changes its sign: chance is largest, and adds nothing.
    high = raw + float(norm.ppf(1 - tail)) * float(np.sqrt((share**2 * spread).sum()))
    return raw, Interval(value, min(max(0.0, low), value), high, confidence, "bootstrap-debiased")


def _mean_interval(values: Array, resamples: int, seed: int, confidence: float) -> Interval:
    import numpy as np

    rows = len(values)
    drawn = [weights @ values / rows for weights in iter_resampled_weights(rows, resamples, seed)]
    left_out = (values.sum() - values) / max(1, rows - 1)
    return interval_of_resamples(
        float(values.mean()),
        np.concatenate(drawn),
        influence=(left_out, np.ones(rows)),
        confidence=confidence,
    )
