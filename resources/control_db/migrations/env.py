"""Runs migrations on the connection that :func:`resources.control_db.schema.upgrade` hands over.

To write a new one, see ``README.md`` beside this file.
"""

from __future__ import annotations

from alembic import context

from resources.control_db.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=False,
    # The caller holds the lock and the transaction, so that all migrations are applied or none is.
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
