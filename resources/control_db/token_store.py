"""Tokens in the control database: one table for each realm, all of one shape; a secret is never in it."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Index,
    LargeBinary,
    String,
    Table,
    or_,
    select,
    update,
)

from penstock.access.tokens import USE_NOTED_EVERY, Rank, Realm, Token
from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database, insert_if_new
from resources.control_db.tables import UtcTimestamp, metadata

_FIELDS = [field.name for field in fields(Token)]


def token_table(name: str, roles: type[Rank]) -> Table:
    """Declare the table of a realm's tokens."""
    listed = ", ".join(f"'{role}'" for role in sorted(roles))
    return Table(
        name,
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
        CheckConstraint(f"role IN ({listed})", name="role"),
        Index(f"ix_{name}_tenant_id", "tenant_id"),
    )


class TokenStore(Database):
    """:class:`penstock.ports.tokens.Tokens` in SQL; each realm has a class of its own."""

    realm: ClassVar[Realm]
    roles: ClassVar[type[Rank]]
    table: ClassVar[Table]
    of_all: ClassVar[bool] = False
    """Whether one may be for every tenant."""

    def add_token(self, token: Token, *, act: AuditEntry | None = None) -> bool:
        """Add a token and its act together; False, and nothing done, if its id is taken."""
        row = {**asdict(token), "role": str(token.role)}
        with self._writing() as connection:
            added = insert_if_new(connection, self.table, row)
            if added and act is not None:
                add_act(connection, act)
        return added

    def get_token(self, token_id: str) -> Token | None:
        """Return a token."""
        with self._reading() as connection:
            return self._read(connection, token_id)

    def list_tokens(self, tenant: TenantId | None = None) -> list[Token]:
        """Return tokens of one tenant or of all, oldest first."""
        order = (self.table.c.created_at, self.table.c.token_id)
        query = select(*self._columns()).order_by(*order)
        if tenant is not None:
            query = query.where(self.table.c.tenant_id == tenant)
        with self._reading() as connection:
            return [self._token_of(dict(row)) for row in connection.execute(query).mappings()]

    def revoke_token(
        self, token_id: str, *, by: str, now: datetime, act: AuditEntry | None = None
    ) -> Token | None:
        """Revoke a token and record the act together; one that is revoked stays as it is."""
        table = self.table
        standing = (table.c.token_id == token_id) & table.c.revoked_at.is_(None)
        with self._writing() as connection:
            revoked = connection.execute(
                update(table).where(standing).values(revoked_at=now, revoked_by=by)
            )
            if revoked.rowcount and act is not None:
                add_act(connection, act)
            return self._read(connection, token_id)

    def note_use(self, token_id: str, *, now: datetime) -> bool:
        """Note a use, unless one was noted less than a minute ago."""
        table = self.table
        last = table.c.last_used_at
        due = or_(last.is_(None), last <= now - USE_NOTED_EVERY)
        with self._writing() as connection:
            noted = connection.execute(
                update(table).where(table.c.token_id == token_id, due).values(last_used_at=now)
            )
        return bool(noted.rowcount)

    def _columns(self) -> list[Column[Any]]:
        return [self.table.c[name] for name in _FIELDS]

    def _read(self, connection: Connection, token_id: str) -> Token | None:
        query = select(*self._columns()).where(self.table.c.token_id == token_id)
        row = connection.execute(query).mappings().one_or_none()
        return None if row is None else self._token_of(dict(row))

    def _token_of(self, row: dict[str, Any]) -> Token:
        digest = bytes(row["secret_digest"])
        return Token(**{**row, "role": self.roles(row["role"]), "secret_digest": digest})
