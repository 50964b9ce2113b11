"""What a stage of the line is, and what one hands to the next.

A stage says what content its result depends on; the runner hashes that, and where the same was done
before takes the kept result. Stages that change the world (publish, deploy) are never taken from the
cache: they are idempotent instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from dukou.lifecycle.champion import Champion
from dukou.lifecycle.project import Project


@dataclass(frozen=True, slots=True)
class StageResult:
    """What a stage left.

    Attributes:
        name: the stage.
        folder: its files.
        facts: what it found, JSON-able; the report and later stages read it.
        seconds: how long it took; 0 where it was taken from the cache.
        cached: whether it was.
    """

    name: str
    folder: Path
    facts: Mapping[str, Any]
    seconds: float
    cached: bool


@dataclass(slots=True)
class Line:
    """One run of a project: what is known so far.

    Attributes:
        project: the project.
        home: DUKOU_HOME.
        champion: the version that serves now: what a new one is compared with; None where there is
            none, or where nobody asked.
        results: of the stages that have run, by name.
        noted: what a stage found before it stopped the line, by its name, in the form of its facts: the
            report of a run that was stopped shows it.
        say: shows one line of progress to the person who waits.
    """

    project: Project
    home: Path
    champion: Champion | None = None
    results: dict[str, StageResult] = field(default_factory=dict)
    noted: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    say: Callable[[str], None] = lambda _text: None

    def facts(self, stage: str) -> Mapping[str, Any]:
        """What an earlier stage found."""
        return self.results[stage].facts

    def folder(self, stage: str) -> Path:
        """Where an earlier stage left its files."""
        return self.results[stage].folder


class Stage(Protocol):
    """One stop on the line.

    Attributes:
        name: as in `STAGES`.
        needs: the stages whose results it reads.
        revision: raised when the stage's own meaning changes, so that old results are not taken.
        cached: whether a kept result may stand for a run.
    """

    name: str
    needs: tuple[str, ...]
    revision: int
    cached: bool

    def depends(self, line: Line) -> Mapping[str, Any]:
        """All that the result depends on, JSON-able: digests of files, parameters, versions."""
        ...

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:
        """Does the work, leaves files in `into`, gives the facts. The last line it says sums up."""
        ...

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line for the person who waits, from the facts alone."""
        ...
