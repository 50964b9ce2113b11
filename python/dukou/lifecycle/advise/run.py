"""The whole of it: a word and a demand become advice, and advice a section of the project file."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dukou.base.errors import InputError, ResourceError
from dukou.lifecycle.advise.decide import Advice, decide
from dukou.lifecycle.advise.facts import Demand, Facts
from dukou.lifecycle.advise.measure import measure_subject
from dukou.lifecycle.advise.strategies import STRATEGIES
from dukou.lifecycle.advise.subject import open_subject
from dukou.lifecycle.advise.write import diff, edit, project_file, read_text, replace_text
from dukou.lifecycle.project import Project


@dataclass(frozen=True, slots=True)
class Advised:
    """What was measured, and what follows.

    Attributes:
        facts: of the model.
        demand: that was held against them.
        advice: what to do.
        project: whose `[deploy]` it is about; None for a file or a version.
    """

    facts: Facts
    demand: Demand
    advice: Advice
    project: Project | None

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        assessed = {a.profile: a for a in self.advice.assessments}
        return {
            "format": 1,
            "model": self.facts.name,
            "demand": dataclasses.asdict(self.demand),
            "measured": self.facts.to_json(),
            "strategies": [
                {
                    **dataclasses.asdict(strategy),
                    **dataclasses.asdict(assessed[strategy.profile]),
                    "meets": assessed[strategy.profile].meets,
                }
                for strategy in STRATEGIES
            ],
            "recommended": self.advice.chosen.profile,
            "meets": self.advice.meets,
            "hints": list(self.advice.hints),
            "deploy": self.advice.deploy,
        }


def advise(
    word: str,
    demand: Demand,
    *,
    home: Path,
    seconds: float,
    trust_pickle: bool = False,
    must_be_project: bool = False,
    say: Callable[[str], None] = lambda _text: None,
) -> Advised:
    """Measures and decides.

    Args:
        word: a project's folder, a model file, or a reference.
        demand: what is wanted; the memory that a project's `[deploy]` says holds where it says none.
        home: DUKOU_HOME.
        seconds: of each measurement under load.
        trust_pickle: whether pickles may be loaded.
        must_be_project: refuse everything else before anything is measured.
        say: shows a line of progress.

    Raises:
        DukouError: there is no such model, or it cannot be measured.
    """
    with tempfile.TemporaryDirectory(prefix="dukou-advise-") as folder:
        into = Path(folder)
        subject = open_subject(word, home=home, into=into, trust_pickle=trust_pickle, say=say)
        if must_be_project and subject.project is None:
            raise InputError(
                "usage.invalid",
                f"`--write` writes into a project's file, and {subject.source} is of no project",
                hint="name the project's folder, or put the lines that are shown where they belong",
            )
        if demand.memory_bytes is None and subject.project is not None:
            allowed = subject.project.deploy.memory_bytes
            demand = dataclasses.replace(demand, memory_bytes=allowed)
        facts = measure_subject(subject, demand, seconds=seconds, into=into / "forms", say=say)
    return Advised(facts, demand, decide(facts, demand), subject.project)


def plan_write(advised: Advised) -> tuple[str, str]:
    """The project file as it would be, and the difference; an empty one where nothing changes.

    Raises:
        ResourceError: `advise.unmet`: what does not meet the demand is not written.
        InputError: `project.invalid`.
    """
    assert advised.project is not None  # noqa: S101 - the door asks for projects alone
    if not advised.advice.meets:
        failed = [check.words for check in advised.advice.chosen.checks if not check.holds]
        raise ResourceError(
            "advise.unmet",
            f"no strategy that is allowed meets the demand, nothing is written: {'; '.join(failed)}",
            hint=next(iter(advised.advice.hints), None),
        )
    path = project_file(advised.project)
    before = read_text(path)
    after = edit(before, advised.advice.deploy, source=f"`{path}`")
    return after, diff(before, after)


def write(advised: Advised, text: str) -> Path:
    """Puts it there."""
    assert advised.project is not None  # noqa: S101 - as above
    path = project_file(advised.project)
    replace_text(path, text)
    return path
