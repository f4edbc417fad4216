"""The trace that a task of a workflow, and a batch on its way to a target, belong to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("workflow_task", "publish_state"):
        op.add_column(table, sa.Column("trace_parent", sa.String(length=55)))
