"""Package: the chosen variant becomes an immutable, signed version in the store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dukou.lifecycle.keep import load_model
from dukou.lifecycle.stage import Line
from dukou.lifecycle.stages.data import TRAIN
from dukou.lifecycle.stages.evaluate import load_held_out
from dukou.lifecycle.tags import (
    make_columns_private,
    make_limits_private,
    policy_of,
    secret_of,
)

if TYPE_CHECKING:
    from dukou.model.model import Model
    from dukou.trust.keyring import Keyring


class PackageStage:
    """Writes into `HOME/store`. Never taken from the cache: a store may have lost what a cache remembers."""

    name = "package"
    needs = ("data", "convert", "improve", "gates", "optimize")
    revision = 3
    cached = False

    def depends(self, line: Line) -> Mapping[str, Any]:  # noqa: ARG002 (the contract's)
        """Nothing but what it needs."""
        return {}

    def run(self, line: Line, into: Path) -> Mapping[str, Any]:  # noqa: ARG002 (the store is the place)
        """Raises ResourceError `store.disk-full` and leaves the store as it was, TrustError `trust.*`."""
        from dukou.package.encryption import is_encrypted
        from dukou.package.package import package_model
        from dukou.package.store import Store
        from dukou.trust.keys import load_or_create_signing_key

        signer = load_or_create_signing_key(line.home)
        model = load_model(line.folder("optimize") / "chosen")
        policy = policy_of(line)
        evaluation = {
            "metrics": line.facts("improve")["evaluation"]["metrics"],
            "gates": [gate["gate"] for gate in line.facts("gates")["gates"]],
        }
        packaged = package_model(
            model,
            Store(line.home / "store"),
            name=line.project.model.name,
            signer=signer,
            evaluation=evaluation,
            profile=_profile(line, model),
            limitations=make_limits_private(
                policy, line.facts("improve")["evaluation"]["limitations"]
            ),
            privacy=policy.to_json() if policy.says_anything else None,
            keyring=_keyring(line),
        )
        return {
            "digest": packaged.digest,
            "size_bytes": packaged.size_bytes,
            "new_bytes": packaged.new_bytes,
            "key": packaged.signed_by,
            "variant": model.variant,
            "encrypted": is_encrypted(packaged.manifest),
        }

    def summary(self, facts: Mapping[str, Any]) -> str:
        """One line."""
        return (
            f"{facts['digest'][:19]}…, {facts['size_bytes']:,} bytes ({facts['new_bytes']:,} new), "
            f"signed by {facts['key'][:12]}…" + (", encrypted" if facts["encrypted"] else "")
        )


def _keyring(line: Line) -> Keyring | None:
    """What `[package] encrypt` says; where it says nothing, a version is encrypted where there is a key.

    Raises:
        TrustError: `trust.no-encryption-key`: it is to be encrypted, and there is no key.
    """
    from dukou.trust.keyring import load_keyring, require_keyring

    match line.project.package.encrypt:
        case True:
            return require_keyring(line.home)
        case False:
            return None
        case None:
            return load_keyring(line.home)


def _profile(line: Line, model: Model) -> dict[str, Any]:
    """What the training rows (or `data.reference`) looked like, and what the model says of the held-out ones."""
    from dukou.evaluate.data import load_table
    from dukou.evaluate.predict import predict_classes, predict_numbers
    from dukou.monitor.profile import make_profile

    target = line.project.data.target
    said = line.project.data.reference
    rows = line.project.path(said) if said else line.folder("data") / TRAIN
    learned = load_table(rows).split_target(target)
    held_out = load_held_out(line).features
    predicted: Any
    if line.project.model.task == "regression":
        predicted = predict_numbers(model, held_out)
    else:
        predicted = predict_classes(model, held_out).names().tolist()
    policy = policy_of(line)
    features, gone = make_columns_private(policy, learned.features, secret_of(line, policy))
    return make_profile(model.signature, features, predicted, without=gone)
