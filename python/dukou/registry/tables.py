"""The registry's tables, as they stand after the last migration; a test proves the two equal.

Documents and times are text: canonical JSON and ISO 8601 in UTC, so that what is hashed is what is
stored, on SQLite and PostgreSQL alike.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

METADATA = MetaData(
    naming_convention={
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


MODELS = Table("models", METADATA, Column("name", Text, primary_key=True), _text("created"))

VERSIONS = Table(
    "versions",
    METADATA,
    Column("model", Text, ForeignKey("models.name"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    _text("digest"),
    _text("variant"),
    _text("metrics"),
    _text("created"),
    _text("status"),
    UniqueConstraint("model", "digest"),
)

ALIASES = Table(
    "aliases",
    METADATA,
    Column("model", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    _text("updated"),
    ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
)

# Every revision is kept: what was served yesterday can be read, and served again.
DEPLOYMENTS = Table(
    "deployments",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
    _text("document"),
    _text("created"),
)

EVALUATIONS = Table(
    "evaluations",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("model", Text, nullable=False),
    Column("number", Integer, nullable=False),
    _text("document"),
    _text("created"),
    ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
)

# One row a rollout; at most one of a model is `running`. `policy` is what it was started with, `evidence`
# what was counted so far; `holder` is the server whose counters feed it, until `held_until`.
ROLLOUTS = Table(
    "rollouts",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("model"),
    Column("champion", Integer, nullable=False),
    Column("challenger", Integer, nullable=False),
    _text("policy"),
    _text("status"),
    Column("step", Integer, nullable=False),
    _text("evidence"),
    _text("holder"),
    _text("held_until"),
    _text("created"),
    _text("updated"),
    ForeignKeyConstraint(["model", "champion"], ["versions.model", "versions.number"]),
    ForeignKeyConstraint(["model", "challenger"], ["versions.model", "versions.number"]),
)

# What the monitor found in a window of time: `kind` is `drift` or `quality`.
WINDOWS = Table(
    "windows",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("model", Text, ForeignKey("models.name"), nullable=False),
    _text("kind"),
    _text("began"),
    _text("ended"),
    _text("document"),
    _text("created"),
)

# Work that comes back, each time that it was done: `name` is `retrain`, `backup-drill` and so on.
CHORES = Table(
    "chores",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("subject"),
    _text("name"),
    _text("outcome"),
    _text("began"),
    _text("ended"),
    _text("document"),
)

# What servers that are told to serve the same call what they serve now: `content` is its digest.
REVISIONS = Table(
    "revisions",
    METADATA,
    Column("subject", Text, primary_key=True),
    Column("number", Integer, nullable=False),
    _text("content"),
    _text("changed"),
)

AUDIT_EVENTS = Table(
    "audit_events",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=False),
    _text("time"),
    _text("actor"),
    _text("action"),
    _text("subject"),
    _text("details"),
    _text("previous_hash"),
    _text("hash"),
)

# One row: where the chain ends. Without it, events cut off the end would not be missed.
AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", Integer, nullable=False),
    _text("hash"),
)
