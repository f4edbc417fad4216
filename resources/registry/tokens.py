"""API tokens in the control database."""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, or_, select, update

from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry
from penstock.registry.access import USE_NOTED_EVERY, Role, Token
from resources.control_db.audit_log import add_act
from resources.control_db.engine import Database, insert_if_new
from resources.registry.token_tables import registry_token

_COLUMNS = [registry_token.c[field.name] for field in fields(Token)]


class SqlTokens(Database):
    """:class:`penstock.ports.tokens.Tokens` in SQL."""

    @classmethod
    def from_engine(cls, engine: Engine) -> SqlTokens:
        """Return tokens on an engine that ``resources.control_db.engine.open_engine`` made."""
        tokens = cls.__new__(cls)
        tokens.engine = engine
        return tokens

    def add_token(self, token: Token, *, act: AuditEntry | None = None) -> bool:
        """Add a token and its act together; False, and nothing done, if its id is taken."""
        row = {**asdict(token), "role": str(token.role)}
        with self._writing() as connection:
            added = insert_if_new(connection, registry_token, row)
            if added and act is not None:
                add_act(connection, act)
        return added

    def get_token(self, token_id: str) -> Token | None:
        """Return a token."""
        with self._reading() as connection:
            return _read(connection, token_id)

    def list_tokens(self, tenant: TenantId | None = None) -> list[Token]:
        """Return tokens of one tenant or of all, oldest first."""
        query = select(*_COLUMNS).order_by(registry_token.c.created_at, registry_token.c.token_id)
        if tenant is not None:
            query = query.where(registry_token.c.tenant_id == tenant)
        with self._reading() as connection:
            return [_token_of(dict(row)) for row in connection.execute(query).mappings()]

    def revoke_token(
        self, token_id: str, *, by: str, now: datetime, act: AuditEntry | None = None
    ) -> Token | None:
        """Revoke a token and record the act together; one that is revoked stays as it is."""
        table = registry_token
        standing = (table.c.token_id == token_id) & table.c.revoked_at.is_(None)
        with self._writing() as connection:
            revoked = connection.execute(
                update(table).where(standing).values(revoked_at=now, revoked_by=by)
            )
            if revoked.rowcount and act is not None:
                add_act(connection, act)
            return _read(connection, token_id)

    def note_use(self, token_id: str, *, now: datetime) -> bool:
        """Note a use, unless one was noted less than a minute ago."""
        table = registry_token
        last = table.c.last_used_at
        due = or_(last.is_(None), last <= now - USE_NOTED_EVERY)
        with self._writing() as connection:
            noted = connection.execute(
                update(table).where(table.c.token_id == token_id, due).values(last_used_at=now)
            )
        return bool(noted.rowcount)


def _read(connection: Connection, token_id: str) -> Token | None:
    query = select(*_COLUMNS).where(registry_token.c.token_id == token_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _token_of(dict(row))


def _token_of(row: dict[str, Any]) -> Token:
    return Token(**{**row, "role": Role(row["role"]), "secret_digest": bytes(row["secret_digest"])})
