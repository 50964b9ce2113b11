"""The team's pipeline, for three systems, from one list of steps: they cannot drift apart.

The steps are `dukou` commands that anybody can type; what a step has done the next takes from the
cache, so that each is shown by itself and nothing is done twice. They run on the machine that keeps
DUKOU_HOME: its registry is where a version goes, its servers are what the canary is measured on.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

# What the machine that runs the pipeline is called there.
RUNNER = "dukou"

# `always`; `main`: what changes what is served; `night`: where the system's clock started the run.
When = Literal["always", "main", "night"]


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: as the pipeline shows it.
        command: one shell command, in the project's folder.
        when: in which runs.
    """

    name: str
    command: str
    when: When = "always"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pipeline of a project lies.

    Attributes:
        root: the repository's folder.
        below: the project's folder in it, as POSIX; empty where it is the repository itself.
        file: the pipeline's, relative to the root.
    """

    root: Path
    below: str
    file: str

    @property
    def path(self) -> Path:
        """The pipeline's file."""
        return self.root / self.file


def list_steps(model: str) -> tuple[Step, ...]:
    """The steps from a fresh checkout to a version that has all of the traffic."""
    return (
        Step("environment", "python -m pip install --quiet -r requirements.txt"),
        Step("data", "dukou ship --until data"),
        Step("train", "dukou ship --until train"),
        Step("evaluate", "dukou ship --until gates"),
        Step("package", "dukou ship --until package"),
        Step("canary", "dukou ship", "main"),
        Step("promote", f"dukou rollout wait {model} --timeout 60min --shipped", "main"),
        Step("maintain", "dukou maintain --due", "night"),
    )


_WHAT = "Data or code changes: train, judge, package; on main also canary and promote."


def write_github(steps: tuple[Step, ...], model: str, place: Place) -> str:
    """`.github/workflows/dukou.yml`."""
    conditions = {
        "main": "github.ref == 'refs/heads/main'",
        "night": "github.event_name == 'schedule'",
    }
    lines = [
        f"# {_WHAT}",
        "# Runs on a runner of your own, labelled `dukou`: the machine that keeps DUKOU_HOME and serves, with",
        "# the environment that has dukou first on its PATH.",
        f"name: dukou {model}",
        "on:",
        "  push:",
        "  workflow_dispatch:",
        "  schedule:",
        '    - cron: "17 3 * * *"',
        "permissions:",
        "  contents: read",
        "# One run of a branch after the other: one rollout ends before the next begins.",
        "concurrency: dukou-" + model + "-${{ github.ref }}",
        "jobs:",
        "  model:",
        f"    runs-on: [self-hosted, {RUNNER}]",
        "    timeout-minutes: 120",
    ]
    if place.below:
        lines += ["    defaults:", "      run:", f"        working-directory: {_text(place.below)}"]
    lines += ["    steps:", "      - uses: actions/checkout@v4"]
    for step in steps:
        lines.append(f"      - name: {step.name}")
        if step.when != "always":
            lines.append(f"        if: {conditions[step.when]}")
        lines.append(f"        run: {step.command}")
    return "\n".join(lines) + "\n"


def write_gitlab(steps: tuple[Step, ...], model: str, place: Place) -> str:
    """`.gitlab-ci.yml`."""
    conditions = {
        "main": '$CI_COMMIT_BRANCH == "main"',
        "night": '$CI_PIPELINE_SOURCE == "schedule"',
    }
    jobs = [*_gitlab_jobs(steps)]
    lines = [
        f"# {_WHAT}",
        "# Runs on a runner of your own, tagged `dukou`: the machine that keeps DUKOU_HOME and serves, with the",
        "# environment that has dukou first on its PATH. `maintain` runs in a pipeline schedule: make one.",
        f"stages: [{', '.join(name for name, _ in jobs)}]",
        "",
        "default:",
        f"  tags: [{RUNNER}]",
    ]
    if place.below:
        lines += ["  before_script:", f"    - {_text(f'cd {shlex.quote(place.below)}')}"]
    lines.append("")
    for name, together in jobs:
        lines += [
            f"{name}:",
            f"  stage: {name}",
            f"  resource_group: dukou-{model}",
            "  timeout: 2h",
            "  script:",
            *(f"    - {step.command}" for step in together),
        ]
        if together[0].when != "always":
            lines += ["  rules:", f"    - if: {conditions[together[0].when]}"]
        lines.append("")
    return "\n".join(lines)


def _gitlab_jobs(steps: tuple[Step, ...]) -> Iterator[tuple[str, list[Step]]]:
    """A job a step, but for those of main: another commit's must not come between them."""
    release = [step for step in steps if step.when == "main"]
    for step in steps:
        if step.when != "main":
            yield step.name, [step]
        elif step is release[0]:
            yield "release", release


def write_jenkins(steps: tuple[Step, ...], model: str, place: Place) -> str:
    """`Jenkinsfile`."""
    conditions = {
        # The first in a multibranch pipeline, the second in a plain one.
        "main": "anyOf { branch 'main'; environment name: 'GIT_BRANCH', value: 'origin/main' }",
        "night": "triggeredBy 'TimerTrigger'",
    }
    lines = [
        f"// {model}. {_WHAT}",
        "// Runs on an agent of your own, labelled `dukou`: the machine that keeps DUKOU_HOME and serves, with",
        "// the environment that has dukou first on its PATH.",
        "pipeline {",
        f"  agent {{ label '{RUNNER}' }}",
        "  options { disableConcurrentBuilds(); timeout(time: 2, unit: 'HOURS') }",
        "  triggers { cron('H 3 * * *') }",
        "  stages {",
    ]
    for step in steps:
        lines.append(f"    stage('{step.name}') {{")
        if step.when != "always":
            lines.append(f"      when {{ {conditions[step.when]} }}")
        command = f"sh '{step.command}'"
        if place.below:
            command = f"dir('{_groovy(place.below)}') {{ {command} }}"
        lines += [f"      steps {{ {command} }}", "    }"]
    return "\n".join([*lines, "  }", "}"]) + "\n"


def _text(said: str) -> str:
    """A text in YAML, whatever it holds: JSON's quoted form is YAML's."""
    return json.dumps(said, ensure_ascii=False)


def _groovy(said: str) -> str:
    return said.replace("\\", "\\\\").replace("'", "\\'")


# system → its file, the same where the project is one of several in a repository, and what writes it.
SYSTEMS: dict[str, tuple[str, str, Callable[[tuple[Step, ...], str, Place], str]]] = {
    "github": (".github/workflows/dukou.yml", ".github/workflows/dukou-{model}.yml", write_github),
    "gitlab": (".gitlab-ci.yml", ".gitlab-ci.yml", write_gitlab),
    "jenkins": ("Jenkinsfile", "{below}/Jenkinsfile", write_jenkins),
}

_REQUIREMENTS = """\
# What the pipeline needs. Pin it: `python -m pip freeze` says what you have, and
# `dukou maintain --run audit-dependencies` holds what is installed to it.
dukou[sklearn,monitor]
"""
_IGNORED = "__pycache__/\n*.pyc\n.venv/\n"


def find_place(folder: Path, system: str, model: str) -> Place:
    """Where a project's pipeline has to lie: the systems look in the repository's folder alone.

    Args:
        folder: the project's; where it is in no git repository, it is to become one.
        system: as in `SYSTEMS`.
        model: the model's name.
    """
    folder = folder.resolve()
    root = next((p for p in (folder, *folder.parents) if (p / ".git").exists()), folder)
    below = "" if root == folder else folder.relative_to(root).as_posix()
    alone, among_others, _ = SYSTEMS[system]
    file = among_others if below else alone
    return Place(root, below, file.format(model=model, below=below))


def write_pipeline(folder: Path, system: str, model: str) -> list[Path]:
    """Writes the pipeline of a system for a project, with what it needs beside the project.

    Args:
        folder: the project's.
        system: as in `SYSTEMS`.
        model: the model's name.

    Returns:
        The files written; `requirements.txt` and `.gitignore` are left where they are there.
    """
    place = find_place(folder, system, model)
    place.path.parent.mkdir(parents=True, exist_ok=True)
    write = SYSTEMS[system][2]
    place.path.write_text(write(list_steps(model), model, place), encoding="utf-8")
    written = [place.path]
    for name, text in (("requirements.txt", _REQUIREMENTS), (".gitignore", _IGNORED)):
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")
            written.append(folder / name)
    return written
