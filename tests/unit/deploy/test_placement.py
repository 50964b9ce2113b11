"""What a deployment asks for and `dukou serve` does not carry out is said, with the command that does."""

from __future__ import annotations

from typing import Any

import pytest

from dukou.cli.main import command_names
from dukou.deploy.document import PROFILES, Deployment
from dukou.deploy.placement import COMMANDS, unplaced


def _deployment(**said: Any) -> Deployment:
    return Deployment.model_validate({"name": "shop", "models": [{"name": "d"}], **said})


def test_one_engine_here_is_carried_out() -> None:
    assert unplaced(_deployment()) is None
    assert unplaced(_deployment(profile="centralized", replicas=1, memory_bytes=5)) is None


@pytest.mark.parametrize("profile", [p for p in PROFILES if p != "centralized"])
def test_every_other_profile_is_named(profile: str) -> None:
    error = unplaced(_deployment(profile=profile))
    assert error is not None
    assert error.code == "deploy.elsewhere"
    assert f'profile = "{profile}"' in error.message
    assert "`shop`" in error.message
    assert "serves it centralized" in error.message
    command = COMMANDS[profile].format(name="shop")  # type: ignore[index]
    assert f"`{command}`" in error.message and f"`{command}`" in error.hint


def test_every_profile_has_a_command_that_there_is() -> None:
    assert set(COMMANDS) == set(PROFILES)
    for profile, command in COMMANDS.items():
        if profile in ("centralized", "distributed", "microservice"):
            assert command.split()[1] in command_names()


def test_replicas_are_named_too() -> None:
    error = unplaced(_deployment(profile="distributed", replicas=3))
    assert error is not None
    assert '`profile = "distributed"`, `replicas = 3`' in error.message
