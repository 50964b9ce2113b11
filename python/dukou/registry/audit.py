"""The audit chain: every change leaves an event that holds the hash of the one before it.

An event that is changed, removed, put between others or cut off the end breaks the chain. Whoever
can write the whole file can still forge a whole new chain: note `Registry.audit_head()` elsewhere
from time to time, and compare.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from dukou.base.canonical import dump_canonical
from dukou.base.errors import StateError
from dukou.registry.tables import AUDIT_EVENTS, AUDIT_HEAD

FIRST_HASH = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change of the registry.

    Attributes:
        sequence: 1, 2, 3 …, without gaps.
        time: ISO 8601 in UTC.
        actor: who, as `user@host`.
        action: what, as `alias.set`.
        subject: of what, as `digits@champion`.
        details: what changed, from and to.
        previous_hash: the event's before it; 64 zeros for the first.
        hash: sha256 (hex) over the canonical JSON of all of the above.
    """

    sequence: int
    time: str
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]
    previous_hash: str
    hash: str


def append_event(
    connection: sa.Connection,
    *,
    time: str,
    actor: str,
    action: str,
    subject: str,
    details: Mapping[str, Any],
) -> int:
    """Adds an event to the chain within the transaction of the change; returns its sequence."""
    # The row lock orders writers where the database itself does not (PostgreSQL).
    head = connection.execute(sa.select(AUDIT_HEAD).with_for_update()).one()
    event: dict[str, Any] = {
        "sequence": head.sequence + 1,
        "time": time,
        "actor": actor,
        "action": action,
        "subject": subject,
        "details": dict(details),
        "previous_hash": head.hash,
    }
    digest = _hash(event)
    connection.execute(
        AUDIT_EVENTS.insert().values(
            **{**event, "details": dump_canonical(details).decode()}, hash=digest
        )
    )
    connection.execute(AUDIT_HEAD.update().values(sequence=event["sequence"], hash=digest))
    return int(event["sequence"])


def read_events(connection: sa.Connection, after: int, limit: int) -> list[AuditEvent]:
    """Events in order, from the one behind `after`."""
    rows = connection.execute(
        sa.select(AUDIT_EVENTS)
        .where(AUDIT_EVENTS.c.sequence > after)
        .order_by(AUDIT_EVENTS.c.sequence)
        .limit(limit)
    )
    return [AuditEvent(**{**row._mapping, "details": json.loads(row.details)}) for row in rows]


def verify_chain(connection: sa.Connection) -> int:
    """Walks the whole chain; returns the number of events.

    Raises:
        StateError: `registry.audit-broken`, naming the first event that does not verify.
    """
    sequence, previous = 0, FIRST_HASH
    for row in connection.execute(sa.select(AUDIT_EVENTS).order_by(AUDIT_EVENTS.c.sequence)):
        sequence += 1
        if row.sequence != sequence:
            raise _broken(sequence, f"it is missing; the next one there is {row.sequence}")
        if row.previous_hash != previous:
            raise _broken(
                sequence, f"it follows `{row.previous_hash}`, and the one before is `{previous}`"
            )
        event = {key: value for key, value in row._mapping.items() if key != "hash"}
        try:
            event["details"] = json.loads(row.details)
        except ValueError:
            raise _broken(sequence, "its details are not JSON") from None
        digest = _hash(event)
        if row.hash != digest:
            raise _broken(sequence, f"it says hash `{row.hash}`, and its content gives `{digest}`")
        previous = digest
    head = connection.execute(sa.select(AUDIT_HEAD)).one_or_none()
    if head is None or (head.sequence, head.hash) != (sequence, previous):
        said = "no end" if head is None else f"event {head.sequence} with hash `{head.hash}`"
        raise _broken(
            sequence + 1, f"the chain ends with event {sequence}, and the registry noted {said}"
        )
    return sequence


def _hash(event: Mapping[str, Any]) -> str:
    return hashlib.sha256(dump_canonical(event)).hexdigest()


def _broken(sequence: int, what: str) -> StateError:
    return StateError("registry.audit-broken", f"audit event {sequence} does not verify: {what}")
