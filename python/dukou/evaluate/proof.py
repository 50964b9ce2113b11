"""Is it better, or was it luck? What has to be shown before a model is changed.

**Probabilities.** Blocks of rows are taken in turn; each is answered by a scaling that was fitted on the
blocks before it. Were the model's own probabilities the true ones, the product over all rows of
(scaled probability of what happened) / (the model's own) would be 1 on average, whatever was fitted: it
exceeds 1 / alpha with a probability of alpha at most (Ville's inequality), for any number of rows. Its
logarithm is the log loss that was saved. A permutation of the paired losses, the usual test, is wrong
here: where no error has been seen yet, more confidence saves a little on every row, and what the first
error will cost is not among the values that are permuted.

**Decisions.** Only rows whose answer changes count. Each is worth something where it becomes right and
costs something where it becomes wrong: for accuracy the same, for a recall one class alone, for F1 and
costs not the same. A line that is no better turns rows right just so often that this cancels out;
the chance of seeing as much gain then is a binomial tail, exactly. For accuracy this is McNemar's test.

Sources: Dawid, *Statistical Theory: The Prequential Approach* (JRSS A 147, 1984); Wasserman, Ramdas &
Balakrishnan, *Universal inference* (PNAS 117, 2020); McNemar, *Psychometrika* 12 (1947).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from dukou.evaluate.scaling import Form, fit_scaling
from dukou.evaluate.threshold import Objective, count_cells

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

_BLOCKS = 10
# A probability of 0 for the true class would be an infinite loss; as in the evaluation.
_LEAST = 1e-15


def row_losses(probabilities: Array, true: Array) -> Array:
    """`(rows,)`: the log loss of each row, in nats."""
    import numpy as np

    chosen = probabilities[np.arange(len(true)), true]
    return -np.log(np.clip(chosen, _LEAST, 1.0))  # type: ignore[no-any-return]


def scaling_p_value(
    numbers: Array,
    form: Form,
    true: Array,
    *,
    probabilities: Array,
    with_offset: bool,
    seed: int,
) -> float:
    """How likely a gain like this is, were the model's own probabilities the true ones.

    Args:
        numbers: `(rows, classes)` or `(rows, 1)`, as for `fit_scaling`.
        form: what they are.
        true: `(rows,)` indices.
        probabilities: `(rows, classes)`: the model's own.
        with_offset: as for `fit_scaling`.
        seed: of the order in which rows are taken, which must not depend on what they are.

    Returns:
        A bound on it, at most 1.
    """
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(true))
    before = row_losses(probabilities, true)
    saved = 0.0
    known = order[:0]
    for block in np.array_split(order, _BLOCKS):
        fitted = fit_scaling(numbers[known], form, true[known], with_offset=with_offset)
        after = row_losses(fitted.apply(numbers[block], form), true[block])
        saved += float((before[block] - after).sum())
        known = np.concatenate([known, block])
    return min(1.0, math.exp(-min(saved, 700.0)))


def decision_p_value(
    true: Array, before: Array, after: Array, objective: Objective, labels: tuple[str, ...]
) -> float:
    """How likely a gain like this is, were the new line no better than the old one.

    Args:
        true: `(rows,)` 0 or 1.
        before: `(rows,)` 0 or 1: what was said.
        after: `(rows,)` 0 or 1: what is said now, by lines that were drawn on other rows.
        objective: what better means.
        labels: of the two classes.

    Returns:
        Exact where all changes go in one direction, as those of one line do.
    """
    import numpy as np
    from scipy.stats import binom

    worth = _worth(count_cells(true, before), objective, labels)
    gained, chances = 0.0, []
    for said in (0, 1):
        # Rows that are now of class `said`: right where they are of it, wrong where of the other.
        moved = (after == said) & (before != said)
        right, wrong = int((moved & (true == said)).sum()), int((moved & (true != said)).sum())
        if worth[1 - said] == 0:
            # Errors of this kind cost nothing: each that turned right might as well have turned wrong.
            wrong, share = 0, 0.5
        elif worth[said] == 0:
            right, share = 0, 0.5
        else:
            share = worth[1 - said] / (worth[0] + worth[1])
        gained += right * worth[said] - wrong * worth[1 - said]
        count = right + wrong
        # What `count` changes are worth, by how many turn right, and how likely that many are.
        good = np.arange(count + 1)
        up = worth[said] if worth[said] > 0 else worth[1 - said]
        down = worth[1 - said] if worth[1 - said] > 0 else worth[said]
        chances.append((good * up - (count - good) * down, binom.pmf(good, count, share)))
    (value_a, chance_a), (value_b, chance_b) = chances
    total = value_a[:, None] + value_b[None, :]
    slack = 1e-9 * max(1e-12, float(np.abs(total).max()))
    tail = (chance_a[:, None] * chance_b[None, :])[total >= gained - slack].sum()
    return float(min(1.0, tail))


def _worth(cells: Array, objective: Objective, labels: tuple[str, ...]) -> tuple[float, float]:
    """What it is worth, class by class, that one more row of it is right: the slope at `cells`."""
    import numpy as np

    step, found = 0.5, []
    for k in (0, 1):
        move = np.zeros((2, 2))
        move[k, k], move[k, 1 - k] = step, -step
        ends = objective.measure(np.stack([cells + move, cells - move]), labels)
        found.append(max(0.0, float(ends[0] - ends[1])))
    top = max(found) or 1.0
    # Rounding is no worth.
    return tuple(value if value > 1e-9 * top else 0.0 for value in found)  # type: ignore[return-value]
