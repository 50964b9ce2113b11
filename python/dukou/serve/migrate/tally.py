"""What was counted while an old server was stood in front of, as a report: JSON, and sentences for people."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any, Protocol

# Differences that are kept as examples; of every kind there is at most one.
_EXAMPLES = 20
_TIMES = 20_000


class Request(Protocol):
    """What is told of a request."""

    @property
    def name(self) -> str:
        """What was asked: `POST /v1/models/m:predict`."""

    def show(self) -> str:
        """Its content, for people: not more than a thousand letters."""


class Times:
    """How long answers took: the last 20,000 of them."""

    def __init__(self) -> None:
        self.count = 0
        self._last: deque[float] = deque(maxlen=_TIMES)

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self._last.append(seconds)

    def report(self) -> dict[str, Any]:
        """Count and quantiles, in milliseconds."""
        ordered = sorted(self._last)
        found: dict[str, Any] = {"count": self.count}
        for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            index = min(len(ordered) - 1, int(share * len(ordered)))
            found[f"{name}_ms"] = round(ordered[index] * 1000, 3) if ordered else None
        return found


class Tally:
    """The counts of one migration.

    Attributes:
        forwarded: side → requests that it answered.
        failed: requests that no side answered.
        taken_over: requests of ours that the old one answered since ours could not be reached.
        equal: compared, and the same.
        different: compared, and not the same.
        unanswered: copies that ours did not answer.
        left_out: why a copy was not made → how often.
        times: side → how long inference took there.
    """

    def __init__(self) -> None:
        self.forwarded: Counter[str] = Counter()
        self.failed = 0
        self.taken_over = 0
        self.equal = 0
        self.different = 0
        self.unanswered = 0
        self.left_out: Counter[str] = Counter()
        self.times = {"old": Times(), "new": Times()}
        self.began = time.time()
        self._examples: dict[tuple[str, str], dict[str, Any]] = {}

    def compared(self, request: Request, difference: str | None) -> None:
        """Two answers were compared; `difference` says how they differ, None where they are equal."""
        if difference is None:
            self.equal += 1
            return
        self.different += 1
        self._example(request, difference)

    def did_not_answer(self, request: Request, what: str) -> None:
        """A copy got no answer."""
        self.unanswered += 1
        self._example(request, what)

    def _example(self, request: Request, what: str) -> None:
        kind = (request.name, _without_numbers(what))
        if kind in self._examples:
            self._examples[kind]["count"] += 1
        elif len(self._examples) < _EXAMPLES:
            self._examples[kind] = {
                "request": request.name,
                "difference": what,
                "count": 1,
                "body": request.show(),
            }

    def report(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            "seconds": round(time.time() - self.began, 3),
            "forwarded": {side: self.forwarded[side] for side in ("old", "new")},
            "failed": self.failed,
            "taken_over": self.taken_over,
            "compared": self.equal + self.different,
            "equal": self.equal,
            "different": self.different,
            "unanswered": self.unanswered,
            "not_copied": dict(self.left_out),
            "times": {side: times.report() for side, times in self.times.items()},
            "differences": list(self._examples.values()),
        }


def _without_numbers(what: str) -> str:
    """A difference's kind: the same sentence with other numbers is the same kind."""
    return "".join("#" if letter.isdigit() else letter for letter in what)


def show_report(report: dict[str, Any]) -> str:
    """The report for people."""
    old, new = report["from"], report["to"]
    side = {"old": f"{report['server']} at {old}", "new": f"dukou at {new}"}[report["side"]]
    forwarded = report["forwarded"]
    lines = [
        f"{report['url']} answers with {side}",
        "",
        f"  forwarded  {forwarded['old']} to {old}, {forwarded['new']} to {new}"
        + (f", {report['failed']} failed" if report["failed"] else "")
        + (f", {report['taken_over']} taken over by the old" if report["taken_over"] else ""),
        f"  compared   {report['compared']}: {report['equal']} equal, {report['different']} different"
        + (f"; {report['unanswered']} unanswered here" if report["unanswered"] else ""),
    ]
    if report["not_copied"]:
        reasons = ", ".join(f"{count} {why}" for why, count in report["not_copied"].items())
        lines.append(f"  not copied {reasons}")
    for name, times in report["times"].items():
        if times["count"]:
            quantiles = ", ".join(f"{q} {times[f'{q}_ms']:g} ms" for q in ("p50", "p95", "p99"))
            lines.append(f"  {name:<10} {quantiles}, of {times['count']}")
    for example in report["differences"]:
        lines += [
            "",
            f"  {example['request']}  ({example['count']} times)",
            f"    {example['difference']}",
            f"    asked: {example['body'][:160]}",
        ]
    return "\n".join(lines)
