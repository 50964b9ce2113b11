"""How a rollout splits the traffic of a deployed model."""

from __future__ import annotations

from dukou.control.rollouts import CHALLENGER_ARM, CHAMPION_ARM
from dukou.deploy.document import Arm, DeployedModel, Shadow
from dukou.registry.entries import CHAMPION
from dukou.registry.rollouts import RolloutEntry
from dukou.rollout.policy import Policy

# Weights are whole numbers: thousandths of a percent.
_WHOLE = 100_000


def follows_champion(model: DeployedModel) -> bool:
    """Whether all of its traffic goes to whatever the champion is: then a rollout may split it.

    A deployment that splits by itself is the word of whoever wrote it.
    """
    return len(model.traffic) == 1 and model.traffic[0].version in (None, CHAMPION)


def split_for_rollout(model: DeployedModel, rollout: RolloutEntry) -> DeployedModel:
    """The model with the traffic of the rollout's step."""
    policy = Policy.from_json(rollout.policy)
    share = round(policy.steps[rollout.step] / 100 * _WHOLE)
    arms = [
        Arm(arm=CHAMPION_ARM, version=str(rollout.champion), weight=_WHOLE - share),
        Arm(arm=CHALLENGER_ARM, version=str(rollout.challenger), weight=share),
    ]
    shadow = None
    if policy.max_disagreement is not None:
        shadow = Shadow(version=str(rollout.challenger), share=policy.shadow_share)
    return model.model_copy(update={"traffic": arms, "shadow": shadow})
