"""Which privacy policy holds for a deployed model: the deployment's own, else what the version carries."""

from __future__ import annotations

from dukou.deploy.document import DeployedModel
from dukou.package.store import Store
from dukou.package.unpack import read_config
from dukou.registry.registry import Registry
from dukou.trust.privacy.policy import PrivacyPolicy


def policy_for(model: DeployedModel, registry: Registry, store: Store) -> PrivacyPolicy | None:
    """The policy; None where nobody has said what may be kept: then nothing is.

    Raises:
        DukouError: `registry.unknown-*`, `package.*`; `privacy.invalid` for a version whose tags a newer
            dukou made.
    """
    if model.privacy is not None:
        policy = model.privacy.policy()
    else:
        heaviest = max(model.traffic, key=lambda arm: arm.weight).version
        reference = model.line
        if heaviest is not None:
            reference += f":{heaviest}" if heaviest.isdigit() else f"@{heaviest}"
        policy = PrivacyPolicy.from_json(
            read_config(store, registry.resolve(reference).digest).privacy
        )
    return policy if policy.says_anything else None
