"""Alembic's entry: applies the steps on the connection, and in the transaction, that it is given."""

from __future__ import annotations

from alembic import context

from dukou.registry.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite can take back DDL too: a migration that is killed leaves the registry as it was.
    transactional_ddl=True,
)
context.run_migrations()
