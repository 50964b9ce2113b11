"""How sure a number is: intervals by resampling, by the exact binomial, and for paired differences.

Everything is seeded. Sources: Efron & Tibshirani, *An Introduction to the Bootstrap*, ch. 14 (BCa);
Clopper & Pearson 1934; Tango, *Statistics in Medicine* 17 (1998), 891-908.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

CONFIDENCE = 0.95
RESAMPLES = 2000
# Elements of one block of resampled rows: bounds the memory.
_BLOCK = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with the range that the truth is in with `confidence`.

    Attributes:
        value: the point estimate.
        low: lower bound.
        high: upper bound.
        confidence: of both bounds together.
        method: how the bounds were found.
    """

    value: float
    low: float
    high: float
    confidence: float = CONFIDENCE
    method: str = "bootstrap-bca"

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"

    def to_json(self) -> dict[str, Any]:
        """As in reports; a bound that is no number is null."""
        document = asdict(self)
        for key in ("value", "low", "high"):
            if not math.isfinite(document[key]):
                document[key] = None
        return document

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Interval:
        """The inverse of `to_json`."""
        read = {key: math.nan if v is None else v for key, v in document.items()}
        return cls(
            read["value"], read["low"], read["high"], read["confidence"], str(read["method"])
        )


def interval_of_resamples(
    value: float,
    resampled: Array,
    *,
    influence: tuple[Array, Array] | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Bounds out of a statistic's resampled values.

    Args:
        value: the statistic of the rows themselves.
        resampled: `(resamples,)`; those that are no number are left out.
        influence: (leave-one-out values, how many rows give each) for the BCa correction; plain
            percentiles where absent.
        confidence: of both bounds together.
    """
    import numpy as np

    good = resampled[np.isfinite(resampled)]
    if not len(good) or not math.isfinite(value):
        return Interval(value, math.nan, math.nan, confidence, "undefined")
    if good.min() == good.max():
        return Interval(value, float(good[0]), float(good[0]), confidence, "bootstrap-collapsed")
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    method = "bootstrap-percentile"
    if influence is not None:
        adjusted = _bca_tails(value, good, influence, tails)
        if adjusted is not None:
            tails, method = adjusted, "bootstrap-bca"
    low, high = np.quantile(good, tails)
    return Interval(value, float(min(low, value)), float(max(high, value)), confidence, method)


def _bca_tails(
    value: float, good: Array, influence: tuple[Array, Array], tails: list[float]
) -> list[float] | None:
    """Percentiles shifted by the bias and the acceleration; none where they are not defined."""
    import numpy as np
    from scipy.stats import norm

    left_out, weights = influence
    fraction = float((good < value).mean() + 0.5 * (good == value).mean())
    if not 0 < fraction < 1:
        return None
    usable = np.isfinite(left_out)
    left_out, weights = left_out[usable], weights[usable].astype(np.float64)
    if not len(left_out):
        return None
    apart = np.average(left_out, weights=weights) - left_out
    spread = float((weights * apart**2).sum())
    if spread <= 0:
        return None
    bias = float(norm.ppf(fraction))
    acceleration = float((weights * apart**3).sum()) / (6 * spread**1.5)
    shifted = []
    for tail in tails:
        z = bias + float(norm.ppf(tail))
        below = 1 - acceleration * z
        if below <= 0:
            return None
        shifted.append(float(norm.cdf(bias + z / below)))
    return shifted


def iter_resampled_rows(rows: int, resamples: int, seed: int) -> Iterator[Array]:
    """Blocks `(some, rows)` of row numbers drawn with replacement, `resamples` in all."""
    import numpy as np

    rng = np.random.default_rng(seed)
    block = max(1, min(resamples, _BLOCK // max(rows, 1)))
    for start in range(0, resamples, block):
        yield rng.integers(0, rows, size=(min(block, resamples - start), rows))


def iter_resampled_weights(rows: int, resamples: int, seed: int) -> Iterator[Array]:
    """The same draws as `iter_resampled_rows`, as how often each row was drawn."""
    import numpy as np

    for drawn in iter_resampled_rows(rows, resamples, seed):
        offset = np.arange(len(drawn))[:, None] * rows
        counts = np.bincount((drawn + offset).reshape(-1), minlength=len(drawn) * rows)
        yield counts.reshape(len(drawn), rows)


def proportion_interval(successes: int, rows: int, confidence: float = CONFIDENCE) -> Interval:
    """Clopper and Pearson's exact interval of a share: right also where nothing ever failed."""
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, successes, rows - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, rows - successes)) if successes < rows else 1.0
    return Interval(successes / rows, low, high, confidence, "clopper-pearson")


def paired_difference_interval(
    more: int, less: int, rows: int, confidence: float = CONFIDENCE
) -> Interval:
    """Tango's score interval of `(more - less) / rows` for paired outcomes.

    Args:
        more: pairs where only the first came true.
        less: pairs where only the second did.
        rows: all pairs.
        confidence: of both bounds together; for one bound at 95 % ask for 0.90.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z = float(norm.ppf((1 + confidence) / 2))
    value = (more - less) / rows

    def score(delta: float) -> float:
        apart = more - less - rows * delta
        if apart == 0:
            return 0.0
        half = 2 * rows
        slope = -more - less + (2 * rows - more + less) * delta
        constant = -less * delta * (1 - delta)
        root = math.sqrt(max(0.0, slope * slope - 4 * half * constant))
        share = (root - slope) / (2 * half)
        variance = rows * (2 * share + delta * (1 - delta))
        if variance <= 0:
            return math.copysign(math.inf, apart)
        return apart / math.sqrt(variance)

    edge = 1 - 1e-12
    low = -1.0 if score(-edge) < z else float(brentq(lambda d: score(d) - z, -edge, value))
    high = 1.0 if score(edge) > -z else float(brentq(lambda d: score(d) + z, value, edge))
    return Interval(value, low, high, confidence, "tango")
