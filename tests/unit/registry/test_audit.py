"""Every change leaves an event, and no event can be changed, moved or taken away unnoticed."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

import pytest

from dukou.base.errors import StateError
from dukou.registry.registry import Registry


@pytest.fixture
def home(tmp_path: Path) -> Path:
    with Registry.open(tmp_path, actor="ada@loom") as registry:
        for number in range(1, 4):
            registry.register_version("digits", f"sha256:{number:064x}", metrics={"a": 0.1})
        registry.set_alias("digits", "champion", 1, expected=None)
        registry.set_alias("digits", "champion", 3, expected=1)
        registry.set_status("digits", 2, "archived")
        registry.put_deployment("home", {"ü": [1, 2.5, None]}, expected=0)
        registry.evaluations.add("digits", 1, {"accuracy": 0.97})
    return tmp_path


def test_every_change_is_told(home: Path) -> None:
    with Registry.open(home) as registry:
        events = registry.audit_events()
        assert [(e.sequence, e.action, e.subject) for e in events] == [
            (1, "version.register", "digits:1"),
            (2, "version.register", "digits:2"),
            (3, "version.register", "digits:3"),
            (4, "alias.set", "digits@champion"),
            (5, "alias.set", "digits@champion"),
            (6, "version.status", "digits:2"),
            (7, "deployment.put", "home"),
            (8, "evaluation.record", "digits:1"),
        ]
        assert {e.actor for e in events} == {"ada@loom"}
        assert events[4].details == {"from": 1, "to": 3}
        assert [e.sequence for e in registry.audit_events(after=5, limit=2)] == [6, 7]
        assert registry.verify_audit() == 8
        assert registry.audit_head() == (8, events[-1].hash)


def test_the_hash_is_what_the_documentation_says(home: Path) -> None:
    with Registry.open(home) as registry:
        previous = "0" * 64
        for event in registry.audit_events():
            body = {
                "sequence": event.sequence,
                "time": event.time,
                "actor": event.actor,
                "action": event.action,
                "subject": event.subject,
                "details": event.details,
                "previous_hash": previous,
            }
            text = json.dumps(body, sort_keys=True, separators=(",", ":"))
            previous = hashlib.sha256(text.encode()).hexdigest()
            assert event.hash == previous


def rehash_from(connection: sqlite3.Connection, sequence: int) -> None:
    """What somebody would do who changes an event and knows how the chain is made."""
    connection.row_factory = sqlite3.Row
    rows = connection.execute("SELECT * FROM audit_events ORDER BY sequence").fetchall()
    previous = "0" * 64
    for row in rows:
        body = {key: row[key] for key in row.keys() if key != "hash"}  # noqa: SIM118
        body["details"] = json.loads(body["details"])
        if row["sequence"] >= sequence:
            body["previous_hash"] = previous
            text = json.dumps(body, sort_keys=True, separators=(",", ":"))
            digest = hashlib.sha256(text.encode()).hexdigest()
            connection.execute(
                "UPDATE audit_events SET previous_hash=?, hash=? WHERE sequence=?",
                (previous, digest, row["sequence"]),
            )
        else:
            digest = row["hash"]
        previous = digest


@pytest.mark.parametrize(
    ("statement", "first"),
    [
        ("UPDATE audit_events SET actor='eve@loom' WHERE sequence=3", 3),
        ("UPDATE audit_events SET time='2020-01-01' WHERE sequence=1", 1),
        ("UPDATE audit_events SET action='alias.get' WHERE sequence=8", 8),
        ("UPDATE audit_events SET subject='iris' WHERE sequence=2", 2),
        ("""UPDATE audit_events SET details='{"from":1,"to":2}' WHERE sequence=5""", 5),
        ("UPDATE audit_events SET details='{' WHERE sequence=5", 5),
        ("UPDATE audit_events SET hash=previous_hash WHERE sequence=4", 4),
        ("UPDATE audit_events SET previous_hash=hash WHERE sequence=4", 4),
        ("DELETE FROM audit_events WHERE sequence=1", 1),
        ("DELETE FROM audit_events WHERE sequence=4", 4),
        ("DELETE FROM audit_events WHERE sequence=8", 8),
        ("DELETE FROM audit_events", 1),
        ("UPDATE audit_events SET sequence=99 WHERE sequence=8", 8),
        ("UPDATE audit_head SET sequence=7", 9),
        ("DELETE FROM audit_head", 9),
    ],
)
def test_tampering_is_named_at_the_first_event(home: Path, statement: str, first: int) -> None:
    connection = sqlite3.connect(home / "registry.db")
    connection.execute(statement)
    connection.commit()
    connection.close()
    with Registry.open(home) as registry, pytest.raises(StateError) as caught:
        registry.verify_audit()
    assert caught.value.code == "registry.audit-broken"
    assert f"audit event {first} " in caught.value.message


def test_a_rehashed_chain_does_not_end_where_it_did(home: Path) -> None:
    connection = sqlite3.connect(home / "registry.db")
    connection.execute("UPDATE audit_events SET actor='eve@loom' WHERE sequence=3")
    rehash_from(connection, 3)
    connection.commit()
    connection.close()
    with Registry.open(home) as registry, pytest.raises(StateError) as caught:
        registry.verify_audit()
    assert caught.value.code == "registry.audit-broken"
    assert "the registry noted event 8" in caught.value.message
