"""Deploy: the alias moves to the new version; whoever serves the model follows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dukou.lifecycle.stage import Line


class DeployStage:
    """Moves the alias that `[deploy]` names, if nobody else moved it meanwhile."""

    name = "deploy"
    needs = ("publish",)
    revision = 1
    cached = False

    def depends(self, line: Line) -> Mapping[str, Any]:
        """The alias."""
        return {"alias": line.project.deploy.alias}

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:  # noqa: ARG002 (the registry is the place)
        """Raises StateError `registry.conflict`, where somebody moved the alias at the same time."""
        from dukou.registry.registry import Registry

        name, alias = line.project.model.name, line.project.deploy.alias
        number = line.facts("publish")["version"]
        with Registry.open(line.home) as registry:
            before = next((e.number for e in registry.versions(name) if alias in e.aliases), None)
            registry.set_alias(name, alias, number, expected=before)
        return {"alias": alias, "version": number, "previous": before}

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        if facts["previous"] in (None, facts["version"]):
            return f"`{facts['alias']}` is version {facts['version']}"
        return f"`{facts['alias']}` moved from version {facts['previous']} to {facts['version']}"
