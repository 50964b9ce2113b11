"""Logs, read for whoever has no time to: the errors that come most, the slowest requests, messages of a
new kind, and one line of advice.

The access log is JSON lines (docs/metrics.md), the others text. Files are read once, line by line.
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

_SLOWEST = 10
_TOP = 10
_EXAMPLE = 200

# What differs between two messages of one kind, the wider first.
_MASKS = (
    (re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`"), "`…`"),
    (re.compile(r"(?:/[\w.@+-]+){2,}/?"), "/…"),
    (re.compile(r"\b(?:sha256:)?[0-9a-f]{8,}\b"), "#"),
    (re.compile(r"\d[\d.:,TZ_+-]*"), "#"),
)


@dataclass(slots=True)
class Errors:
    """One code.

    Attributes:
        count: how often.
        first: time of the first.
        last: time of the last.
        example: id of the last request that met it.
    """

    count: int = 0
    first: str = ""
    last: str = ""
    example: str = ""


@dataclass(slots=True)
class Kind:
    """Messages of one kind.

    Attributes:
        count: how many since the window's start.
        example: the first of them.
    """

    count: int = 0
    example: str = ""


@dataclass(slots=True)
class Summary:
    """What the logs say.

    Attributes:
        requests: answered in the window.
        errors: by code, the most frequent first.
        slowest: lines of the access log, the slowest first.
        new: kinds of message that were not there before the window, by template.
        broken: lines that cannot be read.
        queue_us: of all requests together.
        compute_us: of all requests together.
        model: whose requests were asked for; None for all.
        others: other models that requests were for.
    """

    requests: int = 0
    errors: dict[str, Errors] = field(default_factory=dict)
    slowest: list[dict[str, Any]] = field(default_factory=list)
    new: dict[str, Kind] = field(default_factory=dict)
    broken: int = 0
    queue_us: int = 0
    compute_us: int = 0
    model: str | None = None
    others: set[str] = field(default_factory=set)

    @property
    def advice(self) -> str:
        """One line."""
        return advise(self)

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "requests": self.requests,
            "errors": [
                {
                    "code": code,
                    "count": found.count,
                    "first": found.first,
                    "last": found.last,
                    "example": found.example,
                }
                for code, found in self.errors.items()
            ],
            "slowest": self.slowest,
            "new": [
                {"template": template, "count": kind.count, "example": kind.example}
                for template, kind in self.new.items()
            ],
            "broken_lines": self.broken,
            "advice": self.advice,
        }


def summarize(
    access: Iterable[Path], texts: Iterable[Path], *, since: datetime | None, model: str | None
) -> Summary:
    """Reads logs.

    Args:
        access: access logs, the oldest first; those that are not there are passed over.
        texts: other logs.
        since: the window's start; everything where None.
        model: only requests of this model.
    """
    summary = Summary(model=model)
    start = "" if since is None else since.strftime("%Y-%m-%dT%H:%M:%S")
    heap: list[tuple[int, int, dict[str, Any]]] = []
    for number, line in enumerate(_lines(access)):
        try:
            entry = json.loads(line)
            moment, code = str(entry["time"]), str(entry["code"])
            took = int(entry["request_us"])
        except (ValueError, LookupError, TypeError):
            summary.broken += 1
            continue
        if moment < start:
            continue
        if model is not None and entry.get("model") != model:
            if entry.get("model"):
                summary.others.add(str(entry["model"]))
            continue
        summary.requests += 1
        summary.queue_us += int(entry.get("queue_us", 0))
        summary.compute_us += int(entry.get("compute_us", 0))
        if code != "ok":
            found = summary.errors.setdefault(code, Errors(first=moment))
            found.count, found.last, found.example = found.count + 1, moment, str(entry.get("id"))
        if len(heap) < _SLOWEST:
            heapq.heappush(heap, (took, number, entry))
        elif took > heap[0][0]:
            heapq.heapreplace(heap, (took, number, entry))
    summary.slowest = [entry for _, _, entry in sorted(heap, reverse=True)]
    most = sorted(summary.errors.items(), key=lambda item: -item[1].count)
    summary.errors = dict(most[:_TOP])
    summary.new = _new_kinds(_lines(texts), start)
    return summary


def template_of(message: str) -> str:
    """The message without what differs between two of its kind."""
    for pattern, instead in _MASKS:
        message = pattern.sub(instead, message)
    return message.strip()


def _new_kinds(lines: Iterable[str], start: str) -> dict[str, Kind]:
    known: set[str] = set()
    found: dict[str, Kind] = {}
    before = True
    for line in lines:
        stamp = re.match(r"\d{4}-\d\d-\d\dT[\d:]{8}", line)
        if stamp is not None:
            before = stamp[0] < start
        # A line without a time belongs to the one before it.
        message = line[stamp.end() :].lstrip(".0123456789Z ") if stamp else line
        if not message.strip():
            continue
        template = template_of(message)
        if before and start:
            known.add(template)
        elif template not in known:
            kind = found.setdefault(template, Kind(example=message.strip()[:_EXAMPLE]))
            kind.count += 1
    most = sorted(found.items(), key=lambda item: -item[1].count)
    return dict(most[:_TOP])


def _lines(files: Iterable[Path]) -> Iterable[str]:
    for file in files:
        try:
            with file.open(encoding="utf-8", errors="replace") as source:
                yield from source
        except FileNotFoundError:
            continue


# The first rule that holds is the advice: (code's beginning, share of requests from, what to do).
_RULES = (
    (
        "limits.queue-full",
        0.0,
        "more comes than is answered: raise `run.instances`, or add a replica",
    ),
    (
        "limits.deadline",
        0.0,
        "answers come too late: raise `run.instances`, or `limits.deadline_ms` if callers can wait",
    ),
    ("request.wrong-shape", 0.005, "callers send another shape: show them `/v2/models/NAME`"),
    ("request.unknown", 0.005, "callers ask for what is not served: `dukou status` lists what is"),
    ("wire.", 0.005, "callers do not speak the protocol: `dukou help {code}` says how it reads"),
    (
        "request.rejected-by-model",
        0.005,
        "the model refuses or fails: if a version is new, `dukou rollback NAME` goes to the one before",
    ),
    ("engine.", 0.0, "the engine failed: keep the log, and `dukou doctor` looks for the cause"),
)


def advise(summary: Summary) -> str:
    """One line of advice from what the logs say."""
    if not summary.requests and summary.others:
        others = ", ".join(f"`{name}`" for name in sorted(summary.others)[:5])
        return f"no request of `{summary.model}` in this time, but of {others}"
    if not summary.requests:
        return "no request in this time"
    for prefix, share, what in _RULES:
        for code, found in summary.errors.items():
            if code.startswith(prefix) and found.count >= max(1, share * summary.requests):
                return f"{found.count} of {summary.requests} requests met `{code}`: " + what.format(
                    code=code
                )
    if summary.queue_us > 4 * max(1, summary.compute_us):
        return (
            f"requests wait {summary.queue_us / max(1, summary.compute_us):.0f} times as long as "
            "they are computed: raise `run.instances`, or add a replica"
        )
    if summary.errors:
        code, found = next(iter(summary.errors.items()))
        return f"{found.count} of {summary.requests} requests met `{code}`: `dukou help {code}`"
    return "nothing stands out"
