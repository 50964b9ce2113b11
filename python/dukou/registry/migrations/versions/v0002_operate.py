"""Rollouts, the windows of the monitor, chores that come back."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def upgrade() -> None:
    """Makes the tables."""
    op.create_table(
        "rollouts",
        _integer("id"),
        _text("model"),
        _integer("champion"),
        _integer("challenger"),
        _text("policy"),
        _text("status"),
        _integer("step"),
        *(_text(name) for name in ("evidence", "holder", "held_until", "created", "updated")),
        *(
            sa.ForeignKeyConstraint(
                ["model", which],
                ["versions.model", "versions.number"],
                name=f"fk_rollouts_model_{which}",
            )
            for which in ("champion", "challenger")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
    )
    op.create_table(
        "windows",
        _integer("id"),
        *(_text(name) for name in ("model", "kind", "began", "ended", "document", "created")),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_windows_model"),
        sa.PrimaryKeyConstraint("id", name="pk_windows"),
    )
    op.create_table(
        "chores",
        _integer("id"),
        *(_text(name) for name in ("subject", "name", "outcome", "began", "ended", "document")),
        sa.PrimaryKeyConstraint("id", name="pk_chores"),
    )


def downgrade() -> None:
    """A registry is taken back by restoring a backup."""
    raise NotImplementedError
