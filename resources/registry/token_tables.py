"""The table of the registry's API tokens; a secret is never in it."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, String, Table

from penstock.registry.access import Role
from resources.control_db.tables import UtcTimestamp, metadata

_ROLES = ", ".join(f"'{role}'" for role in sorted(Role))

registry_token = Table(
    "registry_token",
    metadata,
    Column("token_id", String(32), primary_key=True),
    Column("tenant_id", String(63), nullable=False),
    Column("role", String(16), nullable=False),
    Column("name", String(255), nullable=False),
    Column("secret_digest", LargeBinary, nullable=False),
    Column("created_at", UtcTimestamp, nullable=False),
    Column("created_by", String(255), nullable=False),
    Column("expires_at", UtcTimestamp),
    Column("revoked_at", UtcTimestamp),
    Column("revoked_by", String(255)),
    Column("last_used_at", UtcTimestamp),
    CheckConstraint(f"role IN ({_ROLES})", name="role"),
    Index("ix_registry_token_tenant_id", "tenant_id"),
)
