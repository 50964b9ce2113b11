"""Deploy: the new version takes the champion's place, at once or by canary; whoever serves it follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.lifecycle.deployment import put_deployment
from dukou.lifecycle.stage import Line
from dukou.lifecycle.tags import policy_of

if TYPE_CHECKING:
    from dukou.registry.registry import Registry
    from dukou.rollout.policy import Policy

# What live requests may disagree more than the held-out rows did.
_MORE_DISAGREEMENT = 0.02


class DeployStage:
    """Moves the alias that `[deploy]` names, or starts the rollout that ends with that.

    A first version has nothing to be compared with: it is deployed at once.
    """

    name = "deploy"
    needs = ("publish",)
    revision = 2
    cached = False

    def depends(self, line: Line) -> Mapping[str, Any]:
        """How it is to be deployed and watched."""
        project = line.project
        return {
            "deploy": project.deploy.model_dump(mode="json"),
            "monitor": project.monitor.model_dump(mode="json"),
            "privacy": project.privacy.model_dump(mode="json"),
        }

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:  # noqa: ARG002 (the registry is the place)
        """Raises StateError: `registry.conflict`, where somebody moved the alias at the same time;
        `rollout.running`, where a rollout to another version is under way.
        """
        from dukou.registry.registry import Registry

        deploy, name = line.project.deploy, line.project.model.name
        number = line.facts("publish")["version"]
        with Registry.open(line.home) as registry:
            put_deployment(
                registry, line.project, policy_of(line) if line.project.monitor.capture else None
            )
            before = next(
                (e.number for e in registry.versions(name) if deploy.alias in e.aliases), None
            )
            if deploy.strategy == "canary" and before not in (None, number):
                return {
                    "alias": deploy.alias,
                    "version": number,
                    "previous": before,
                    **_start(registry, name, number, _policy(line)),
                }
            registry.set_alias(name, deploy.alias, number, expected=before)
        return {"alias": deploy.alias, "version": number, "previous": before, "rollout": None}

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        if facts["rollout"] is not None:
            steps = ", ".join(f"{step:g} %" for step in facts["steps"])
            return (
                f"rollout of version {facts['version']} against version {facts['previous']} started: "
                f"{steps}; `dukou rollout status` shows it"
            )
        if facts["previous"] in (None, facts["version"]):
            return f"`{facts['alias']}` is version {facts['version']}"
        return f"`{facts['alias']}` moved from version {facts['previous']} to {facts['version']}"


def _start(registry: Registry, name: str, number: int, policy: Policy) -> dict[str, Any]:
    running = registry.rollouts.running(name)
    if running is None or running.challenger != number:
        running = registry.rollouts.start(name, number, policy.to_json())
    return {"rollout": running.id, "steps": list(running.policy["steps"])}


def _policy(line: Line) -> Policy:
    """The project's rules; what may differ by what did differ on the held-out rows, if nothing is said."""
    canary = line.project.deploy.canary
    policy = canary.policy()
    improved = line.results.get("improve")
    comparison = improved.facts["evaluation"].get("comparison") if improved else None
    if canary.max_disagreement is not None or not comparison:
        return policy
    from dukou.evaluate.intervals import proportion_interval

    seen = proportion_interval(comparison["disagree"], comparison["rows"]).high
    return dataclasses.replace(policy, max_disagreement=min(0.99, seen + _MORE_DISAGREEMENT))
