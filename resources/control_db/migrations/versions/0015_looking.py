"""Indexes for what operators look at all the time: what is held, and the dead letters of a status."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    held = sa.text("held > 0")
    op.create_index(
        "ix_publish_state_held",
        "publish_state",
        ["status", "source_timestamp"],
        postgresql_where=held,
        sqlite_where=held,
    )
    op.create_index("ix_dead_letter_status_recorded_at", "dead_letter", ["status", "recorded_at"])
