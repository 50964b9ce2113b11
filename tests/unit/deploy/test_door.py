"""Who may come in: by the address, what was asked for, and what is made for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dukou.base.errors import InputError
from dukou.deploy.door import Door, check_networks, furnish
from dukou.deploy.table import Listener, Principal
from dukou.serve.choose import choose_door
from dukou.trust.access import Grant, KeyStore, Rate


@pytest.mark.parametrize(
    ("host", "options", "access", "scheme"),
    [
        ("127.0.0.1", {}, "loopback", "http"),
        ("::1", {}, "loopback", "http"),
        ("127.0.0.1", {"insecure": True}, "loopback", "http"),
        ("127.0.0.1", {"secure": True}, "keys", "https"),
        ("0.0.0.0", {}, "keys", "https"),
        ("::", {"secure": True}, "keys", "https"),
        ("0.0.0.0", {"insecure": True}, "open", "http"),
    ],
)
def test_the_address_decides(
    tmp_path: Path, host: str, options: dict[str, bool], access: str, scheme: str
) -> None:
    door, _ = furnish(choose_door(host, **options), tmp_path, host)
    assert (door.access, door.scheme) == (access, scheme)
    assert door.is_guarded is (access != "loopback")
    assert Door.from_json(json.loads(json.dumps(door.to_json()))) == door
    Listener.model_validate(door.listener_document("http"), strict=True)


def test_a_first_key_is_made_once_and_may_do_everything(tmp_path: Path) -> None:
    _, first = furnish(choose_door("0.0.0.0"), tmp_path, "0.0.0.0")
    assert first is not None
    assert {grant.role for grant in first.key.grants} == {"predict", "manage", "read-metrics"}
    assert furnish(choose_door("0.0.0.0"), tmp_path, "0.0.0.0")[1] is None
    KeyStore(tmp_path).revoke("first")
    assert furnish(choose_door("0.0.0.0"), tmp_path, "0.0.0.0")[1] is None


def test_nothing_is_made_for_loopback(tmp_path: Path) -> None:
    furnish(choose_door("127.0.0.1"), tmp_path, "127.0.0.1")
    furnish(choose_door("0.0.0.0", insecure=True), tmp_path, "0.0.0.0")
    assert list(tmp_path.iterdir()) == []


def test_principals_are_those_of_the_table(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    store.add("a", [Grant("predict", ("digits", "fraud"))], rate=Rate(1, 60, 1), expires=5)
    store.add("b", [])
    door = Door(access="keys")
    principals = door.principals(tmp_path)
    for document in principals:
        assert Principal.model_validate(document, strict=True).model_dump(mode="json") == document
    assert Door().principals(tmp_path) == []
    before = door.token(tmp_path)
    store.revoke("b")
    assert door.token(tmp_path) != before
    assert Door().token(tmp_path) is None


@pytest.mark.parametrize(
    "options",
    [
        {"secure": True, "insecure": True},
        {"certificate": Path("/nowhere.pem")},
        {"certificate": Path(__file__), "key": Path("/nowhere.key")},
        {"insecure": True, "certificate": Path(__file__), "key": Path(__file__)},
        {"allow": ["localhost"]},
        {"deny": ["10.0.0.0/33"]},
    ],
)
def test_what_contradicts_itself(options: dict[str, object]) -> None:
    with pytest.raises(InputError) as refused:
        choose_door("0.0.0.0", **options)  # type: ignore[arg-type]
    assert refused.value.code == "usage.invalid"


def test_networks_are_written_one_way() -> None:
    assert check_networks("--allow", ["10.1.2.3/8", "::1", "10.0.0.0/8", "10.1.2.3/8"]) == (
        "10.0.0.0/8",
        "::1/128",
    )
