"""Run by Alembic: migrates over the connection that ``exchange.store.migrate`` hands in."""

from __future__ import annotations

from alembic import context

from exchange.store.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
# No begin of its own: the caller's transaction holds the lock and ends it.
context.run_migrations()
