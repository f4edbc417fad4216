"""Who may use the control plane."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "control_token",
        sa.Column("token_id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("expires_at", _MOMENT),
        sa.Column("revoked_at", _MOMENT),
        sa.Column("revoked_by", sa.String(length=255)),
        sa.Column("last_used_at", _MOMENT),
        sa.CheckConstraint(
            "role IN ('admin', 'operator', 'viewer', 'worker')", name=op.f("ck_control_token_role")
        ),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_control_token")),
    )
    op.create_index("ix_control_token_tenant_id", "control_token", ["tenant_id"])
