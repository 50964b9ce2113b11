"""Probabilities are made honest: the logarithms of what a model says, scaled, and shifted for two classes.

Of probabilities `p` become `softmax(scale * log(max(p, floor)) + offsets)`. A scale below 1 takes back
confidence, one above 1 gives some. With offsets of 0 the likeliest class stays the likeliest; with two
classes the ranking of rows stays as it was whatever the offset.

Sources: temperature scaling, Guo, Pleiss, Sun & Weinberger, *On Calibration of Modern Neural Networks*
(ICML 2017), where `scale` is 1 / T; for two classes with an offset it is Platt's (*Advances in Large
Margin Classifiers*, 1999) of the log odds. Neither knows a model that says 0: the floor says what that
is to mean, as no tree out of a hundred does not mean never.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

# What the numbers of an output are.
Form = Literal["probabilities", "logits"]
# What a probability of 0 may mean. The last is what single precision can tell from 0.
FLOORS = (1e-3, 1e-6, 1e-12, 1e-30)
# Nats that a finer floor has to earn: that a class is all but impossible is believed on evidence, as
# rows on which nothing went wrong would believe anything.
_EARNED = 2.0
# The standard deviation of a normal prior around "as it is", for the scale's logarithm and the offset:
# weak, and enough that rows on which nothing is wrong do not ask for a confidence without end.
_SPREAD = 2.0
# Steps at most; the shortest part of one; nats below which a step has gained enough.
_STEPS, _SHORTEST, _ENOUGH = 100, 1e-6, 1e-9


@dataclass(frozen=True, slots=True)
class Scaling:
    """How a model's numbers are to be read.

    Attributes:
        scale: of the logarithms (or of the logits).
        offset: added to the second of two classes; 0 with more.
        floor: what a smaller probability counts as; unused with logits.
    """

    scale: float = 1.0
    offset: float = 0.0
    floor: float = FLOORS[-1]

    def apply(self, numbers: Array, form: Form) -> Array:
        """Probabilities out of a model's numbers.

        Args:
            numbers: `(rows, classes)`, or `(rows, 1)` of the second of two classes.
            form: what they are.

        Returns:
            `(rows, classes)` float64, each row a distribution.
        """
        from scipy.special import softmax

        scores = self.scale * log_scores(numbers, form, self.floor)
        scores[:, 1] += self.offset
        return softmax(scores, axis=1)  # type: ignore[no-any-return]

    def to_json(self) -> dict[str, float]:
        """For the facts of a stage."""
        return {"scale": self.scale, "offset": self.offset, "floor": self.floor}

    @classmethod
    def from_json(cls, document: Mapping[str, float]) -> Scaling:
        """The inverse of `to_json`."""
        return cls(**document)


def log_scores(numbers: Array, form: Form, floor: float) -> Array:
    """`(rows, classes)` float64: what a softmax makes the model's own probabilities of."""
    import numpy as np

    wide = numbers.astype(np.float64)
    if wide.shape[1] == 1:
        # A logit is the log odds of the second class against the first.
        first = np.zeros_like(wide) if form == "logits" else 1.0 - wide
        wide = np.concatenate([first, wide], axis=1)
    return wide.copy() if form == "logits" else np.log(np.maximum(wide, floor))


def fit_scaling(numbers: Array, form: Form, true: Array, *, with_offset: bool) -> Scaling:
    """The scaling under which the true classes are likeliest, drawn a little towards none.

    Args:
        numbers: `(rows, classes)`, or `(rows, 1)` of the second of two classes.
        form: what they are.
        true: `(rows,)` indices of classes.
        with_offset: whether the second of two classes may be shifted.

    Returns:
        "As it is", but for the floor, where there are no rows.
    """
    import numpy as np

    floors = _floors(numbers, form)
    best, least = Scaling(floor=floors[0]), np.inf
    for finer, floor in enumerate(floors if len(true) else ()):
        x, loss = _climb(log_scores(numbers, form, floor), true, with_offset)
        loss += finer * _EARNED
        if loss < least:
            least, best = loss, Scaling(float(np.exp(x[0])), float(x[1]), floor)
    return best


def _climb(scores: Array, true: Array, with_offset: bool) -> tuple[Array, float]:
    """(logarithm of the scale, offset) with the least loss, and that loss.

    Newton's steps with the expected curvature, which is never negative, halved until they help. Two
    numbers are sought: a general minimizer spends its time on itself.
    """
    import numpy as np

    rows, second = np.arange(len(true)), true == 1

    def look(x: Array) -> tuple[float, Array]:
        moved = np.exp(x[0]) * scores
        moved[:, 1] += x[1]
        moved -= moved.max(axis=1, keepdims=True)
        share = np.exp(moved)
        total = share.sum(axis=1)
        loss = float((np.log(total) - moved[rows, true]).sum())
        return loss + float((x**2).sum()) / (2 * _SPREAD**2), share / total[:, None]

    x = np.zeros(2)
    loss, share = look(x)
    for _ in range(_STEPS):
        pull = np.exp(x[0]) * scores
        mean, one = (share * pull).sum(axis=1), share[:, 1]
        slope = np.array([(mean - pull[rows, true]).sum(), (one - second).sum()]) + x / _SPREAD**2
        both = float((one * (pull[:, 1] - mean)).sum())
        curve = np.array(
            [
                [float(((share * pull**2).sum(axis=1) - mean**2).sum()), both],
                [both, float((one * (1 - one)).sum())],
            ]
        )
        curve += np.eye(2) / _SPREAD**2
        if not with_offset:
            slope[1] = curve[0, 1] = curve[1, 0] = 0.0
        step = -np.linalg.solve(curve, slope)
        length = 1.0
        while length > _SHORTEST:
            there = x + length * step
            new_loss, new_share = look(there)
            if new_loss < loss:
                break
            length /= 2
        else:
            break
        gained = loss - new_loss
        x, loss, share = there, new_loss, new_share
        if gained < _ENOUGH:
            break
    return x, loss


def _floors(numbers: Array, form: Form) -> list[float]:
    """From coarse to fine: those that the precision knows, that matter here, and that lift no class above another."""
    import numpy as np

    known = [floor for floor in FLOORS if floor >= np.finfo(numbers.dtype).tiny]
    if form == "logits":
        return known[-1:]
    smallest = float(min(numbers.min(), 1.0 - numbers.max())) if len(numbers) else 0.0
    most = 0.1 / max(2, numbers.shape[1])
    return [floor for floor in known[:-1] if smallest < floor < most] + known[-1:]
