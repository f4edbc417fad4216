"""Since when a lane waits for its target's answer, and when the last one came."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from resources.control_db.tables import UtcTimestamp

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("lane", sa.Column("called_at", UtcTimestamp(), nullable=True))
    op.add_column("lane", sa.Column("answered_at", UtcTimestamp(), nullable=True))
