"""What a deployment asks for beyond one engine on one machine, and the command that carries it out.

A profile is one of the five strategies of deployment. `dukou serve` carries out one of them, centralized;
what it does not do is said, with the command that does, never passed over.
"""

from __future__ import annotations

from dukou.base.errors import StateError
from dukou.deploy.document import Deployment, Profile

# The profile → what a person types for it.
COMMANDS: dict[Profile, str] = {
    "centralized": "dukou serve {name}",
    "distributed": "dukou fleet up {name}",
    "edge": "dukou edge build {name}",
    "container": "dukou image build {name}",
    "microservice": "dukou serve FILE.toml",
}


def unplaced(deployment: Deployment) -> StateError | None:
    """What of this deployment `dukou serve` does not carry out; None where it carries out all of it.

    The models are served all the same, by one engine on this machine, with the deployment's own
    limits: the error is a warning to show, not a reason to stop.
    """
    asked = []
    if deployment.profile != "centralized":
        asked.append(f'profile = "{deployment.profile}"')
    if deployment.replicas != 1:
        asked.append(f"replicas = {deployment.replicas}")
    if not asked:
        return None
    profile = deployment.profile if deployment.profile != "centralized" else "distributed"
    command = COMMANDS[profile].format(name=deployment.name)
    more = " with a model of its own for each service" if profile == "microservice" else ""
    return StateError(
        "deploy.elsewhere",
        f"deployment `{deployment.name}` says `{'`, `'.join(asked)}`: `dukou serve` serves it "
        f"centralized, and `{command}`{more} carries that out",
        hint=f"`{command}`",
    )
