"""The registry: its event log, its projections, and the fence of targets that live in this database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "registry_event",
        sa.Column(
            "position",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("operation_id", sa.LargeBinary(), nullable=False),
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("type_name", sa.String(length=127), nullable=False),
        sa.Column("key", _KEY, nullable=False),
        sa.Column("to_key", _KEY, nullable=True),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=True),
        sa.Column("before_digest", sa.LargeBinary(), nullable=True),
        sa.Column("after_digest", sa.LargeBinary(), nullable=True),
        sa.Column("batch_id", sa.String(length=127), nullable=False),
        sa.Column("plan_digest", sa.String(length=32), nullable=False),
        sa.Column("fencing_token", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("position", name=op.f("pk_registry_event")),
    )
    op.create_index(
        "ux_registry_event_operation_id", "registry_event", ["operation_id"], unique=True
    )
    _projection("registry_entity", [])
    _projection("registry_relationship", [sa.Column("to_key", _KEY, nullable=False)])
    op.create_index(
        "ix_registry_relationship_source_id_to_key",
        "registry_relationship",
        ["source_id", "to_key"],
    )
    op.create_table(
        "target_fence",
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("target_id", sa.String(length=63), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("source_id", "target_id", name=op.f("pk_target_fence")),
    )


def _projection(name: str, ends: list[sa.Column[str]]) -> None:
    op.create_table(
        name,
        sa.Column("source_id", sa.String(length=63), nullable=False),
        sa.Column("type_name", sa.String(length=127), nullable=False),
        sa.Column("key", _KEY, nullable=False),
        *ends,
        sa.Column("tenant_id", sa.String(length=63), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("operation_id", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint(
            "source_id", "type_name", "key", *[end.name for end in ends], name=op.f(f"pk_{name}")
        ),
    )
