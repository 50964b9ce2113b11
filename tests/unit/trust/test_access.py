"""Keys: shown once, kept as hashes, changed under a lock and by rename."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import threading
from pathlib import Path

import pytest

from dukou.base.errors import InputError, StateError
from dukou.trust.access import Grant, KeyStore, Rate

PREDICT = [Grant("predict", ("digits",))]


def test_a_key_is_kept_as_a_hash_alone(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, clock=lambda: 1000.5)
    made = store.add("billing", PREDICT, rate=Rate(10, 60, 5), expires=2000)
    matched = re.fullmatch(r"dk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", made.text)
    assert matched
    assert made.key.id == matched[1]
    assert made.key.secret_sha256 == hashlib.sha256(matched[2].encode()).hexdigest()
    assert store.read() == (made.key,)
    assert (made.key.created, made.key.expires) == (1000, 2000)
    assert matched[2] not in store.path.read_text()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert sorted(path.name for path in store.folder.iterdir()) == [".lock", "keys.json"]


def test_no_two_keys_are_alike(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    texts = {store.add(f"k{number}", PREDICT).text for number in range(20)}
    assert len({text.split("_")[1] for text in texts}) == 20


@pytest.mark.parametrize(
    ("name", "grants", "word"),
    [
        ("taken", PREDICT, "taken"),
        ("new", [Grant("admin", ("*",))], "admin"),
        ("new", [Grant("read-metrics", ("digits",))], "metrics"),
        ("new", [Grant("predict", ("dig*",))], "dig*"),
        ("../x", PREDICT, "../x"),
    ],
)
def test_what_cannot_be_granted(tmp_path: Path, name: str, grants: list[Grant], word: str) -> None:
    store = KeyStore(tmp_path)
    store.add("taken", PREDICT)
    before = store.path.read_bytes()
    with pytest.raises(InputError, match=re.escape(word)):
        store.add(name, grants)
    assert store.path.read_bytes() == before


def test_a_rotated_key_ends_at_once_or_later(tmp_path: Path) -> None:
    now = 1000.0
    store = KeyStore(tmp_path, clock=lambda: now)
    first = store.add("billing", PREDICT, expires=1500)
    second = store.rotate("billing")
    assert store.read() == (second.key,)
    assert second.key.grants == first.key.grants
    now = 1200.0
    third = store.rotate("billing", overlap_s=60)
    assert [(key.id, key.expires) for key in store.read()] == [
        (second.key.id, 1260),
        (third.key.id, 1700),
    ]
    # What would have ended sooner is not made to last longer.
    store.rotate("billing", overlap_s=3600)
    assert store.read()[0].expires == 1260


def test_revoking_by_name_and_by_id(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    made = store.add("billing", PREDICT)
    other = store.rotate("billing", overlap_s=3600)
    assert [key.id for key in store.revoke(other.key.id)] == [other.key.id]
    assert [key.id for key in store.revoke("billing")] == [made.key.id]
    assert store.read() == ()
    assert store.exists(), "an installation that revoked its last key gets no first one again"
    with pytest.raises(InputError) as refused:
        store.revoke("billing")
    assert refused.value.code == "access.unknown-key"


def test_every_change_is_seen(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    stamps = [store.stamp()]
    for change in (
        lambda: store.add("a", PREDICT),
        lambda: store.rotate("a"),
        lambda: store.revoke("a"),
    ):
        change()
        stamps.append(store.stamp())
    assert len(set(stamps)) == 4


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    def add(number: int) -> None:
        KeyStore(tmp_path).add(f"k{number}", PREDICT)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(KeyStore(tmp_path).read()) == 16


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2, "keys": []}', '{"format": 1, "keys": [{"id": "x"}]}']
)
def test_a_document_that_is_none(tmp_path: Path, text: str) -> None:
    store = KeyStore(tmp_path)
    store.add("a", PREDICT)
    store.path.write_text(text)
    for act in (store.read, lambda: store.add("b", PREDICT)):
        with pytest.raises(StateError) as refused:
            act()
        assert refused.value.code == "access.unreadable-keys"
    assert store.path.read_text() == text, "nothing is written over what cannot be read"


def test_the_document_is_what_it_says(tmp_path: Path) -> None:
    store = KeyStore(tmp_path, clock=lambda: 7)
    made = store.add("a", PREDICT)
    assert json.loads(store.path.read_text()) == {
        "format": 1,
        "keys": [
            {
                "id": made.key.id,
                "name": "a",
                "secret_sha256": made.key.secret_sha256,
                "grants": [{"role": "predict", "models": ["digits"]}],
                "rate": None,
                "created": 7,
                "expires": None,
            }
        ],
    }
