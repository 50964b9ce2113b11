"""What a rollout may do, and what counts as harm."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NoReturn

from dukou.base.errors import InputError

OnDeadline = Literal["rollback", "promote", "hold"]
_CHOICES = ("rollback", "promote", "hold")


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of a rollout.

    Attributes:
        steps: the challenger's share of the traffic, in percent, step by step; the last is 100.
        min_seconds: a step lasts at least so many seconds with traffic in both arms.
        min_requests: and until the challenger has answered so many requests in it.
        error_ratio: the challenger's error rate may be so many times the champion's,
        error_slack: and so much more: a champion without a single error makes no first error a harm.
        slow_ratio: so many times the champion's may its rate of answers over the SLO be,
        slow_slack: and so much more.
        slo_ms: what is too slow; None takes twice the champion's own 95th percentile, seen at the
            start, and at least 10 ms.
        max_disagreement: the share of rows on which the two may differ; None judges none.
        shadow_share: the share of the champion's requests that the challenger answers too, unseen,
            so that they can be compared.
        alpha: the chance that a challenger as good as the champion is rolled back, over the whole
            rollout and all of its tests.
        deadline_s: how long it may take; None for ever.
        on_deadline: what is done then.
    """

    steps: tuple[float, ...] = (10.0, 25.0, 50.0, 100.0)
    min_seconds: int = 30
    min_requests: int = 200
    error_ratio: float = 1.0
    error_slack: float = 0.0005
    slow_ratio: float = 1.5
    slow_slack: float = 0.01
    slo_ms: float | None = None
    max_disagreement: float | None = 0.02
    shadow_share: float = 0.2
    alpha: float = 0.01
    deadline_s: float | None = 86_400.0
    on_deadline: OnDeadline = "rollback"

    def __post_init__(self) -> None:
        """Refuses what makes no rollout.

        Raises:
            InputError: `deploy.invalid`, naming the key.
        """
        steps = self.steps
        # Comparisons are written so that what is no number fails them.
        if not steps or steps[-1] != 100 or not steps[0] > 0:
            _refuse("steps", list(steps), "percentages above 0 that end with 100, as 5,25,50,100")
        if not all(later > sooner for sooner, later in itertools.pairwise(steps)):
            _refuse("steps", list(steps), "percentages that grow, as 5,25,50,100")
        for name, least in (("min_seconds", 1), ("min_requests", 1)):
            if getattr(self, name) < least:
                _refuse(name, getattr(self, name), f"{least} or more")
        for name in ("error_ratio", "slow_ratio"):
            if not 1 <= getattr(self, name) < math.inf:
                _refuse(name, getattr(self, name), "1 or more")
        for name in ("error_slack", "slow_slack"):
            if not 0 <= getattr(self, name) < 1:
                _refuse(name, getattr(self, name), "at least 0 and below 1")
        for name in ("slo_ms", "deadline_s"):
            if getattr(self, name) is not None and not 0 < getattr(self, name) < math.inf:
                _refuse(name, getattr(self, name), "above 0")
        if self.max_disagreement is not None and not 0 < self.max_disagreement < 1:
            _refuse("max_disagreement", self.max_disagreement, "between 0 and 1")
        if not 0 < self.shadow_share <= 1:
            _refuse("shadow_share", self.shadow_share, "above 0 and at most 1")
        if not 0 < self.alpha <= 0.2:
            _refuse("alpha", self.alpha, "above 0 and at most 0.2")
        if self.on_deadline not in _CHOICES:
            _refuse("on_deadline", self.on_deadline, " or ".join(_CHOICES))

    def alphas(self) -> dict[str, float]:
        """How `alpha` is shared among the tests: errors get the half."""
        if self.max_disagreement is None:
            return {"errors": self.alpha * 0.6, "slow": self.alpha * 0.4}
        return {
            "errors": self.alpha * 0.5,
            "slow": self.alpha * 0.2,
            "disagreement": self.alpha * 0.3,
        }

    def to_json(self) -> dict[str, Any]:
        """For the registry; `from_json` reads it back equal."""
        return {**asdict(self), "steps": list(self.steps)}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Policy:
        """The inverse of `to_json`."""
        return cls(**{**document, "steps": tuple(document["steps"])})


def parse_steps(text: str) -> tuple[float, ...]:
    """`5,25,100` → percentages.

    Raises:
        InputError: `deploy.invalid`.
    """
    try:
        return tuple(float(part.strip().removesuffix("%")) for part in text.split(","))
    except ValueError:
        _refuse("steps", text, "percentages with commas between, as 5,25,50,100")


def parse_share(text: str) -> float | None:
    """`0.02` or `2%` → 0.02; `none` → None.

    Raises:
        InputError: `deploy.invalid`.
    """
    if text == "none":
        return None
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return float(text)
    except ValueError:
        _refuse("max_disagreement", text, "a share as 0.02 or 2%, or none")


def _refuse(name: str, came: object, wanted: str) -> NoReturn:
    raise InputError("deploy.invalid", f"`canary.{name}` is `{came}`, must be {wanted}")
