"""The same content has the same number on every machine; nothing that is a machine's own is content."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.registry_house import move_alias, publish
from tests.serving import House

from dukou.base.errors import ResourceError
from dukou.control.desired import DesiredState
from dukou.control.promote import start_rollout
from dukou.control.revisions import Numbering, subject_of
from dukou.deploy import defaults
from dukou.deploy.door import LOOPBACK
from dukou.registry.registry import Registry
from dukou.registry.revisions import Revisions
from dukou.trust.keys import rotate_signing_key


def told(home: Path, machine: str, **said: Any) -> dict[str, Any]:
    return {
        "format": 1,
        "home": str(home),
        "socket": f"/run/{machine}.sock",
        "state_dir": f"/state/{machine}",
        "listeners": [machine],
        "connections": 64 + len(machine),
        "access_log": f"/log/{machine}.jsonl",
        "security_log": f"/log/{machine}-security.jsonl",
        "door": LOOPBACK.to_json(),
        "override": {},
        "files": [],
        "references": [{"name": "chain", "reference": "chain"}],
        **said,
    }


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.delenv("DUKOU_REGISTRY", raising=False)
    made = House(tmp_path / "home", tmp_path)
    for seed in (1, 2):
        publish(made, tmp_path, seed=seed)
    move_alias(made, 1)
    return made


def test_machines_differ_and_the_number_does_not(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Registry.open(house.home) as registry:
        first = DesiredState(told(house.home, "one"), registry).compile(0)
        monkeypatch.setattr(defaults, "default_instances", lambda: 97)
        second = DesiredState(told(house.home, "another"), registry).compile(0)
    assert first.sequence == second.sequence
    assert first.revision == second.revision == f"r{first.sequence}"
    assert first.models[0].versions[0].backend != second.models[0].versions[0].backend


def test_every_change_of_what_is_served_is_a_later_number(house: House) -> None:
    with Registry.open(house.home) as registry:
        one, other = (DesiredState(told(house.home, name), registry) for name in ("one", "other"))
        numbers = [one.compile(0).sequence]

        def now() -> int:
            number = one.compile(numbers[-1]).sequence
            assert other.compile(0).sequence == number
            return number

        registry.add_event("something", "else", {})
        assert now() == numbers[0]  # nothing of it is served
        move_alias(house, 2)
        numbers.append(now())
        move_alias(house, 1)
        numbers.append(now())
        rotate_signing_key(house.home)  # the old key stays trusted beside the new one
        numbers.append(now())
        start_rollout(registry, "chain:2", {})
        numbers.append(now())
    assert numbers == sorted(set(numbers))


def test_servers_that_see_different_keys_do_not_outbid_each_other(house: House) -> None:
    with Registry.open(house.home) as registry:
        subject = subject_of(told(house.home, "one"))
        one, other = (Numbering(registry, subject) for _ in range(2))

        def ask(numbering: Numbering, content: str, token: int, above: int) -> int:
            number = numbering.number(content, token, above=above, is_current=lambda: True)
            assert number is not None
            return number

        first = ask(one, "mine", 1, 0)
        second = ask(other, "theirs", 1, 0)
        assert second == first + 1
        for _ in range(3):
            assert ask(one, "mine", 1, first) == first
            assert ask(other, "theirs", 1, second) == second
        assert ask(one, "mine, changed", 2, first) > second


def test_a_registry_that_cannot_be_written_is_served(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise ResourceError("store.disk-full", "there is no room")

    with Registry.open(house.home) as registry:
        monkeypatch.setattr(Revisions, "number", full)
        desired = DesiredState(told(house.home, "one"), registry)
        first = desired.compile(0).sequence
        assert first == registry.change_token()
        assert desired.compile(first).sequence == first


def test_another_order_is_another_subject(tmp_path: Path) -> None:
    keys = {**LOOPBACK.to_json(), "access": "keys"}
    files = [{"name": "m", "file": "/m.onnx"}]
    orders = [told(tmp_path, "a"), told(tmp_path, "a", door=keys), told(tmp_path, "a", files=files)]
    assert len({subject_of(order) for order in orders}) == 3
    assert subject_of(told(tmp_path, "b")) == subject_of(orders[0])
