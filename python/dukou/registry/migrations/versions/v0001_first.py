"""Models, versions, aliases, deployments, evaluations and the audit chain."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _of_version(table: str) -> tuple[sa.Column[str], sa.Column[int], sa.ForeignKeyConstraint]:
    return (
        _text("model"),
        _integer("number"),
        sa.ForeignKeyConstraint(
            ["model", "number"],
            ["versions.model", "versions.number"],
            name=f"fk_{table}_model_number",
        ),
    )


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "models",
        _text("name"),
        _text("created"),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "versions",
        _text("model"),
        _integer("number"),
        *(_text(name) for name in ("digest", "variant", "metrics", "created", "status")),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_versions_model"),
        sa.PrimaryKeyConstraint("model", "number", name="pk_versions"),
        sa.UniqueConstraint("model", "digest", name="uq_versions_model_digest"),
    )
    op.create_table(
        "aliases",
        *_of_version("aliases"),
        _text("name"),
        _text("updated"),
        sa.PrimaryKeyConstraint("model", "name", name="pk_aliases"),
    )
    op.create_table(
        "deployments",
        _text("name"),
        _integer("revision"),
        _text("document"),
        _text("created"),
        sa.PrimaryKeyConstraint("name", "revision", name="pk_deployments"),
    )
    op.create_table(
        "evaluations",
        _integer("id"),
        *_of_version("evaluations"),
        _text("document"),
        _text("created"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_table(
        "audit_events",
        sa.Column("sequence", sa.Integer, nullable=False, autoincrement=False),
        *(
            _text(name)
            for name in ("time", "actor", "action", "subject", "details", "previous_hash", "hash")
        ),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit_events"),
    )
    head = op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        _integer("sequence"),
        _text("hash"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_head"),
    )
    # The chain begins with 64 zeros: dukou.registry.audit.FIRST_HASH.
    op.bulk_insert(head, [{"id": 1, "sequence": 0, "hash": "0" * 64}])


def downgrade() -> None:
    """There is nothing before the first step; a registry is taken back by restoring a backup."""
    raise NotImplementedError
