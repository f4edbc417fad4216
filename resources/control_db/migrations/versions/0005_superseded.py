"""What a newer batch decided about before it was released: a column of the ledger."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "publish_ledger",
        sa.Column("superseded", sa.BigInteger(), server_default="0", nullable=False),
    )
