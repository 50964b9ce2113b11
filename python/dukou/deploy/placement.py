"""What a deployment asks for beyond one engine on one machine, which is all that this release places.

A profile is one of the five strategies of deployment. The words are kept in the deployment for whoever
places engines; what is not carried out yet is said, never passed over.
"""

from __future__ import annotations

from dukou.base.errors import StateError
from dukou.deploy.document import Deployment


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
    return StateError(
        "deploy.not-yet",
        f"deployment `{deployment.name}` says `{'`, `'.join(asked)}`, and this release places no "
        "more than one engine, on this machine: it is served centralized",
    )
