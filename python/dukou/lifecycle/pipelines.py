"""The team's pipeline, for three systems, from one list of steps: they cannot drift apart.

The steps are `dukou` commands that anybody can type; what a step has done the next takes from the
cache, so that each is shown by itself and nothing is done twice. They run on the machine that keeps
DUKOU_HOME: its registry is where a version goes, its servers are what the canary is measured on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# What the machine that runs the pipeline is called there.
RUNNER = "dukou"


@dataclass(frozen=True, slots=True)
class Step:
    """One step.

    Attributes:
        name: as the pipeline shows it.
        command: one shell command, in the project's folder.
        releases: whether it changes what is served: only on the main branch.
    """

    name: str
    command: str
    releases: bool = False


def list_steps(model: str) -> tuple[Step, ...]:
    """The steps from a fresh checkout to a version that has all of the traffic."""
    return (
        Step("environment", "python -m pip install --quiet -r requirements.txt"),
        Step("data", "dukou ship --until data"),
        Step("train", "dukou ship --until train"),
        Step("evaluate", "dukou ship --until gates"),
        Step("package", "dukou ship --until package"),
        Step("canary", "dukou ship", releases=True),
        Step("promote", f"dukou rollout wait {model} --timeout 60min --if-any", releases=True),
    )


def write_github(steps: tuple[Step, ...]) -> str:
    """`.github/workflows/dukou.yml`."""
    lines = [
        "# Data or code changes: train, judge, package; on main also canary and promote.",
        "# Runs on a runner of your own, labelled `dukou`: the machine that keeps DUKOU_HOME and serves.",
        "name: dukou",
        "on: [push, workflow_dispatch]",
        "concurrency: dukou",
        "jobs:",
        "  model:",
        f"    runs-on: [self-hosted, {RUNNER}]",
        "    timeout-minutes: 120",
        "    steps:",
        "      - uses: actions/checkout@v4",
    ]
    for step in steps:
        lines.append(f"      - name: {step.name}")
        if step.releases:
            lines.append("        if: github.ref == 'refs/heads/main'")
        lines.append(f"        run: {step.command}")
    return "\n".join(lines) + "\n"


def write_gitlab(steps: tuple[Step, ...]) -> str:
    """`.gitlab-ci.yml`."""
    lines = [
        "# Data or code changes: train, judge, package; on main also canary and promote.",
        "# Runs on a runner of your own, tagged `dukou`: the machine that keeps DUKOU_HOME and serves.",
        f"stages: [{', '.join(step.name for step in steps)}]",
        "",
        "default:",
        f"  tags: [{RUNNER}]",
        "",
    ]
    for step in steps:
        lines += [
            f"{step.name}:",
            f"  stage: {step.name}",
            "  resource_group: dukou",
            "  script:",
            f"    - {step.command}",
        ]
        if step.releases:
            lines += ["  rules:", '    - if: $CI_COMMIT_BRANCH == "main"']
        lines.append("")
    return "\n".join(lines)


def write_jenkins(steps: tuple[Step, ...]) -> str:
    """`Jenkinsfile`."""
    lines = [
        "// Data or code changes: train, judge, package; on main also canary and promote.",
        "// Runs on an agent of your own, labelled `dukou`: the machine that keeps DUKOU_HOME and serves.",
        "pipeline {",
        f"  agent {{ label '{RUNNER}' }}",
        "  options { disableConcurrentBuilds(); timeout(time: 2, unit: 'HOURS') }",
        "  stages {",
    ]
    for step in steps:
        lines.append(f"    stage('{step.name}') {{")
        if step.releases:
            lines.append("      when { branch 'main' }")
        lines += [f"      steps {{ sh '{step.command}' }}", "    }"]
    return "\n".join([*lines, "  }", "}"]) + "\n"


# system → its file, and what writes it.
SYSTEMS: dict[str, tuple[str, Callable[[tuple[Step, ...]], str]]] = {
    "github": (".github/workflows/dukou.yml", write_github),
    "gitlab": (".gitlab-ci.yml", write_gitlab),
    "jenkins": ("Jenkinsfile", write_jenkins),
}

_REQUIREMENTS = """\
# What the pipeline needs. Pin it: `python -m pip freeze` says what you have, and
# `dukou maintain --run audit-dependencies` holds what is installed to it.
dukou[sklearn,monitor]
"""
_IGNORED = "__pycache__/\n*.pyc\n.venv/\n"


def write_pipeline(folder: Path, system: str, model: str) -> list[Path]:
    """Writes the pipeline of a system into a project, with what it needs beside it.

    Args:
        folder: the project's.
        system: as in `SYSTEMS`.
        model: the model's name.

    Returns:
        The files written; `requirements.txt` and `.gitignore` are left where they are there.
    """
    file, write = SYSTEMS[system]
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(write(list_steps(model)), encoding="utf-8")
    written = [path]
    for name, text in (("requirements.txt", _REQUIREMENTS), (".gitignore", _IGNORED)):
        if not (folder / name).exists():
            (folder / name).write_text(text, encoding="utf-8")
            written.append(folder / name)
    return written
