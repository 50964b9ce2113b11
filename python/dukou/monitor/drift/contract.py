"""What a drift test is: two histograms in, a p-value and an effect out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Finding:
    """What a test says of one feature.

    Attributes:
        p_value: of "both are drawn from one distribution"; 1 where there is too little to say.
        effect: how far apart the two are, whatever the number of rows: the population stability
            index, 0 for the same; 0.1 is usually called small and 0.25 large.
    """

    p_value: float
    effect: float


class DriftTest(Protocol):
    """A two-sample test on counts in common bins."""

    name: str

    def test(self, reference: Sequence[int], window: Sequence[int]) -> Finding:
        """Compares the reference's counts with a window's, bin by bin."""
        ...

    def rows_needed(self, reference: Sequence[int], *, alpha: float, effect: float) -> int:
        """Rows of a window in which an effect of this size is found four times out of five."""
        ...
