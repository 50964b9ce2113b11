r"""Evidence against a challenger that may be looked at at any time: betting against "it does no harm".

Every test here is a bet. It starts with a capital of 1 and stakes part of it on each block of traffic
(about a second); where the challenger does no harm the capital cannot be expected to grow, however the
traffic comes. By Ville's inequality a capital that is never expected to grow reaches `1/alpha` with
probability at most `alpha`, at *any* time: looking every second costs nothing, and stopping at the first
crossing is allowed (Ville 1939; Waudby-Smith & Ramdas, *Estimating means of bounded random variables by
betting*, JRSS B 2024).

**Two arms** (`PairedTest`: errors, slow answers). A block has `n_c`, `n_t` requests of champion and
challenger and `x_c`, `x_t` events among them. No harm means: in each block, given the past and the two
counts of requests, the challenger's events have at most the mean

    E[x_t] <= n_t (ratio * p + slack),   E[x_c] = n_c p,

with any `p` of that block, the same for both arms: a stall or a bad client hits both. Then

    D = x_t - rho x_c - slack n_t,   rho = ratio * n_t / n_c,

has a mean of at most 0, and so the capital, multiplied by `1 + stake D` with a stake known before the
block's events, has no upward drift. Only means were used: events may come in whole batches, and the
arms' batches may be of different sizes. (Conditioning on the block's total `x_c + x_t`, the classical
way to be rid of `p`, does not survive that. If the champion's 95 % of the traffic fail in batches of five
and the challenger's 5 % one by one, an equal rate of failing gives the challenger five times its share
of the *incidents*, and a bet on shares reads that as harm.)

The factor must not be negative: `stake <= 1 / (rho M + slack n_t)` where `M` bounds the champion's events
of the block. `M = n_c` always holds and is used for the first blocks. After them `M` is what the champion's
past makes plausible: its mean and two standard deviations, widened by how unevenly its events came, and
at least twice what one of its runs holds. In a worse block, where the factor would be negative, the
capital is lost and no more; to that small extent the guarantee leans on such blocks being rare. What it
leans on is bounded from the other side too: no block multiplies a part of the capital by more than
`_MOST_A_BLOCK` (what is not won is a loss for the bet, so that is always allowed). A burst that hits one
arm alone, as often the one as the other, therefore proves nothing by itself: it would have to hit the
challenger several times and the champion never. `tests/unit/rollout` simulates such bursts.

**Harm that comes late.** A bet that has lost its capital proves nothing any more: an hour of
clean traffic, or a second in which the champion failed as never before, would leave a version that
begins to fail later to pass unseen. So a part of the capital is kept back and goes into the bets bit by
bit, ever less of it a block, never all: a bet that begins at block `j` is another such bet, and the
sum of bets with shares that sum to 1 is again one (as in e-detectors: Shin, Ramdas & Rinaldo 2024).

**One arm** (`BudgetTest`: disagreement). `x` of `n` compared rows differ, at most `budget * n` on average.
`1 + share (x / (budget n) - 1)` is never negative for a share below 1: no bound is needed.

How much to stake depends on how large the harm is, which nobody knows. Each test splits its capital among
several stakes; their sum is again such a capital. In the paired test most of it goes on the stake by
which the capital would grow fastest if the champion's rate so far were right and the challenger's 2.5
times that; the rest goes on fixed shares of the largest stake.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

# Shares of the largest stake, beside the one that is made for `_HARM`; and the capital that each begins with.
_SHARES = (0.2, 0.8)
PAIRED_WEIGHTS = (0.7, 0.15, 0.15)
_HARM = 2.5
_SMALLEST_SHARE, _LARGEST_SHARE = 0.05, 0.95
# Shares of the largest stake, each with an equal part of the capital.
BUDGET_SHARES = (0.05, 0.15, 0.35, 0.7)
BUDGET_WEIGHTS = (0.25,) * 4

# Of the capital, this is kept back at the start; a quarter of it is still there after `15 * _SLOWLY` blocks.
RESERVE = 0.05
_SLOWLY = 20.0
# A part of a paired test's capital grows by no more than this in a block: one second alone proves nothing.
_MOST_A_BLOCK = 3.0

# Blocks before the champion's own past says how many of its events come at once.
_FIRST_BLOCKS = 3
_FEWEST_AT_ONCE = 3.0
_DEVIATIONS = 2.0
# Of the past's weight, a block.
_FADES = 0.99
# e to this is still a number.
_LARGEST = 700.0


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Whether the challenger has more events than `ratio` times the champion's share and `slack`.

    Attributes:
        capitals: logarithm of how many times each part of the capital is what it began with; -inf for
            none left.
        blocks: that were counted.
        recent: the champion's (requests, events) in a past that fades.
        spread: (sum, weight) of how uneven its events came in that past: squared deviations from
            their mean, over the mean; 1 where each request fails by itself.
        champion: (requests, events) of the champion so far.
        challenger: (requests, events) of the challenger so far.
        reserve: of the capital, what is in no bet yet.
    """

    capitals: tuple[float, ...] = (math.log(1.0 - RESERVE),) * len(PAIRED_WEIGHTS)
    blocks: int = 0
    recent: tuple[float, float] = (0.0, 0.0)
    spread: tuple[float, float] = (1.0, 1.0)
    champion: tuple[int, int] = (0, 0)
    challenger: tuple[int, int] = (0, 0)
    reserve: float = RESERVE

    def add(
        self,
        champion: tuple[int, int],
        challenger: tuple[int, int],
        *,
        ratio: float,
        slack: float,
        together: float = 1.0,
    ) -> PairedTest:
        """The test after another block.

        Args:
            champion: (requests, events) of the block; at least one request.
            challenger: the same of the challenger; at least one request.
            ratio: of the champion's rate that the challenger may have.
            slack: and so much more, as a share of its requests.
            together: requests that one run of the champion has held at most: they fail together.
        """
        (n_c, x_c), (n_t, x_t) = champion, challenger
        bound = self._bound(n_c, together)
        rho = ratio * n_t / n_c
        largest = 1.0 / (rho * bound + slack * n_t)
        gain = x_t - rho * x_c - slack * n_t
        made = self._stake(n_c, n_t, ratio, slack) / largest
        shares = (min(_LARGEST_SHARE, max(_SMALLEST_SHARE, made)), *_SHARES)
        fresh, reserve = _take(self.reserve, self.blocks)
        capitals = tuple(
            _staked(capital, fresh, min(1.0 + share * largest * gain, _MOST_A_BLOCK))
            for capital, share in zip(self.capitals, shares, strict=True)
        )
        return PairedTest(
            capitals=capitals,
            blocks=self.blocks + 1,
            recent=(_FADES * self.recent[0] + n_c, _FADES * self.recent[1] + x_c),
            spread=self._spread_with(n_c, x_c),
            champion=(self.champion[0] + n_c, self.champion[1] + x_c),
            challenger=(self.challenger[0] + n_t, self.challenger[1] + x_t),
            reserve=reserve,
        )

    def _stake(self, n_c: int, n_t: int, ratio: float, slack: float) -> float:
        """By which the capital would grow fastest, were the challenger's rate `_HARM` times the other."""
        if not self.blocks:
            return 0.0
        rate = (self.recent[1] + 0.5) / self.recent[0]
        rho = ratio * n_t / n_c
        mean = n_t * (rate * (_HARM - ratio) - slack)
        unevenness = max(1.0, self.spread[0] / self.spread[1])
        variance = unevenness * rate * (n_t * _HARM + rho * rho * n_c)
        return mean / (variance + mean * mean)

    def _bound(self, n_c: int, together: float) -> float:
        if self.blocks < _FIRST_BLOCKS:
            return float(n_c)
        mean = self._mean_of(n_c)
        unevenness = max(1.0, together, self.spread[0] / self.spread[1])
        usual = mean + _DEVIATIONS * math.sqrt(mean * unevenness)
        return min(float(n_c), max(_FEWEST_AT_ONCE, 2.0 * together, usual))

    def _mean_of(self, n_c: int) -> float:
        # One event more than was seen: none so far does not mean that there never will be one.
        return n_c * (self.recent[1] + 1.0) / self.recent[0]

    def _spread_with(self, n_c: int, x_c: int) -> tuple[float, float]:
        if not self.blocks:
            return self.spread
        mean = self._mean_of(n_c)
        total, weight = self.spread
        return _FADES * total + (x_c - mean) ** 2 / mean, _FADES * weight + 1.0

    @property
    def value(self) -> float:
        """The e-value: the whole capital."""
        return self.reserve + _total(self.capitals, PAIRED_WEIGHTS)

    def to_json(self) -> dict[str, Any]:
        """As kept in the registry."""
        return {
            "capitals": [_finite(capital) for capital in self.capitals],
            "blocks": self.blocks,
            "recent": list(self.recent),
            "spread": list(self.spread),
            "champion": list(self.champion),
            "challenger": list(self.challenger),
            "reserve": self.reserve,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> PairedTest:
        """The inverse of `to_json`."""
        return cls(
            capitals=tuple(_infinite(capital) for capital in document["capitals"]),
            blocks=int(document["blocks"]),
            recent=(float(document["recent"][0]), float(document["recent"][1])),
            spread=(float(document["spread"][0]), float(document["spread"][1])),
            champion=(int(document["champion"][0]), int(document["champion"][1])),
            challenger=(int(document["challenger"][0]), int(document["challenger"][1])),
            # A rollout that began when nothing was kept back goes on without.
            reserve=float(document.get("reserve", 0.0)),
        )


@dataclass(frozen=True, slots=True)
class BudgetTest:
    """Whether more than a budgeted share of rows is different.

    Attributes:
        capitals: logarithm of the capital of each share in `BUDGET_SHARES`.
        rows: that were compared so far.
        events: those that differ.
        blocks: that were counted.
        reserve: of the capital, what is in no bet yet.
    """

    capitals: tuple[float, ...] = (math.log(1.0 - RESERVE),) * len(BUDGET_SHARES)
    rows: int = 0
    events: int = 0
    blocks: int = 0
    reserve: float = RESERVE

    def add(self, rows: int, events: int, *, budget: float) -> BudgetTest:
        """The test after another block of at least one row; `budget` is above 0."""
        gain = events / (budget * rows) - 1.0
        fresh, reserve = _take(self.reserve, self.blocks)
        capitals = tuple(
            _staked(capital, fresh, 1.0 + share * gain)
            for capital, share in zip(self.capitals, BUDGET_SHARES, strict=True)
        )
        return replace(
            self,
            capitals=capitals,
            rows=self.rows + rows,
            events=self.events + events,
            blocks=self.blocks + 1,
            reserve=reserve,
        )

    @property
    def value(self) -> float:
        """The e-value: the whole capital."""
        return self.reserve + _total(self.capitals, BUDGET_WEIGHTS)

    def to_json(self) -> dict[str, Any]:
        """As kept in the registry."""
        capitals = [_finite(capital) for capital in self.capitals]
        return {
            "capitals": capitals,
            "rows": self.rows,
            "events": self.events,
            "blocks": self.blocks,
            "reserve": self.reserve,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> BudgetTest:
        """The inverse of `to_json`."""
        capitals = tuple(_infinite(capital) for capital in document["capitals"])
        return cls(
            capitals,
            int(document["rows"]),
            int(document["events"]),
            int(document.get("blocks", 0)),
            float(document.get("reserve", 0.0)),
        )


def _take(reserve: float, blocks: int) -> tuple[float, float]:
    """What goes from the reserve into the bets now, and what stays: it falls as one over a square root."""
    stays = reserve * math.sqrt((_SLOWLY + blocks) / (_SLOWLY + blocks + 1.0))
    return reserve - stays, stays


def _staked(capital: float, fresh: float, factor: float) -> float:
    """The logarithm of a part's capital after a block; what is fresh takes part in it."""
    if factor <= 0.0:
        return -math.inf
    if fresh > 0.0:
        added = math.log(fresh)
        high, low = max(capital, added), min(capital, added)
        capital = high + math.log1p(math.exp(low - high))
    return capital + math.log(factor)


def _total(capitals: Sequence[float], weights: Sequence[float]) -> float:
    largest = max(capitals)
    if largest == -math.inf:
        return 0.0
    parts = (w * math.exp(c - largest) for c, w in zip(capitals, weights, strict=True))
    return math.exp(min(largest + math.log(sum(parts)), _LARGEST))


def _finite(capital: float) -> float | None:
    # JSON has no infinity.
    return None if capital == -math.inf else capital


def _infinite(capital: float | None) -> float:
    return -math.inf if capital is None else float(capital)
