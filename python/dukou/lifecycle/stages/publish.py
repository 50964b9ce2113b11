"""Publish: the version gets its number in the registry, with what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dukou.lifecycle.stage import Line


class PublishStage:
    """One transaction, with its audit event. The same artifact keeps its number."""

    name = "publish"
    needs = ("package",)
    revision = 1
    cached = False

    def depends(self, line: Line) -> Mapping[str, Any]:  # noqa: ARG002 (the contract's)
        """Nothing but what it needs."""
        return {}

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:  # noqa: ARG002 (the registry is the place)
        """Raises StateError `registry.*`."""
        from dukou.registry.registry import Registry

        packaged = line.facts("package")
        evaluation = line.facts("improve")["evaluation"]
        metrics = {name: m["value"] for name, m in evaluation["metrics"].items()}
        with Registry.open(line.home) as registry:
            number = registry.register_version(
                line.project.model.name,
                packaged["digest"],
                variant=packaged["variant"],
                metrics=metrics,
            )
        return {"version": number, "digest": packaged["digest"]}

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        return f"version {facts['version']}"
