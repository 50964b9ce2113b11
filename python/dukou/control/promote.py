"""What a person or a pipeline asks of rollouts: start one, end one, go back, wait."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from dukou.base.errors import InputError, StateError
from dukou.registry.entries import CHAMPION, VersionEntry
from dukou.registry.registry import Registry
from dukou.registry.rollouts import PROMOTED, ROLLED_BACK, RUNNING, RolloutEntry
from dukou.rollout.policy import Policy

_POLL_S = 0.25
_BY_A_PERSON = "asked for by a person"


def start_rollout(registry: Registry, reference: str, policy: Mapping[str, Any]) -> RolloutEntry:
    """Begins a rollout of the version that `reference` names.

    Args:
        registry: the registry.
        reference: `MODEL:NUMBER` or `MODEL@ALIAS`.
        policy: what differs from the default `Policy`.

    Raises:
        InputError: `deploy.invalid` for a policy that makes no rollout, `usage.invalid` for a bare
            model name.
        StateError: `rollout.*`, `registry.unknown-*`.
    """
    version = _named(registry, reference)
    rules = Policy(**policy)
    return registry.rollouts.start(version.model, version.number, rules.to_json())


def promote_now(registry: Registry, reference: str) -> VersionEntry:
    """Makes the version that `reference` names the champion, at once; a rollout to it ends with that.

    Raises:
        InputError, StateError: as `start_rollout`; `rollout.running` where one to another version is
            under way.
    """
    version = _named(registry, reference)
    running = registry.rollouts.running(version.model)
    if running is not None and running.challenger == version.number:
        registry.rollouts.end(running.id, PROMOTED, details={"reason": _BY_A_PERSON})
        return version
    if running is not None:
        raise StateError(
            "rollout.running",
            f"a rollout of `{version.model}` to version {running.challenger} is under way",
        )
    before = _champion(registry, version.model)
    registry.set_alias(version.model, CHAMPION, version.number, expected=before)
    return version


def roll_back(registry: Registry, model: str) -> str:
    """Ends the model's rollout; where none is under way, the champion before is champion again.

    Returns:
        What was done, in a sentence.

    Raises:
        StateError: `registry.unknown-model`; `rollout.nothing-before` where there is no version to go
            back to.
    """
    registry.versions(model)
    running = registry.rollouts.running(model)
    if running is not None:
        registry.rollouts.end(running.id, ROLLED_BACK, details={"reason": _BY_A_PERSON})
        return (
            f"the rollout to version {running.challenger} is ended; "
            f"`{model}@{CHAMPION}` stays version {running.champion}"
        )
    now = _champion(registry, model)
    before = _previous(registry, model)
    if now is None or before is None:
        raise StateError(
            "rollout.nothing-before",
            f"`{model}@{CHAMPION}` is version {now}, and was no other before"
            if now is not None
            else f"`{model}` has no champion",
        )
    registry.set_alias(model, CHAMPION, before, expected=now)
    return f"`{model}@{CHAMPION}` is version {before} again; it was version {now}"


def newest_rollout(registry: Registry, model: str) -> RolloutEntry:
    """The model's newest rollout.

    Raises:
        StateError: `registry.unknown-model`, `rollout.unknown`.
    """
    registry.versions(model)
    found = registry.rollouts.list(model, limit=1)
    if not found:
        raise StateError("rollout.unknown", f"there was no rollout of `{model}`")
    return found[0]


def wait_for_rollout(registry: Registry, number: int, *, timeout_s: float | None) -> RolloutEntry:
    """Waits until a rollout is over.

    Raises:
        StateError: `rollout.timeout`, with where it stands.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        entry = registry.rollouts.get(number)
        if entry.status != RUNNING:
            return entry
        if deadline is not None and time.monotonic() > deadline:
            said = entry.evidence.get("reason") or "no server has taken it up"
            raise StateError(
                "rollout.timeout",
                f"the rollout of `{entry.model}:{entry.challenger}` is at "
                f"{entry.policy['steps'][entry.step]:g} % after {timeout_s:g} s: {said}",
            )
        time.sleep(_POLL_S)


def _named(registry: Registry, reference: str) -> VersionEntry:
    if ":" not in reference and "@" not in reference:
        raise InputError(
            "usage.invalid",
            f"`{reference}` names a model, and a version is to be promoted",
            hint=f"`{reference}:NUMBER`; `dukou models {reference}` lists them",
        )
    return registry.resolve(reference)


def _champion(registry: Registry, model: str) -> int | None:
    for entry in registry.versions(model):
        if CHAMPION in entry.aliases:
            return entry.number
    return None


def _previous(registry: Registry, model: str) -> int | None:
    """The champion before, by the audit chain; going back twice goes back two versions."""
    after, champions = 0, list[int]()
    while events := registry.audit_events(after, 1000):
        for event in events:
            if event.action != "alias.set" or event.subject != f"{model}@{CHAMPION}":
                continue
            number = event.details.get("to")
            if champions[-2:-1] == [number]:
                champions.pop()
            elif number is not None:
                champions.append(number)
        after = events[-1].sequence
    return champions[-2] if len(champions) > 1 else None
